//! A service's policy in Envoy's words. Every value has a line in `docs/policy.md`.
//!
//! Pure; knows nothing of where endpoints are.

use std::time::Duration;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            CircuitBreakers, OutlierDetection,
            circuit_breakers::Thresholds,
            cluster::{
                CommonLbConfig, LbPolicy,
                common_lb_config::{LocalityConfigSpecifier, ZoneAwareLbConfig},
            },
        },
        core::v3::{
            HealthCheck, Http1ProtocolOptions, Http2ProtocolOptions,
            HttpProtocolOptions as CommonOptions, KeepaliveSettings, RoutingPriority,
            health_check::{GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck},
        },
        route::v3::{
            RetryPolicy,
            retry_policy::{
                RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
            },
            route_action::{
                HashPolicy,
                hash_policy::{ConnectionProperties, Cookie, Header, PolicySpecifier},
            },
        },
    },
    extensions::{
        retry::{
            host::previous_hosts::v3::PreviousHostsPredicate,
            priority::previous_priorities::v3::PreviousPrioritiesConfig,
        },
        upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                explicit_http_config::ProtocolConfig,
            },
        },
    },
    r#type::v3::{CodecClientType, Percent},
};

use isthmus_model::refusal::Code;

use super::encode::{any, bool_value, duration, u32_value, u64_value};
use crate::record::{self, HashKey, LoadBalancing, Policy, Probe, Protocol};

/// How a quiet upstream connection is told from a dead one: a new request on one that was silent for the first time
/// brings a ping with it, and is lost with the connection if no answer comes. Where nobody sends anything, nobody asks: so even
/// a short time costs at most a ping a second for a connection, and only while it is used and nothing comes back.
/// Between regions links can drop packets without a word; within one that is rare.
fn keepalive(reach: Reach) -> KeepaliveSettings {
    let (silent, answer) = match reach {
        Reach::Endpoints => (30, 10),
        Reach::Gateways | Reach::Any { .. } => (1, 3),
    };
    KeepaliveSettings {
        connection_idle_interval: duration(Duration::from_secs(silent)),
        timeout: duration(Duration::from_secs(answer)),
        ..Default::default()
    }
}

/// How many attempts of a request stay in one region before `any` goes on: an endpoint that just left is no reason to
/// leave the region.
const ATTEMPTS_PER_REGION: u32 = 2;

/// What a cluster's endpoints are, as far as policy depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Processes of the service.
    Endpoints,
    /// Gateways of one region.
    Gateways,
    /// Both, as so many priorities.
    Any {
        /// How many.
        priorities: u32,
    },
}

/// The extension options of a cluster.
pub(super) fn http_options(
    policy: &Policy,
    reach: Reach,
    error_header: &str,
) -> HttpProtocolOptions {
    HttpProtocolOptions {
        common_http_protocol_options: Some(CommonOptions {
            max_stream_duration: policy.max_stream_duration.and_then(duration),
            ..Default::default()
        }),
        upstream_protocol_options: Some(protocol(policy.protocol, reach)),
        retry_policy: retry_policy(policy, reach, error_header),
        hash_policy: policy.hash.iter().map(hash_policy).collect(),
        ..Default::default()
    }
}

/// The protocol of a connection. Towards a gateway a request keeps the protocol it came with, unless the service is
/// known to speak HTTP/2: were everything put on HTTP/2 here, the gateway could not tell what the caller spoke, and a
/// service that speaks HTTP/1.1 only would be out of reach from other regions.
fn protocol(protocol: Protocol, reach: Reach) -> UpstreamProtocolOptions {
    let http2 = Http2ProtocolOptions {
        connection_keepalive: Some(keepalive(reach)),
        // One bad message ends its stream and not the connection that others share.
        override_stream_error_on_invalid_http_message: bool_value(true),
        ..Default::default()
    };
    let explicit = |protocol| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(protocol),
        })
    };
    match (protocol, reach) {
        (Protocol::Http2 | Protocol::Grpc, _) => {
            explicit(ProtocolConfig::Http2ProtocolOptions(http2))
        }
        (Protocol::Http1, Reach::Endpoints | Reach::Any { .. }) => explicit(
            ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        ),
        (Protocol::Auto, _) | (Protocol::Http1, Reach::Gateways) => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(http2),
                http3_protocol_options: None,
            })
        }
    }
}

/// Whether health checks and the like must speak HTTP/2.
fn speaks_http2(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Http2 | Protocol::Grpc)
}

fn retry_policy(policy: &Policy, reach: Reach, error_header: &str) -> Option<RetryPolicy> {
    let retries = &policy.retries;
    let mut on: Vec<&str> = retries.on.iter().map(String::as_str).collect();
    let mut attempts = retries.attempts;
    let mut retriable_headers = Vec::new();
    let mut retry_priority = None;
    if let Reach::Any { priorities } = reach
        && priorities > 1
    {
        if attempts == 0 {
            // Retries are off; going on to the next region is none where nobody has seen the request.
            on = vec!["connect-failure"];
        }
        on.push("retriable-headers");
        // Enough to come to the last region.
        attempts = attempts.max(ATTEMPTS_PER_REGION.saturating_mul(priorities - 1));
        retriable_headers = [Code::UnknownService, Code::NoHealthyEndpoint]
            .map(|code| super::replies::header_is(error_header, code.as_str()))
            .into();
        retry_priority = Some(RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".to_owned(),
            config_type: Some(retry_priority::ConfigType::TypedConfig(any(
                &PreviousPrioritiesConfig {
                    update_frequency: ATTEMPTS_PER_REGION.cast_signed(),
                },
            ))),
        });
    }
    if attempts == 0 || on.is_empty() {
        return None;
    }
    Some(RetryPolicy {
        retry_on: on.join(","),
        num_retries: u32_value(attempts),
        per_try_timeout: retries.per_try_timeout.and_then(duration),
        retriable_headers,
        retry_priority,
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(
                &PreviousHostsPredicate {},
            ))),
        }],
        host_selection_retry_max_attempts: 5,
        ..Default::default()
    })
}

