//! What a gRPC library is given for a name, and what a change touches.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy},
            core::v3::{Locality, Node as XdsNode},
            endpoint::v3::ClusterLoadAssignment,
            listener::v3::Listener,
            route::v3::{RouteAction, route::Action, route_action::ClusterSpecifier},
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier,
        },
    },
    google::protobuf::Value,
};
use isthmus_proto::v1;
use prost::Message;

use super::*;
use crate::{
    record::{Endpoint, HashKey, LoadBalancing, Policy, Retries, Service},
    registry::Affected,
    resources::tests::world::*,
    xds::Source,
};

/// A program that calls as `us/orders`.
fn client(world: &World) -> Arc<dyn View> {
    let fields = [("kind", "grpc"), ("service", "orders"), ("region", "us")];
    world.resources.view(&of(&fields)).unwrap()
}

fn of(fields: &[(&'static str, &str)]) -> XdsNode {
    let fields: HashMap<&str, Value> = fields.iter().map(|(k, v)| (*k, text(v))).collect();
    XdsNode {
        user_agent_name: "gRPC C-core linux".to_owned(),
        ..metadata(fields)
    }
}

/// The one route of a listener.
fn route(view: &dyn View, name: &str) -> RouteAction {
    let listener = view.get(ResourceType::Listener, name).unwrap();
    let listener = Listener::decode(listener.body()).unwrap();
    assert_eq!(listener.name, name);
    let manager = listener.api_listener.unwrap().api_listener.unwrap();
    let manager = HttpConnectionManager::decode(&*manager.value).unwrap();
    assert_eq!(manager.http_filters.len(), 1, "the router alone");
    let Some(RouteSpecifier::RouteConfig(mut routes)) = manager.route_specifier else {
        panic!("no route inside")
    };
    let mut host = routes.virtual_hosts.remove(0);
    assert_eq!(host.domains, ["*"]);
    match host.routes.remove(0).action {
        Some(Action::Route(action)) => action,
        other => panic!("{other:?}"),
    }
}

fn assignment(view: &dyn View, cluster: &str) -> ClusterLoadAssignment {
    let resource = view.get(ResourceType::Endpoints, cluster).unwrap();
    let assignment = ClusterLoadAssignment::decode(resource.body()).unwrap();
    assert_eq!(assignment.cluster_name, cluster);
    assignment
}

/// What calls to a name meet: its cluster and endpoints, or the reason for which there are none.
fn meets(view: &dyn View, name: &str) -> String {
    let Some(ClusterSpecifier::Cluster(to)) = route(view, name).cluster_specifier else {
        panic!("no cluster")
    };
    assert_eq!(
        cluster(view, &to).unwrap().name,
        to,
        "made before asked for"
    );
    let assignment = assignment(view, &to);
    match assignment.policy.and_then(|mut p| p.drop_overloads.pop()) {
        Some(drop) => format!("refused: {}", drop.category),
        None => format!("{to}: {}", endpoints_of(view, &to).join(", ")),
    }
}

#[track_caller]
fn check(world: &World, name: &str, expect: &str) {
    let found = meets(&*client(world), name);
    assert!(
        found == expect || (expect.starts_with("refused") && found.starts_with(expect)),
        "{name}: {found}"
    );
}

fn allowing(who: &[(&str, &str)]) -> Service {
    let pattern = |(region, service): &(&str, &str)| crate::record::CallerPattern {
        region: Some(region.parse().unwrap()),
        service: Some(service.parse().unwrap()),
    };
    Service {
        access: Some(who.iter().map(pattern).collect()),
        ..service("ruled")
    }
}

#[test]
fn names() {
    let world = World::new();
    let here = "payments.us: 0/ 127.0.0.1 UNKNOWN";
    put_service(&world.maps, service("shop.v1"));
    for (name, expect) in [
        ("payments", here),
        ("payments.us", here),
        ("shop.v1", "shop.v1.us: "),
        ("shop.v1.us", "shop.v1.us: "),
        (
            "nobody",
            "refused: unknown_service: region us has no service nobody",
        ),
        (
            "nobody.us",
            "refused: unknown_service: region us has no service nobody",
        ),
        // No region is called so.
        (
            "payments.mars",
            "refused: unknown_service: region us has no service payments.mars",
        ),
        ("payments.eu", "refused: payments.eu is not in region us"),
        ("payments.any", "refused: payments.any is not in region us"),
        ("payments@v2.us", "refused: payments@v2.us pins a version"),
        (
            "Payments",
            "refused: bad_service: write payments.us in lower",
        ),
        ("a b", "refused: bad_service: \"a b\" is no name"),
    ] {
        check(&world, name, expect);
    }
    let view = client(&world);
    assert!(cluster(&*view, "payments").is_none(), "only a listener's");
    for kind in ResourceType::ALL {
        assert!(view.wildcard(kind).is_empty());
    }
    for (kind, name) in [
        (ResourceType::Secret, "identity"),
        (ResourceType::Route, "mesh"),
        (ResourceType::ExtensionConfig, "isthmus"),
    ] {
        assert!(view.get(kind, name).is_none(), "{kind} is for Envoys");
    }
}

#[test]
fn who_may_not_call_is_told_so() {
    let world = World::new();
    for (allow, expect) in [
        (&[("us", "orders")][..], "ruled.us: "),
        (&[("us", "orders"), ("eu", "orders")], "ruled.us: "),
        (&[("eu", "orders")], "refused: denied: ruled.us: "),
        (&[("us", "billing")], "refused: denied: ruled.us: "),
        (&[], "refused: denied: ruled.us: "),
    ] {
        put_service(&world.maps, allowing(allow));
        world.apply(Affected::Service("ruled".parse().unwrap()));
        check(&world, "ruled", expect);
    }
    let pinned = Service {
        allow_version_pins: true,
        ..service("pinned")
    };
    put_service(&world.maps, pinned);
    check(&world, "pinned", "pinned.us: ");
    let mut old = service("old");
    old.policy.protocol = Protocol::Http1;
    put_service(&world.maps, old);
    check(&world, "old", "refused: old.us speaks HTTP/1.1");
    let limited = v1::Service {
        name: "limited".to_owned(),
        rate_limits: vec![v1::RateLimit {
            per: vec!["caller".to_owned()],
            requests: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    put_service(&world.maps, Service::parse(&limited).unwrap());
    check(
        &world,
        "limited",
        "refused: limited.us has rules that only an Envoy can apply",
    );
}

#[test]
fn weights_are_shares_of_localities() {
    let world = World::new();
    put_service(&world.maps, service("w"));
    for (id, at, weight, draining) in [
        ("a", "127.0.0.1:1", 1, false),
        ("b", "127.0.0.1:2", 1, false),
        ("c", "127.0.0.1:3", 5, false),
        ("d", "127.0.0.1:4", 5, true),
        ("e", "127.0.0.1:1", 9, false),
        // gRPC takes addresses only, unless one name is all there is.
        ("f", "somewhere.example:1", 1, false),
    ] {
        let endpoint = Endpoint {
            weight,
            draining,
            zone: Some(id.into()),
            ..endpoint("w", id, at)
        };
        put_endpoint(&world.maps, endpoint);
    }
    let shares = |world: &World| -> Vec<_> {
        let assignment = assignment(&*client(world), "w.us");
        let localities = assignment.endpoints.into_iter();
        localities
            .map(|at| {
                let name = at.locality.unwrap().sub_zone;
                let weight = at.load_balancing_weight.unwrap().value;
                (name, weight, at.lb_endpoints.len())
            })
            .collect()
    };
    assert_eq!(
        shares(&world),
        [("weight-1".into(), 2, 2), ("weight-5".into(), 5, 1)]
    );

    let mut hashed = service("w");
    hashed.policy.load_balancing = LoadBalancing::Maglev;
    put_service(&world.maps, hashed);
    world.apply(Affected::Service("w".parse().unwrap()));
    assert_eq!(shares(&world), [(String::new(), 1, 3)], "one ring");

    for n in 0..5_000_u32 {
        let at = format!("10.1.{}.{}:1", n / 250, n % 250);
        let heavy = Endpoint {
            weight: 1_000_000,
            ..endpoint("heavy", &format!("n{n}"), &at)
        };
        put_endpoint(&world.maps, heavy);
    }
    put_endpoint(&world.maps, endpoint("heavy", "light", "10.2.0.1:1"));
    put_service(&world.maps, service("heavy"));
    let heavy = assignment(&*client(&world), "heavy.us").endpoints;
    let total: u64 = heavy
        .iter()
        .map(|at| u64::from(at.load_balancing_weight.unwrap().value))
        .sum();
    assert!(u32::try_from(total).is_ok(), "{total}");
    assert_eq!(heavy[0].load_balancing_weight.unwrap().value, 1);
}

#[test]
fn a_name_is_resolved_if_it_is_the_only_one() {
    let world = World::new();
    put_service(&world.maps, service("n"));
    put_endpoint(&world.maps, endpoint("n", "a", "one.example:1"));
    let view = client(&world);
    let found = cluster(&*view, "n.us").unwrap();
    let dns = ClusterDiscoveryType::Type(DiscoveryType::LogicalDns.into());
    assert_eq!(found.cluster_discovery_type, Some(dns));
    assert_eq!(
        lines(&found.load_assignment.unwrap()),
        ["0/ one.example UNKNOWN"]
    );
    put_endpoint(&world.maps, endpoint("n", "b", "two.example:1"));
    world.apply(Affected::Endpoints("n".parse().unwrap()));
    check(&world, "n", "refused: n.us has several endpoints that are");
    put_endpoint(&world.maps, endpoint("n", "c", "127.0.0.9:1"));
    world.apply(Affected::Endpoints("n".parse().unwrap()));
    check(&world, "n", "n.us: 0/ 127.0.0.9 UNKNOWN");
}

#[test]
fn policy_is_in_the_route_as_far_as_grpc_knows_it() {
    let world = World::new();
    let put = |policy: Policy| {
        put_service(
            &world.maps,
            Service {
                policy,
                ..service("payments")
            },
        );
        world.apply(Affected::Service("payments".parse().unwrap()));
        let view = client(&world);
        (
            route(&*view, "payments"),
            cluster(&*view, "payments.us").unwrap(),
        )
    };
    let (plain, found) = put(Policy::default());
    assert_eq!(plain.retry_policy, None, "gRPC's own are what is meant");
    assert_eq!(plain.max_stream_duration, None);
    assert_eq!(found.lb_policy(), LbPolicy::RoundRobin, "for old libraries");
    assert!(found.load_balancing_policy.is_some());
    assert_eq!(found.outlier_detection, None, "gRPC counts every status");

    let mut policy = Policy {
        retries: Retries {
            attempts: 3,
            on: ["reset", "unavailable", "internal"].map(Into::into).into(),
            per_try_timeout: None,
        },
        hash: vec![
            HashKey::Cookie("c".into()),
            HashKey::Header("x-user".into()),
        ],
        load_balancing: LoadBalancing::RingHash,
        max_stream_duration: Some(std::time::Duration::from_secs(3)),
        ..Policy::default()
    };
    policy.circuit_breakers.max_requests = Some(7);
    let (rich, found) = put(policy);
    let retry = rich.retry_policy.unwrap();
    assert_eq!(retry.retry_on, "internal,unavailable");
    assert_eq!(retry.num_retries.unwrap().value, 3);
    assert_eq!(rich.hash_policy.len(), 1, "headers only");
    let limit = rich.max_stream_duration.unwrap().max_stream_duration;
    assert_eq!(limit.unwrap().seconds, 3);
    assert_eq!(found.lb_policy(), LbPolicy::RingHash);
    assert_eq!(found.load_balancing_policy, None);
    let limits = &found.circuit_breakers.unwrap().thresholds;
    assert_eq!(limits[0].max_requests.unwrap().value, 7);
}

#[test]
fn a_change_is_announced_to_those_who_asked() {
    let world = World::new();
    let payments: ServiceName = "payments".parse().unwrap();
    let endpoints = Affected::Endpoints(payments.clone());
    assert_eq!(world.apply(endpoints.clone()).len(), 0, "nobody asked");

    let view = client(&world);
    let everything = [
        "cluster payments.us",
        "endpoints payments.us",
        "listener payments",
        "listener payments.us",
    ];
    meets(&*view, "payments");
    assert_eq!(world.apply(endpoints.clone()), everything);
    assert_eq!(
        world.apply(endpoints.clone()).len(),
        0,
        "nobody asked again"
    );

    // One whom a rule keeps out has to hear of its end.
    put_service(&world.maps, allowing(&[]));
    let ruled = Affected::Service("ruled".parse().unwrap());
    world.apply(ruled.clone());
    check(&world, "ruled", "refused: denied");
    put_service(&world.maps, service("ruled"));
    let changed = world.apply(ruled);
    assert!(
        changed.contains(&"endpoints ruled.us".to_owned()),
        "{changed:?}"
    );
    check(&world, "ruled", "ruled.us: ");

    assert_eq!(
        meets(&*view, "payments"),
        "payments.us: 0/ 127.0.0.1 UNKNOWN"
    );
    world.maps.services.write().unwrap().remove(&payments);
    let changed = world.apply(Affected::Service(payments));
    for name in everything {
        assert!(changed.contains(&name.to_owned()), "{name}: {changed:?}");
    }
    check(&world, "payments", "refused: unknown_service");
}

#[test]
fn a_service_or_region_that_comes_is_announced() {
    let world = World::new();
    let view = client(&world);
    assert!(
        meets(&*view, "a.sa")
            .starts_with("refused: unknown_service: region us has no service a.sa")
    );
    put_service(&world.maps, service("a.sa"));
    let changed = world.apply(Affected::Service("a.sa".parse().unwrap()));
    for name in ["listener a.sa", "listener a.sa.us", "endpoints a.sa.us"] {
        assert!(changed.contains(&name.to_owned()), "{name}: {changed:?}");
    }
    assert_eq!(meets(&*view, "a.sa"), "a.sa.us: ");

    put_region(&world.maps, region("sa", &["127.0.0.9:1"], 30));
    let changed = world.apply(Affected::Region("sa".parse().unwrap()));
    for name in ["listener a.sa", "listener payments.sa"] {
        assert!(changed.contains(&name.to_owned()), "{name}: {changed:?}");
    }
    assert!(meets(&*view, "a.sa").starts_with("refused: a.sa is not in region us"));
    assert_eq!(meets(&*view, "a.sa.us"), "a.sa.us: ");
}

#[test]
fn who_a_library_is() {
    let world = World::new();
    let library = |agent: &str, cluster: &str, region: &str| XdsNode {
        user_agent_name: agent.to_owned(),
        cluster: cluster.to_owned(),
        locality: Some(Locality {
            region: region.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let cases = [
        (
            of(&[("kind", "grpc"), ("service", "s"), ("region", "us")]),
            "",
        ),
        (library("gRPC Go", "orders", "us"), ""),
        (library("gRPC Java", "orders", "us"), ""),
        (library("gRPC Java", "", "us-east1.a"), "node: cluster: "),
        (library("gRPC Go", "orders", ""), "locality.region: "),
        (library("gRPC Go", "orders", "eu"), "point it to its own"),
        (library("envoy", "orders", "us"), "has no `isthmus`"),
        (
            of(&[("kind", "grpc"), ("region", "us")]),
            "node: isthmus.service is missing",
        ),
        (
            of(&[("kind", "sidecar")]),
            "no Envoy: make its bootstrap with `ems bootstrap --kind grpc`",
        ),
    ];
    for (node, part) in cases {
        let error = world.resources.view(&node).err().unwrap_or_default();
        assert!(error.contains(part), "{error:?} has no {part:?}");
        assert_eq!(error.is_empty(), part.is_empty(), "{error}");
    }
}
