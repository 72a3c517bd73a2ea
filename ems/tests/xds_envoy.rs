//! The xDS engine with a real Envoy on it, in both variants of the protocol: what the tables of the engine say Envoy
//! does, Envoy does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "xds/fixture.rs"]
mod fixture;

use std::time::Duration;

use ems::{
    serve::network::listen,
    xds::{Resource, ResourceType, limits::Limits, stream::State},
};
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
            },
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, address,
                config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
                lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
            route::v3::{
                Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
                route_action::ClusterSpecifier as RouteTo, route_match::PathSpecifier,
            },
        },
        extensions::filters::{
            http::router::v3::Router,
            network::{
                http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds,
                    http_connection_manager::RouteSpecifier,
                    http_filter::ConfigType as HttpFilterConfig,
                },
                tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
            },
        },
    },
    google::protobuf::{self, Any},
};
use fixture::Fixture;
use isthmus_tests::{Envoy, WorkDir, wait::within};
use prost::{Message, Name};

/// Well below the 15 seconds after which Envoy would stop waiting for endpoints that nobody sends.
const SOON: Duration = Duration::from_secs(8);

fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    })
}

fn cluster(name: &str, connect_seconds: i64) -> Vec<u8> {
    let cluster = Cluster {
        name: name.into(),
        connect_timeout: Some(protobuf::Duration {
            seconds: connect_seconds,
            nanos: 0,
        }),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            ..Default::default()
        }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        ..Default::default()
    };
    cluster.encode_to_vec()
}

fn static_cluster(name: &str) -> Vec<u8> {
    let cluster = Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    cluster.encode_to_vec()
}

fn socket(port: u16) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: "127.0.0.1".into(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    })
}

fn endpoints(name: &str, port: u16) -> Vec<u8> {
    let assignment = ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                    address: socket(port),
                    ..Default::default()
                })),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    assignment.encode_to_vec()
}

fn listener(port: u16, cluster: &str) -> Vec<u8> {
    let proxy = TcpProxy {
        stat_prefix: "tcp".into(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
        ..Default::default()
    };
    let listener = Listener {
        name: "listener".into(),
        address: socket(port),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "tcp".into(),
                config_type: Some(ConfigType::TypedConfig(any(&proxy))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    listener.encode_to_vec()
}

impl Fixture {
    fn put(&self, resources: &[(ResourceType, &str, Vec<u8>)]) {
        self.write(|write| {
            for (kind, name, body) in resources {
                write.put(*kind, Resource::new(*kind, *name, body));
            }
        });
    }

    fn envoy(&self, dir: &WorkDir, api: &str) -> Envoy {
        Envoy::with_bootstrap(dir, api, |admin, listen| {
            let resources = [
                (ResourceType::Listener, "listener", listener(listen.number(), "one")),
            ];
            self.put(&resources);
            let (address, port) = (self.address.ip(), self.address.port());
            let admin = admin.number();
            Ok(format!(
                "node: {{ id: {api}, cluster: test }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
dynamic_resources:
  ads_config: {{ api_type: {api}, transport_api_version: V3, grpc_services: [{{ envoy_grpc: {{ cluster_name: xds }} }}] }}
  cds_config: {{ ads: {{}}, resource_api_version: V3 }}
  lds_config: {{ ads: {{}}, resource_api_version: V3 }}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: xds
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: {address}, port_value: {port} }} }} }} }}] }}]
"
            ))
        })
        .unwrap()
    }

    /// The next one at its place, with the same resources.
    fn again(&self) -> Self {
        let mut listener = None;
        within(SOON, "the place of the last one", || {
            listener = listen(self.address).ok();
            listener.is_some()
        })
        .unwrap();
        let memory = self.memory.clone();
        Self::at(
            listener.unwrap(),
            memory,
            Limits::default(),
            fixture::roomy(),
        )
    }

    fn rejected(&self) -> Vec<String> {
        let nodes = self.server.nodes().list();
        let resources = nodes.iter().flat_map(|node| &node.resources);
        let rejected = resources.filter(|resource| resource.state == State::Rejected);
        rejected
            .map(|resource| {
                let words = resource.error.as_deref().unwrap_or_default();
                format!("{}: {words}", resource.name)
            })
            .collect()
    }

    fn pushes(&self) -> u64 {
        let totals = |kind| self.server.counters().totals(kind).pushes;
        ResourceType::ALL.into_iter().map(totals).sum()
    }
}

