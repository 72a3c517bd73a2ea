//! The Isthmus filter as an Envoy filter config (ECDS): where its code lies, and its config in the model's own types.

use std::collections::BTreeMap;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            AsyncDataSource, DataSource, TypedExtensionConfig, async_data_source, data_source,
        },
        extensions::{
            filters::http::wasm::v3::Wasm,
            wasm::v3::{FailurePolicy, PluginConfig, VmConfig, plugin_config},
        },
    },
    google::protobuf::StringValue,
};
use isthmus_model::{
    Limit, RegionName, ServiceName,
    config::{Mode, RawConfig, RawService},
};
use prost::Name;

use super::{Settings, encode::any, node::NodeKind};
use crate::record::Service;

/// Its name as a filter and as an ECDS resource.
pub(super) const FILTER: &str = "isthmus";

/// Type URL of its config in Envoy.
pub(super) fn type_url() -> String {
    Wasm::type_url()
}

/// The rules of a service that has any.
pub(super) fn rules(service: &Service) -> Option<RawService> {
    let rules = RawService {
        allow: service
            .access
            .as_ref()
            .map(|allow| allow.iter().map(ToString::to_string).collect()),
        allow_pins: service.allow_version_pins,
        limits: service.rate_limits.iter().map(Limit::to_raw).collect(),
    };
    (rules != RawService::default()).then_some(rules)
}

/// The filter's config for a node whose callers are `caller`.
pub(super) fn config<'a>(
    kind: NodeKind,
    caller: Option<&ServiceName>,
    regions: &[RegionName],
    rules: impl Iterator<Item = (&'a ServiceName, &'a RawService)>,
    settings: &Settings,
) -> RawConfig {
    let gateway = kind == NodeKind::Gateway;
    let mut config = RawConfig {
        version: String::new(),
        mode: if gateway {
            Mode::Gateway
        } else {
            Mode::Outbound
        },
        region: settings.region.to_string(),
        regions: regions.iter().map(ToString::to_string).collect(),
        default_region: settings.default_region.clone().filter(|_| !gateway),
        caller: caller
            .filter(|_| !gateway)
            .map(|service| format!("{}/{service}", settings.region)),
        trust_domain: Some(settings.trust_domain.clone()),
        debug: settings.debug,
        headers: (*settings.headers).clone(),
        services: rules
            .map(|(name, rules)| (name.to_string(), rules.clone()))
            .collect::<BTreeMap<_, _>>(),
    };
    // Names the config in receipts. A hash, so that every EMS of a region says the same.
    let hash = xxhash_rust::xxh3::xxh3_64(to_json(&config).as_bytes());
    config.version = format!("{hash:016x}");
    config
}

/// The config as the filter reads it.
pub(super) fn to_json(config: &RawConfig) -> String {
    // Maps with text keys, texts, lists and flags: nothing that JSON cannot say. An empty config is one that the
    // filter refuses, and the one before stays in force.
    serde_json::to_string(config).unwrap_or_default()
}

/// The ECDS resource, for nodes that have the code in this file.
pub(super) fn extension(file: &str, config: &RawConfig) -> TypedExtensionConfig {
    let code = DataSource {
        specifier: Some(data_source::Specifier::Filename(file.to_owned())),
        ..Default::default()
    };
    let wasm = Wasm {
        config: Some(PluginConfig {
            name: FILTER.to_owned(),
            root_id: FILTER.to_owned(),
            vm: Some(plugin_config::Vm::VmConfig(VmConfig {
                vm_id: FILTER.to_owned(),
                runtime: "envoy.wasm.runtime.v8".to_owned(),
                code: Some(AsyncDataSource {
                    specifier: Some(async_data_source::Specifier::Local(code)),
                }),
                ..Default::default()
            })),
            configuration: Some(any(&StringValue {
                value: to_json(config),
            })),
            // A filter that crashed lets nothing through and is started again.
            failure_policy: FailurePolicy::FailReload.into(),
            ..Default::default()
        }),
    };
    TypedExtensionConfig {
        name: FILTER.to_owned(),
        typed_config: Some(any(&wasm)),
    }
}
