//! Destinations as Envoy clusters: a service here, a service behind a region's gateways, or both.
//!
//! One cluster for each service and region, so that limits and ejections of one service never touch another's path.
//! Pure: records in, messages out.

use std::{collections::HashMap, sync::Arc};

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
use isthmus_model::{ClusterName, RegionName};

use super::{
    Facts, Settings,
    encode::{ads, any, duration, text_struct, u32_value},
    endpoints::{self, REGION_FIELD},
    policy::{self, Reach},
    tls,
};
use crate::{
    record::{Endpoint, Policy, Region, Service},
    registry::RegionEntry,
};

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

/// Who says that there is something of a name. Names come from callers, and only records are as many as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// A record of this region.
    Vouched,
    /// The caller: another region may know it.
    Claimed,
    /// Nobody.
    Unknown,
}

/// Makes the cluster of a destination.
pub(super) fn build(target: &ClusterName, facts: &dyn Facts, settings: &Settings) -> Built {
    known(target, facts, settings).unwrap_or_else(|| unknown(target))
}

fn known(target: &ClusterName, facts: &dyn Facts, settings: &Settings) -> Option<Built> {
    let service = facts.service(&target.service);
    let service = service.as_ref().map(|entry| &entry.checked);
    let here = target.region.as_ref() == Some(&settings.region);
    if here && target.version.is_some() && !service?.allow_version_pins {
        return None;
    }
    let all = facts.endpoints(&target.service);
    let members = || endpoints::of_version(&all, target.version.as_ref());
    let runs = target.version.is_none() || members().next().is_some();
    let standing = if service.is_some() && runs {
        Standing::Vouched
    } else {
        Standing::Claimed
    };
    let mut built = match &target.region {
        Some(_) if here => local(target, service?, members(), settings),
        Some(region) => {
            let region = facts.region(region)?;
            remote(target, service, &region.checked, settings)
        }
        None => {
            let others = by_distance(facts, &settings.region);
            if service.is_none() && others.is_empty() {
                return None;
            }
            nearest(target, service, members(), &others, settings)
        }
    };
    built.standing = standing;
    Some(built)
}

/// A cluster that says that there is no such service. Envoy's on-demand filter believes "does not exist" only once: asked
/// again for the same name it waits for its time-out (seen with 1.40). A cluster that drops every request answers
/// at once, each time, with a response flag of its own, which [`super::replies`] turns into `unknown_service`; when the
/// service comes, an update of the cluster is all it takes.
fn unknown(target: &ClusterName) -> Built {
    let name = target.to_string();
    let everything = DropOverload {
        category: "unknown_service".to_owned(),
        drop_percentage: Some(FractionalPercent {
            numerator: 100,
            denominator: DenominatorType::Hundred.into(),
        }),
    };
    Built {
        cluster: Cluster {
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
        },
        endpoints: None,
        standing: Standing::Unknown,
    }
}

/// Regions that requests can be sent to, nearest first; equally near ones by name.
pub(crate) fn by_distance(facts: &dyn Facts, local: &RegionName) -> Vec<Arc<RegionEntry>> {
    let mut regions: Vec<_> = facts
        .regions()
        .into_iter()
        .filter(|region| region.checked.name != *local && is_reachable(&region.checked))
        .collect();
    regions.sort_by(|a, b| {
        let (a, b) = (&a.checked, &b.checked);
        (a.distance, &a.name).cmp(&(b.distance, &b.name))
    });
    regions
}

/// Without gateways there is nowhere to go; without roots no gateway could be believed.
pub(super) fn is_reachable(region: &Region) -> bool {
    !region.gateways.is_empty() && !region.trust_bundle.trim().is_empty()
}

fn local<'a>(
    target: &ClusterName,
    service: &Service,
    members: impl Iterator<Item = &'a Endpoint>,
    settings: &Settings,
) -> Built {
    let members = endpoints::local(members, &settings.region);
    let cluster = Cluster {
        health_checks: policy::health_check(&service.policy).into_iter().collect(),
        ..base(target, &service.policy, Reach::Endpoints, settings)
    };
    discovered(cluster, members)
}

fn remote(
    target: &ClusterName,
    service: Option<&Service>,
    region: &Region,
    settings: &Settings,
) -> Built {
    let policy = policy_of(service);
    let mut cluster = base(target, &policy, Reach::Gateways, settings);
    let mut members = Vec::new();
    // Else nobody can take the request, and Envoy says so at once.
    if is_reachable(region) {
        members.push(endpoints::gateways(region, 0));
        cluster.transport_socket = Some(tls::to_gateway(
            &settings.region,
            &region.name,
            &settings.trust_domain,
        ));
        cluster.upstream_connection_options = keepalive();
    }
    discovered(cluster, members)
}

fn nearest<'a>(
    target: &ClusterName,
    service: Option<&Service>,
    members: impl Iterator<Item = &'a Endpoint>,
    others: &[Arc<RegionEntry>],
    settings: &Settings,
) -> Built {
    let policy = policy_of(service);
    // Priorities must have no gap, so the first region takes the place of local endpoints where there are none.
    let mut localities = endpoints::local(members, &settings.region);
    let first = u32::from(!localities.is_empty());
    let mut priorities = first;
    let mut sockets = Vec::new();
    for region in others.iter().map(|entry| &entry.checked) {
        localities.push(endpoints::gateways(region, priorities));
        priorities += 1;
        sockets.push(TransportSocketMatch {
            name: region.name.to_string(),
            r#match: Some(text_struct(REGION_FIELD, region.name.as_str())),
            transport_socket: Some(tls::to_gateway(
                &settings.region,
                &region.name,
                &settings.trust_domain,
            )),
        });
    }
    let cluster = Cluster {
        health_checks: policy::health_check(&policy).into_iter().collect(),
        transport_socket_matches: sockets,
        upstream_connection_options: keepalive(),
        ..base(target, &policy, Reach::Any { priorities }, settings)
    };
    discovered(cluster, localities)
}

fn policy_of(service: Option<&Service>) -> Policy {
    service.map_or_else(Policy::default, |service| service.policy.clone())
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
fn discovered(mut cluster: Cluster, localities: Vec<LocalityLbEndpoints>) -> Built {
    let assignment = endpoints::assignment(&cluster.name, localities);
    if has_dns_name(&assignment) {
        cluster.cluster_discovery_type =
            Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into()));
        cluster.dns_lookup_family = DnsLookupFamily::All.into();
        cluster.load_assignment = Some(assignment);
        return Built {
            cluster,
            endpoints: None,
            standing: Standing::Vouched,
        };
    }
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
    cluster.eds_cluster_config = Some(EdsClusterConfig {
        eds_config: ads(),
        service_name: String::new(),
    });
    Built {
        cluster,
        endpoints: Some(assignment),
        standing: Standing::Vouched,
    }
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
