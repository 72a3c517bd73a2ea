//! Small words for building Envoy's messages: wrappers, durations, `Any`s and where xDS comes from.
//!
//! Knows nothing of services or regions.

use std::{collections::HashMap, time::Duration};

use envoy_types::pb::{
    envoy::config::core::v3::{
        Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, Metadata,
        SocketAddress, TransportSocket, address, config_source::ConfigSourceSpecifier, data_source,
        socket_address, transport_socket,
    },
    google::protobuf::{
        self, Any, BoolValue, Struct, UInt32Value, UInt64Value, Value, value::Kind,
    },
};
use prost::{Message, Name};

use crate::record::{self, Host};

/// The cluster of EMS in every bootstrap.
pub(super) const EMS: &str = "ems";

/// A message as an `Any`.
pub(super) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

pub(super) fn u32_value(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn u64_value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

pub(super) fn bool_value(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// Durations past what the schema can say are as good as no limit, so they saturate.
pub(super) fn duration(value: Duration) -> Option<protobuf::Duration> {
    Some(protobuf::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    })
}

/// "From the stream this came by". An on-demand cluster must not hold requests back for Envoy's usual 15 s, so every
/// fetch has the same shorter limit.
pub(super) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        initial_fetch_timeout: duration(Duration::from_secs(5)),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    })
}

pub(super) fn inline(text: impl Into<String>) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.into())),
        ..Default::default()
    })
}

pub(super) fn inline_bytes(bytes: impl Into<Vec<u8>>) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(bytes.into())),
        ..Default::default()
    })
}

/// A socket address as Envoy wants it.
pub(super) fn socket_address(address: &record::Address) -> Option<Address> {
    let host = match &address.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Dns(name) => name.to_string(),
    };
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host,
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(
                address.port,
            ))),
            ..Default::default()
        })),
    })
}

pub(super) fn transport_socket<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(config))),
    }
}

/// A struct of one text field. One only: a map of several would be encoded in any order, and its hash with it.
pub(super) fn text_struct(key: &str, text: &str) -> Struct {
    let value = Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    Struct {
        fields: [(key.to_owned(), value)].into_iter().collect(),
    }
}

pub(super) fn metadata(namespace: &str, content: Struct) -> Option<Metadata> {
    Some(Metadata {
        filter_metadata: HashMap::from([(namespace.to_owned(), content)]),
        ..Default::default()
    })
}