/// A cluster that changes goes into use at once, although its endpoints did not change; a removed one goes; a rejected
/// one is known with Envoy's words and not sent again.
async fn check(api: &str) {
    let dir = WorkDir::new("xds-envoy").unwrap();
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(&[
        (ResourceType::Cluster, "one", cluster("one", 1)),
        (ResourceType::Endpoints, "one", endpoints("one", 7001)),
        (ResourceType::Cluster, "two", cluster("two", 1)),
        (ResourceType::Endpoints, "two", endpoints("two", 7002)),
    ]);
    let envoy = fixture.envoy(&dir, api);
    within(SOON, "both clusters", || {
        envoy.sends_to("one", 7001) && envoy.sends_to("two", 7002)
    })
    .unwrap();

    fixture.put(&[(ResourceType::Cluster, "one", cluster("one", 2))]);
    within(SOON, "the changed cluster is in use", || {
        envoy
            .cluster("one")
            .is_ok_and(|cluster| cluster["connect_timeout"] == "2s")
    })
    .unwrap();
    assert_eq!(envoy.stat("cluster_manager.warming_clusters").unwrap(), 0);
    assert!(envoy.sends_to("one", 7001));

    fixture.put(&[(ResourceType::Endpoints, "two", endpoints("two", 7003))]);
    within(SOON, "the moved endpoint", || envoy.sends_to("two", 7003)).unwrap();

    fixture.write(|write| {
        write.remove(ResourceType::Cluster, "two");
        write.remove(ResourceType::Endpoints, "two");
    });
    within(SOON, "the removed cluster is gone", || {
        !envoy.has_cluster("two")
    })
    .unwrap();

    // A negative timeout: no Envoy takes that, nor anything beside it.
    fixture.put(&[
        (ResourceType::Cluster, "bad", cluster("bad", -1)),
        (ResourceType::Cluster, "good", cluster("good", 1)),
        (ResourceType::Endpoints, "good", endpoints("good", 7005)),
    ]);
    within(SOON, "what is good", || envoy.sends_to("good", 7005)).unwrap();
    within(SOON, "the rejection", || fixture.rejected().len() == 1).unwrap();
    // By Envoy's own words, which do not name the cluster.
    let rejected = fixture.rejected();
    let words = rejected[0].strip_prefix("bad: ");
    assert!(
        words.is_some_and(|words| words.contains("duration")),
        "{rejected:?}"
    );
    let pushes = fixture.pushes();
    fixture.put(&[(ResourceType::Endpoints, "one", endpoints("one", 7004))]);
    within(SOON, "endpoints after a rejection", || {
        envoy.sends_to("one", 7004)
    })
    .unwrap();
    assert_eq!(
        fixture.pushes(),
        pushes + 1,
        "a rejected cluster was sent again"
    );
    fixture.put(&[
        (ResourceType::Cluster, "bad", cluster("bad", 1)),
        (ResourceType::Endpoints, "bad", endpoints("bad", 7006)),
    ]);
    within(SOON, "the repaired cluster is taken", || {
        fixture.rejected().is_empty() && envoy.sends_to("bad", 7006)
    })
    .unwrap();

    // No timeout at all: Envoy names the cluster, by its whole text, and takes nothing either.
    fixture.put(&[
        (ResourceType::Cluster, "bad", cluster("bad", 0)),
        (ResourceType::Cluster, "better", cluster("better", 1)),
        (ResourceType::Endpoints, "better", endpoints("better", 7007)),
    ]);
    within(SOON, "what is better", || envoy.sends_to("better", 7007)).unwrap();
    within(SOON, "the rejection", || fixture.rejected().len() == 1).unwrap();
    let rejected = fixture.rejected();
    assert!(rejected[0].starts_with("bad: "), "{rejected:?}");
    assert!(rejected[0].contains("Proto constraint"), "{rejected:?}");
}

/// Endpoints that came together with some that are wrong, which Envoy's words name: it hands them out one by one and stops
/// at the first that fails, so which of the others it has taken is chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta_beside_something_wrong() {
    let dir = WorkDir::new("xds-beside").unwrap();
    let fixture = Fixture::new(Limits::default()).await;
    let names = ["one", "two", "three", "four", "five"];
    let clusters = names.map(|name| (ResourceType::Cluster, name, cluster(name, 1)));
    fixture.put(&clusters);
    let at = |port| names.map(|name| (ResourceType::Endpoints, name, endpoints(name, port)));
    fixture.put(&at(7001));
    let envoy = fixture.envoy(&dir, "DELTA_GRPC");
    let all_at = |port, names: &[&str]| names.iter().all(|name| envoy.sends_to(name, port));
    within(SOON, "all clusters", || all_at(7001, &names)).unwrap();

    for (wrong, port) in names.into_iter().zip(7002..) {
        let mut moved = at(port).to_vec();
        for (_, name, body) in &mut moved {
            if *name == wrong {
                *body = endpoints("another", port);
            }
        }
        fixture.put(&moved);
        let others: Vec<&str> = names.into_iter().filter(|name| *name != wrong).collect();
        within(SOON, "what came beside it", || all_at(port, &others)).unwrap();
        let rejected = fixture.rejected();
        assert_eq!(rejected.len(), 1, "{rejected:?}");
        assert!(
            rejected[0].starts_with(&format!("{wrong}: ")),
            "{rejected:?}"
        );
    }
}