pub(super) fn hash_policy(key: &HashKey) -> HashPolicy {
    HashPolicy {
        policy_specifier: Some(match key {
            HashKey::Header(name) => PolicySpecifier::Header(Header {
                header_name: name.clone(),
                ..Default::default()
            }),
            HashKey::Cookie(name) => PolicySpecifier::Cookie(Cookie {
                name: name.clone(),
                ..Default::default()
            }),
            HashKey::SourceIp => {
                PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
            }
        }),
        // The first key that a request has decides; the rest are for requests that lack it.
        terminal: true,
    }
}

pub(super) fn circuit_breakers(limits: &record::CircuitBreakers) -> Option<CircuitBreakers> {
    let some = |limit: Option<u32>| limit.and_then(u32_value);
    (*limits != record::CircuitBreakers::default()).then(|| CircuitBreakers {
        thresholds: vec![Thresholds {
            priority: RoutingPriority::Default.into(),
            max_connections: some(limits.max_connections),
            max_pending_requests: some(limits.max_pending_requests),
            max_requests: some(limits.max_requests),
            max_retries: some(limits.max_retries),
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// When endpoints are ejected. Towards one region only failures to reach its gateways count: a 5xx there is the service's,
/// and with the gateways the whole region would be gone for it. In `any`, where Envoy has one rule for local endpoints
/// and gateways alike, answers count for both: a region that fails again and again is passed over, as there are others.
/// Only errors in a row eject; Envoy's own success-rate rule, on unless told otherwise, is off.
pub(super) fn outlier_detection(policy: &Policy, reach: Reach) -> Option<OutlierDetection> {
    let rule = policy.outlier_detection.as_ref()?;
    let responses = if reach == Reach::Gateways { 0 } else { 100 };
    Some(OutlierDetection {
        consecutive_5xx: u32_value(rule.consecutive_errors),
        enforcing_consecutive_5xx: u32_value(responses),
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: u32_value(rule.consecutive_errors),
        enforcing_consecutive_local_origin_failure: u32_value(100),
        interval: duration(rule.interval),
        base_ejection_time: duration(rule.base_ejection_time),
        max_ejection_percent: u32_value(rule.max_ejection_percent),
        enforcing_success_rate: u32_value(0),
        enforcing_local_origin_success_rate: u32_value(0),
        enforcing_consecutive_gateway_failure: u32_value(0),
        enforcing_failure_percentage: u32_value(0),
        ..Default::default()
    })
}

pub(super) fn health_check(policy: &Policy) -> Option<HealthCheck> {
    let check = policy.health_check.as_ref()?;
    let checker = match &check.probe {
        Probe::Http { path, host } => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host: host.clone(),
            path: path.clone(),
            codec_client_type: if speaks_http2(policy.protocol) {
                CodecClientType::Http2.into()
            } else {
                CodecClientType::Http1.into()
            },
            ..Default::default()
        }),
        Probe::Grpc { service } => HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: service.clone(),
            ..Default::default()
        }),
        Probe::Tcp => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
    };
    Some(HealthCheck {
        interval: duration(check.interval),
        timeout: duration(check.timeout),
        unhealthy_threshold: u32_value(check.unhealthy_threshold),
        healthy_threshold: u32_value(check.healthy_threshold),
        // Envoy checks a cluster without traffic once a minute unless told otherwise, and its first requests would
        // meet what was true a minute ago.
        no_traffic_interval: duration(check.interval),
        interval_jitter_percent: 10,
        health_checker: Some(checker),
        ..Default::default()
    })
}

/// How an endpoint is picked.
pub(super) fn lb_policy(policy: &Policy) -> LbPolicy {
    match policy.load_balancing {
        LoadBalancing::LeastRequest => LbPolicy::LeastRequest,
        LoadBalancing::RoundRobin => LbPolicy::RoundRobin,
        LoadBalancing::Random => LbPolicy::Random,
        LoadBalancing::RingHash => LbPolicy::RingHash,
        LoadBalancing::Maglev => LbPolicy::Maglev,
    }
}

/// What all clusters have in common about picking.
pub(super) fn common_lb(policy: &Policy) -> CommonLbConfig {
    // Hashing must give the same endpoint from every zone, and Envoy accepts no zones there.
    let hashes = matches!(
        policy.load_balancing,
        LoadBalancing::RingHash | LoadBalancing::Maglev
    );
    let zones = match policy.zone_min_cluster_size {
        Some(size) if !hashes => Some(ZoneAwareLbConfig {
            min_cluster_size: u64_value(u64::from(size)),
            ..Default::default()
        }),
        None if !hashes => Some(ZoneAwareLbConfig {
            routing_enabled: Some(Percent { value: 0.0 }),
            ..Default::default()
        }),
        _ => None,
    };
    CommonLbConfig {
        // Envoy's panic mode would send requests to endpoints that drain or fail their checks; here callers are told
        // `no_healthy_endpoint`, and `any` moves on to the next region.
        healthy_panic_threshold: Some(Percent { value: 0.0 }),
        // A drain has to count at once and not after Envoy's usual second; changes within this time merge.
        update_merge_window: duration(Duration::from_millis(100)),
        // New endpoints wait for their first check, so that a rollout fails no request.
        ignore_new_hosts_until_first_hc: true,
        locality_config_specifier: zones.map(LocalityConfigSpecifier::ZoneAwareLbConfig),
        ..Default::default()
    }
}
