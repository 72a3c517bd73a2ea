//! Listeners, clusters and endpoints as gRPC's libraries take them. They know less than Envoy, and reject a resource with
//! a value that they do not know; what they pass over is left out, so that nobody takes it for being in force.
//!
//! Pure: records in, messages out.

use std::{collections::BTreeMap, sync::Arc};

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster, LoadBalancingPolicy,
            cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy},
            load_balancing_policy,
        },
        core::v3::{Locality, TypedExtensionConfig},
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
            cluster_load_assignment::{Policy as AssignmentPolicy, policy::DropOverload},
            lb_endpoint::HostIdentifier,
        },
        listener::v3::{ApiListener, Listener},
        route::v3::{
            RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
            route::Action,
            route_action::{ClusterSpecifier, MaxStreamDuration},
            route_match::PathSpecifier,
        },
    },
    extensions::{
        filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier,
                http_filter,
            },
        },
        load_balancing_policies::{
            least_request::v3::LeastRequest, round_robin::v3::RoundRobin,
            wrr_locality::v3::WrrLocality,
        },
    },
    r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
};
use isthmus_model::RegionName;
use prost::{Message, Name};

use crate::{
    record::{Address, Endpoint, HashKey, Host, LoadBalancing, Policy, Retries},
    registry::EndpointEntry,
    resources::{
        encode::{ads, any, duration, socket_address, u32_value},
        policy::{circuit_breakers, hash_policy},
    },
};

/// The gRPC statuses after which gRPC's libraries can try again. Envoy's other conditions are about connections, and
/// libraries repeat what never left them by themselves.
const RETRIABLE: [&str; 5] = [
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// The listener of a name: everything goes to one cluster. The route is inside, so that a client has one answer less to
/// wait for, and none that could be missing. `policy` is that of the service, if there is a way to it.
pub(super) fn listener(name: &str, cluster: &str, policy: Option<&Policy>) -> Listener {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        retry_policy: policy.and_then(|policy| retry_policy(&policy.retries)),
        hash_policy: policy
            .map(|policy| &*policy.hash)
            .unwrap_or_default()
            .iter()
            .filter(|key| matches!(key, HashKey::Header(_)))
            .map(hash_policy)
            .collect(),
        max_stream_duration: policy
            .and_then(|policy| policy.max_stream_duration)
            .map(|limit| MaxStreamDuration {
                max_stream_duration: duration(limit),
                ..Default::default()
            }),
        ..Default::default()
    };
    let routes = RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: name.to_owned(),
            // Whatever authority the program sets: the listener was chosen by its target.
            domains: vec!["*".to_owned()],
            routes: vec![Route {
                r#match: Some(RouteMatch {
                    path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                    ..Default::default()
                }),
                action: Some(Action::Route(action)),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: "grpc".to_owned(),
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(
                any(&Router::default()),
            )),
            ..Default::default()
        }],
        ..Default::default()
    };
    Listener {
        name: name.to_owned(),
        api_listener: Some(ApiListener {
            api_listener: Some(any(&manager)),
        }),
        ..Default::default()
    }
}

fn retry_policy(retries: &Retries) -> Option<RetryPolicy> {
    let on: Vec<_> = RETRIABLE
        .into_iter()
        .filter(|code| retries.on.iter().any(|on| on == code))
        .collect();
    (retries.attempts > 0 && !on.is_empty()).then(|| RetryPolicy {
        retry_on: on.join(","),
        num_retries: u32_value(retries.attempts),
        ..Default::default()
    })
}

/// A cluster with nothing but its endpoints.
pub(super) fn plain(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: String::new(),
        }),
        lb_policy: LbPolicy::RoundRobin.into(),
        ..Default::default()
    }
}