fn web(route: &str) -> Vec<u8> {
    let router = HttpFilter {
        name: "router".into(),
        config_type: Some(HttpFilterConfig::TypedConfig(any(&Router::default()))),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: "web".into(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: ads(),
            route_config_name: route.into(),
        })),
        http_filters: vec![router],
        ..Default::default()
    };
    let filter = Filter {
        name: "http".into(),
        config_type: Some(ConfigType::TypedConfig(any(&manager))),
    };
    let listener = Listener {
        name: "web".into(),
        address: socket(0),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            ..Default::default()
        }],
        ..Default::default()
    };
    listener.encode_to_vec()
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

fn route(name: &str, cluster: &str) -> Vec<u8> {
    let everything = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".into())),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(RouteTo::Cluster(cluster.into())),
            ..Default::default()
        })),
        ..Default::default()
    };
    let route = RouteConfiguration {
        name: name.into(),
        virtual_hosts: vec![VirtualHost {
            name: "all".into(),
            domains: vec!["*".into()],
            routes: vec![everything],
            ..Default::default()
        }],
        ..Default::default()
    };
    route.encode_to_vec()
}

/// A cluster was replaced by another while the client was away. It says of all types at once what it has, so its routes are
/// known before the old cluster is removed: that comes apart, once they point at the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta_back_after_a_replacement() {
    let dir = WorkDir::new("xds-back").unwrap();
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(&[
        (ResourceType::Cluster, "one", static_cluster("one")),
        (ResourceType::Cluster, "old", static_cluster("old")),
        (ResourceType::Listener, "web", web("route")),
        (ResourceType::Route, "route", route("route", "old")),
    ]);
    let envoy = fixture.envoy(&dir, "DELTA_GRPC");
    let routes = |fixture: &Fixture| {
        let nodes = fixture.server.nodes().list();
        let resources = nodes.into_iter().flat_map(|node| node.resources);
        let taken = resources.filter(|resource| resource.state == State::Acked);
        taken
            .filter(|resource| resource.kind == ResourceType::Route)
            .count()
    };
    within(SOON, "the route", || routes(&fixture) == 1).unwrap();

    fixture.leave(Duration::ZERO).await;
    fixture.write(|write| {
        let new = static_cluster("new");
        write.put(
            ResourceType::Cluster,
            Resource::new(ResourceType::Cluster, "new", &new),
        );
        write.remove(ResourceType::Cluster, "old");
        let route = route("route", "new");
        write.put(
            ResourceType::Route,
            Resource::new(ResourceType::Route, "route", &route),
        );
    });
    let fixture = fixture.again();
    within(SOON, "the new cluster instead of the old one", || {
        envoy.has_cluster("new") && !envoy.has_cluster("old")
    })
    .unwrap();
    let pushes = |kind| fixture.server.counters().totals(kind).pushes;
    assert_eq!(pushes(ResourceType::Route), 1);
    assert_eq!(pushes(ResourceType::Cluster), 2, "the old one went apart");
}

/// "The TTL setting allows Envoy to remove a set of resources after a specified period of time if contact with the
/// management server is lost."
async fn check_ttl(api: &str) {
    let dir = WorkDir::new("xds-ttl").unwrap();
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(&[
        (ResourceType::Cluster, "one", static_cluster("one")),
        (ResourceType::Cluster, "brief", static_cluster("brief")),
    ]);
    let envoy = fixture.envoy(&dir, api);
    within(SOON, "both clusters", || {
        envoy.has_cluster("one") && envoy.has_cluster("brief")
    })
    .unwrap();

    // One that is there already gets a TTL.
    let brief = static_cluster("brief");
    let brief =
        Resource::new(ResourceType::Cluster, "brief", &brief).expiring(Duration::from_secs(2));
    let updates = envoy.stat("cluster_manager.cds.update_success").unwrap();
    fixture.write(|write| write.put(ResourceType::Cluster, brief));
    within(SOON, "the TTL is there", || {
        envoy.stat("cluster_manager.cds.update_success").unwrap() > updates
    })
    .unwrap();

    // Three refreshes are one TTL.
    let pushes = fixture.pushes();
    within(SOON, "seven refreshes", || {
        assert!(
            envoy.has_cluster("brief"),
            "forgotten while it is refreshed"
        );
        fixture.pushes() >= pushes + 7
    })
    .unwrap();
    assert_eq!(fixture.rejected(), Vec::<String>::new());

    // Streams end and nobody is let in.
    fixture.leave(Duration::ZERO).await;
    within(SOON, "what nobody refreshes is forgotten", || {
        !envoy.has_cluster("brief")
    })
    .unwrap();
    assert!(envoy.has_cluster("one"), "it has no TTL");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta_ttl() {
    check_ttl("DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_of_the_world_ttl() {
    check_ttl("GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta() {
    check("DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_of_the_world() {
    check("GRPC").await;
}
