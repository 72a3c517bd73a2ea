//! Destinations as Envoy clusters: a service here, a service behind a region's gateways, or both.
//!
//! One cluster for each service and region, so that limits and ejections of one service never touch another's path.
//! Pure: records in, messages out.

use std::collections::HashMap;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster, UpstreamConnectionOptions,
            cluster::{
                ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig,
                TransportSocketMatch,
            },
        },
        core::v3::TcpKeepalive,
        endpoint::v3::{
            ClusterLoadAssignment, LocalityLbEndpoints,
            cluster_load_assignment::{Policy as AssignmentPolicy, policy::DropOverload},
            lb_endpoint::HostIdentifier,
        },
    },
    r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
};
use isthmus_model::{ClusterName, Kind, refusal::Code};

use super::{
    Facts, Settings,
    destination::{Destination, Standing, Tier, resolve},
    encode::{ads, any, duration, text_struct, u32_value},
    endpoints::{self, REGION_FIELD},
    policy::{self, Reach},
    tls,
};
use crate::record::Policy;

/// A cluster and, unless it has them inside, its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Built {
    /// The cluster.
    pub(super) cluster: Cluster,
    /// `None` where the cluster holds them: an address is a DNS name, or there can be none.
    pub(super) endpoints: Option<ClusterLoadAssignment>,
    /// Who says that there is such a thing.
    pub(super) standing: Standing,
}

/// Makes the cluster of a destination.
pub(super) fn build(target: &ClusterName, facts: &dyn Facts, settings: &Settings) -> Built {
    let found = resolve(target, facts, settings);
    let (cluster, endpoints) = match found.standing {
        Standing::Unknown => (unknown(target), None),
        Standing::Vouched | Standing::Claimed => known(target, &found, settings),
    };
    Built {
        cluster,
        endpoints,
        standing: found.standing,
    }
}

/// A cluster that says that there is no such service. Envoy's on-demand filter believes "does not exist" only once: asked
/// again for the same name it waits for its time-out (seen with 1.40). A cluster that drops every request answers
/// at once, each time, with a response flag of its own, which [`super::replies`] turns into `unknown_service`; when the
/// service comes, an update of the cluster is all it takes.
fn unknown(target: &ClusterName) -> Cluster {
    let name = target.to_string();
    let everything = DropOverload {
        category: Code::UnknownService.as_str().to_owned(),
        drop_percentage: Some(FractionalPercent {
            numerator: 100,
            denominator: DenominatorType::Hundred.into(),
        }),
    };
    Cluster {
        load_assignment: Some(ClusterLoadAssignment {
            policy: Some(AssignmentPolicy {
                drop_overloads: vec![everything],
                ..Default::default()
            }),
            ..endpoints::assignment(&name, Vec::new())
        }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        name,
        ..Default::default()
    }
}

/// Each tier is a priority. Nobody in any tier: Envoy says at once that nobody can take the request.
fn known(
    target: &ClusterName,
    found: &Destination,
    settings: &Settings,
) -> (Cluster, Option<ClusterLoadAssignment>) {
    let service = found.service.as_ref();
    let policy = service.map_or_else(Policy::default, |entry| entry.checked.policy.clone());
    let mut localities = Vec::new();
    let mut regions = Vec::new();
    for (priority, tier) in (0..).zip(&found.tiers) {
        match tier {
            Tier::Here(members) => localities.extend(endpoints::local(members, &settings.region)),
            Tier::Region(region) => {
                localities.push(endpoints::gateways(&region.checked, priority));
                regions.push(&region.checked.name);
            }
        }
    }
    let reach = match found.kind {
        Kind::Local => Reach::Endpoints,
        Kind::Remote => Reach::Gateways,
        Kind::Any => Reach::Any {
            priorities: u32::try_from(found.tiers.len()).unwrap_or(u32::MAX),
        },
    };
    let mut cluster = base(target, &policy, reach, settings);
    if reach != Reach::Gateways {
        cluster.health_checks = policy::health_check(&policy).into_iter().collect();
    }
    if !regions.is_empty() {
        cluster.upstream_connection_options = keepalive();
    }
    for region in regions {
        let socket = tls::to_gateway(&settings.region, region, &settings.trust_domain);
        if reach == Reach::Gateways {
            cluster.transport_socket = Some(socket);
        } else {
            cluster.transport_socket_matches.push(TransportSocketMatch {
                name: region.to_string(),
                r#match: Some(text_struct(REGION_FIELD, region.as_str())),
                transport_socket: Some(socket),
            });
        }
    }
    discovered(cluster, localities)
}

/// What every cluster has.
fn base(target: &ClusterName, policy: &Policy, reach: Reach, settings: &Settings) -> Cluster {
    let options = policy::http_options(policy, reach, &settings.headers.error);
    Cluster {
        name: target.to_string(),
        connect_timeout: duration(policy.connect_timeout),
        lb_policy: policy::lb_policy(policy).into(),
        circuit_breakers: policy::circuit_breakers(&policy.circuit_breakers),
        outlier_detection: policy::outlier_detection(policy, reach),
        common_lb_config: Some(policy::common_lb(policy)),
        typed_extension_protocol_options: HashMap::from([(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            any(&options),
        )]),
        // Otherwise Envoy keeps a deleted endpoint for as long as it answers health checks.
        ignore_health_on_host_removal: true,
        ..Default::default()
    }
}

/// Finds dead peers on links where nothing else does: a region's link that drops packets, a host that is gone.
fn keepalive() -> Option<UpstreamConnectionOptions> {
    Some(UpstreamConnectionOptions {
        tcp_keepalive: Some(TcpKeepalive {
            keepalive_probes: u32_value(3),
            keepalive_time: u32_value(30),
            keepalive_interval: u32_value(5),
        }),
        ..Default::default()
    })
}

/// Puts endpoints where they belong: beside the cluster, or inside where Envoy has to resolve names.
fn discovered(
    mut cluster: Cluster,
    localities: Vec<LocalityLbEndpoints>,
) -> (Cluster, Option<ClusterLoadAssignment>) {
    let assignment = endpoints::assignment(&cluster.name, localities);
    if has_dns_name(&assignment) {
        cluster.cluster_discovery_type =
            Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into()));
        cluster.dns_lookup_family = DnsLookupFamily::All.into();
        cluster.load_assignment = Some(assignment);
        return (cluster, None);
    }
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
    cluster.eds_cluster_config = Some(EdsClusterConfig {
        eds_config: ads(),
        service_name: String::new(),
    });
    (cluster, Some(assignment))
}

fn has_dns_name(assignment: &ClusterLoadAssignment) -> bool {
    use envoy_types::pb::envoy::config::core::v3::address::Address::SocketAddress;
    assignment
        .endpoints
        .iter()
        .flat_map(|locality| &locality.lb_endpoints)
        .any(|member| match &member.host_identifier {
            Some(HostIdentifier::Endpoint(endpoint)) => match &endpoint.address {
                Some(address) => match &address.address {
                    Some(SocketAddress(socket)) => {
                        socket.address.parse::<std::net::IpAddr>().is_err()
                    }
                    _ => false,
                },
                None => false,
            },
            _ => false,
        })
}