/// Endpoints that answer every request with `why`, as `UNAVAILABLE`.
pub(super) fn refusing(name: &str, why: &str) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        policy: Some(AssignmentPolicy {
            drop_overloads: vec![DropOverload {
                category: why.to_owned(),
                drop_percentage: Some(FractionalPercent {
                    numerator: 100,
                    denominator: DenominatorType::Hundred.into(),
                }),
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The cluster and the endpoints of a service.
pub(super) fn service(
    name: &str,
    policy: &Policy,
    endpoints: &[Arc<EndpointEntry>],
    region: &RegionName,
) -> (Cluster, ClusterLoadAssignment) {
    let mut cluster = Cluster {
        circuit_breakers: circuit_breakers(&policy.circuit_breakers),
        ..plain(name)
    };
    let hashes = balance(&mut cluster, policy.load_balancing);
    // A draining endpoint takes no new requests; those under way keep their connection until they end.
    let mut members: Vec<&Endpoint> = endpoints
        .iter()
        .map(|entry| &entry.checked)
        .filter(|endpoint| !endpoint.draining)
        .collect();
    members.sort_by(|a, b| (&a.address, &a.id).cmp(&(&b.address, &b.id)));
    // gRPC rejects an address that is there twice.
    members.dedup_by(|a, b| a.address == b.address);
    let (numbers, names): (Vec<_>, Vec<_>) = members
        .into_iter()
        .partition(|endpoint| matches!(endpoint.address.host, Host::Ip(_)));
    let assignment = match (&*numbers, &*names) {
        // gRPC resolves one name of a cluster, and no more; where there are addresses, these take the requests.
        ([], [only]) => {
            let type_ = DiscoveryType::LogicalDns.into();
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(type_));
            cluster.eds_cluster_config = None;
            cluster.load_assignment = Some(ClusterLoadAssignment {
                cluster_name: name.to_owned(),
                endpoints: vec![locality(region, "", 1, vec![member(&only.address, 1)])],
                ..Default::default()
            });
            ClusterLoadAssignment {
                cluster_name: name.to_owned(),
                ..Default::default()
            }
        }
        ([], [_, _, ..]) => refusing(
            name,
            &format!(
                "{name} has several endpoints that are names, and gRPC without Envoy can resolve only one: register addresses"
            ),
        ),
        _ => ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: if hashes {
                ring(&numbers, region)
            } else {
                shares(&numbers, region)
            },
            ..Default::default()
        },
    };
    (cluster, assignment)
}

/// How an endpoint is picked; true: by a hash. Not every library knows every policy, and each takes the first of a list
/// that it knows; one that does not know the list takes the old field.
fn balance(cluster: &mut Cluster, how: LoadBalancing) -> bool {
    match how {
        LoadBalancing::LeastRequest => {
            let pick = LoadBalancingPolicy {
                policies: vec![
                    extension(&LeastRequest::default()),
                    extension(&RoundRobin::default()),
                ],
            };
            // Without it localities, and with them weights, would not count.
            let localities = WrrLocality {
                endpoint_picking_policy: Some(pick),
            };
            cluster.load_balancing_policy = Some(LoadBalancingPolicy {
                policies: vec![extension(&localities)],
            });
            false
        }
        LoadBalancing::RoundRobin | LoadBalancing::Random => false,
        LoadBalancing::RingHash | LoadBalancing::Maglev => {
            cluster.lb_policy = LbPolicy::RingHash.into();
            true
        }
    }
}

fn extension<M: Message + Name>(config: &M) -> load_balancing_policy::Policy {
    load_balancing_policy::Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: M::full_name(),
            typed_config: Some(any(config)),
        }),
    }
}

/// All endpoints on one ring, each as much of it as it weighs.
fn ring(members: &[&Endpoint], region: &RegionName) -> Vec<LocalityLbEndpoints> {
    if members.is_empty() {
        return Vec::new();
    }
    let members = members
        .iter()
        .map(|endpoint| member(&endpoint.address, endpoint.weight))
        .collect();
    vec![locality(region, "", 1, members)]
}

/// gRPC's round robin passes over the weights of endpoints, and only those of localities count. So the endpoints of one
/// weight are a locality, which weighs as much as they do together.
fn shares(members: &[&Endpoint], region: &RegionName) -> Vec<LocalityLbEndpoints> {
    let mut by_weight: BTreeMap<u32, Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in members {
        let group = by_weight.entry(endpoint.weight).or_default();
        group.push(member(&endpoint.address, 1));
    }
    let weigh = |weight: u32, group: &Vec<LbEndpoint>| u64::from(weight) * group.len() as u64;
    let total: u64 = by_weight.iter().map(|(w, group)| weigh(*w, group)).sum();
    // The sum has to fit 32 bits. Rounding up, so that no group comes to nothing, adds at most one for each.
    let room = u64::from(u32::MAX) - by_weight.len() as u64;
    let divisor = total.div_ceil(room).max(1);
    by_weight
        .into_iter()
        .map(|(weight, group)| {
            let share = weigh(weight, &group).div_ceil(divisor);
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            locality(region, &format!("weight-{weight}"), share, group)
        })
        .collect()
}

fn locality(
    region: &RegionName,
    sub_zone: &str,
    weight: u32,
    lb_endpoints: Vec<LbEndpoint>,
) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(Locality {
            region: region.to_string(),
            zone: String::new(),
            sub_zone: sub_zone.to_owned(),
        }),
        lb_endpoints,
        // Without a weight a locality gets nothing.
        load_balancing_weight: u32_value(weight),
        ..Default::default()
    }
}

fn member(address: &Address, weight: u32) -> LbEndpoint {
    LbEndpoint {
        load_balancing_weight: u32_value(weight),
        host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
            address: socket_address(address),
            ..Default::default()
        })),
        ..Default::default()
    }
}
