//! Endpoints as Envoy's load assignments: zones are localities, regions behind gateways are priorities.
//!
//! Pure: the same records give the same bytes, in whatever order they come.

use std::{collections::BTreeMap, sync::Arc};

use envoy_types::pb::envoy::config::{
    core::v3::{HealthStatus, Locality},
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
        cluster_load_assignment::Policy as AssignmentPolicy, endpoint::HealthCheckConfig,
        lb_endpoint::HostIdentifier,
    },
};
use isthmus_model::RegionName;

use super::encode::{metadata, socket_address, text_struct, u32_value};
use crate::{
    record::{Address, Endpoint, Host, Region},
    registry::EndpointEntry,
};

/// Where Envoy looks for what picks a transport socket.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// The field of an endpoint's metadata that holds the region it leads to.
pub(super) const REGION_FIELD: &str = "region";

/// Local endpoints at the first priority, a locality for each zone.
pub(super) fn local(
    endpoints: &[Arc<EndpointEntry>],
    region: &RegionName,
) -> Vec<LocalityLbEndpoints> {
    let mut zones: BTreeMap<&str, Vec<LbEndpoint>> = BTreeMap::new();
    for one in endpoints.iter().map(|entry| &entry.checked) {
        let zone = one.zone.as_deref().unwrap_or_default();
        zones.entry(zone).or_default().push(endpoint(one));
    }
    zones
        .into_iter()
        .map(|(zone, lb_endpoints)| LocalityLbEndpoints {
            locality: Some(locality(region, zone)),
            lb_endpoints,
            ..Default::default()
        })
        .collect()
}

/// The gateways of another region at one priority.
pub(super) fn gateways(region: &Region, priority: u32) -> LocalityLbEndpoints {
    let mut addresses: Vec<&Address> = region.gateways.iter().collect();
    addresses.sort();
    addresses.dedup();
    LocalityLbEndpoints {
        locality: Some(locality(&region.name, "")),
        lb_endpoints: addresses
            .into_iter()
            .map(|address| LbEndpoint {
                metadata: metadata(
                    SOCKET_MATCH,
                    text_struct(REGION_FIELD, region.name.as_str()),
                ),
                host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
                    address: socket_address(address),
                    // A gateway answers for many services; what probes one of them says nothing of it.
                    health_check_config: Some(HealthCheckConfig {
                        disable_active_health_check: true,
                        ..Default::default()
                    }),
                    ..Default::default()
                })),
                ..Default::default()
            })
            .collect(),
        priority,
        ..Default::default()
    }
}

/// How much more than its share a healthy host is taken to bear, in per cent. Envoy's usual 140 sends requests on to the
/// next priority once less than 72 % of one are healthy; here one healthy host in a thousand still keeps them.
const OVERPROVISIONING: u32 = 100_000;

/// A load assignment.
pub(super) fn assignment(name: &str, endpoints: Vec<LocalityLbEndpoints>) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints,
        policy: Some(AssignmentPolicy {
            overprovisioning_factor: u32_value(OVERPROVISIONING),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Where the callers of a region's services are thought to run: as many as `zones` says in each. Envoy needs it to know
/// how much of the load of its own zone the endpoints there can take; it never connects to these.
pub(super) fn callers(
    name: &str,
    region: &RegionName,
    zones: &BTreeMap<String, usize>,
) -> ClusterLoadAssignment {
    let mut port = 0;
    let endpoints = zones
        .iter()
        .map(|(zone, &count)| LocalityLbEndpoints {
            locality: Some(locality(region, zone)),
            lb_endpoints: (0..count)
                .map_while(|_| {
                    port = u16::checked_add(port, 1)?;
                    let address = Address {
                        host: Host::Ip(std::net::Ipv4Addr::LOCALHOST.into()),
                        port,
                    };
                    Some(LbEndpoint {
                        host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
                            address: socket_address(&address),
                            ..Default::default()
                        })),
                        ..Default::default()
                    })
                })
                .collect(),
            ..Default::default()
        })
        .collect();
    assignment(name, endpoints)
}

fn endpoint(endpoint: &Endpoint) -> LbEndpoint {
    LbEndpoint {
        health_status: if endpoint.draining {
            HealthStatus::Draining.into()
        } else {
            HealthStatus::Unknown.into()
        },
        load_balancing_weight: u32_value(endpoint.weight),
        host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
            address: socket_address(&endpoint.address),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn locality(region: &RegionName, zone: &str) -> Locality {
    Locality {
        region: region.to_string(),
        zone: zone.to_owned(),
        sub_zone: String::new(),
    }
}
