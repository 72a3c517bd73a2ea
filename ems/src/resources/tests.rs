//! What exists for whom, and what a change touches.

pub(crate) mod world;

use std::sync::Arc;

use envoy_types::pb::envoy::config::{
    cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType},
    listener::v3::Listener,
};
use prost::Message;

use super::*;
use crate::record::{Endpoint, Region, Service};
use world::*;

#[test]
fn what_exists() {
    let world = World::new();
    let cases = [
        ("host", "payments.us", "known"),
        ("host", "payments.eu", "known"),
        ("host", "only-there.eu", "known"),
        ("host", "payments.any", "known"),
        ("host", "only-there.any", "known"),
        ("host", "nobody.us", "unknown"),
        ("host", "payments.mars", "unknown"),
        ("host", "payments@v2.us", "unknown"),
        ("host", "Payments.us", "absent"),
        ("host", "payments", "absent"),
        ("host", "", "absent"),
        ("gateway", "payments.us", "known"),
        ("gateway", "nobody.us", "unknown"),
        ("gateway", "payments.eu", "absent"),
        ("gateway", "payments.any", "absent"),
    ];
    for (kind, name, expect) in cases {
        let view = world.view(kind, &[], false);
        assert_eq!(standing(&*view, name), expect, "{name} on a {kind}");
    }
}

#[test]
fn zones_are_localities_and_a_drained_endpoint_says_so() {
    let world = World::new();
    for (id, at, zone, draining) in [
        ("b", "127.0.0.1:7002", "z2", false),
        ("c", "127.0.0.2:7003", "z1", true),
        // The same address once more, drained: the one that takes requests counts.
        ("d", "127.0.0.1:7002", "z2", true),
    ] {
        let endpoint = Endpoint {
            zone: Some(zone.into()),
            draining,
            ..endpoint("payments", id, at)
        };
        put_endpoint(&world.maps, endpoint);
    }
    let view = world.host();
    assert!(cluster(&*view, "payments.us").is_some());
    assert_eq!(
        endpoints_of(&*view, "payments.us"),
        [
            "0/ 127.0.0.1 UNKNOWN",
            "0/z1 127.0.0.2 DRAINING",
            "0/z2 127.0.0.1 UNKNOWN",
        ]
    );
}

#[test]
fn any_goes_from_here_to_the_nearest_region_and_on() {
    let world = World::new();
    let view = world.host();
    assert_eq!(
        cluster(&*view, "payments.any")
            .unwrap()
            .transport_socket_matches
            .len(),
        2
    );
    assert_eq!(
        endpoints_of(&*view, "payments.any"),
        [
            "0/ 127.0.0.1 UNKNOWN",
            "1/ 127.0.0.2 UNKNOWN",
            "2/ 127.0.0.3 UNKNOWN",
        ]
    );
    cluster(&*view, "only-there.any").unwrap();
    assert_eq!(
        endpoints_of(&*view, "only-there.any"),
        ["0/ 127.0.0.2 UNKNOWN", "1/ 127.0.0.3 UNKNOWN"],
        "priorities have no gap"
    );
}

#[test]
fn a_name_that_has_to_be_resolved_moves_into_the_cluster() {
    let world = World::new();
    put_region(&world.maps, region("eu", &["gateway-eu:15443"], 10));
    let view = world.host();
    for name in ["payments.eu", "payments.any"] {
        let cluster = cluster(&*view, name).unwrap();
        let dns = ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into());
        assert_eq!(cluster.cluster_discovery_type, Some(dns));
        assert!(cluster.load_assignment.is_some());
        assert!(view.get(ResourceType::Endpoints, name).is_none());
    }
}

#[test]
fn a_region_without_gateways_or_roots_has_clusters_that_nobody_answers() {
    let world = World::new();
    put_region(&world.maps, region("eu", &[], 10));
    put_region(
        &world.maps,
        Region {
            trust_bundle: String::new(),
            ..region("ap", &["127.0.0.3:1"], 20)
        },
    );
    let view = world.host();
    for name in ["payments.eu", "payments.ap"] {
        assert!(cluster(&*view, name).is_some());
        assert!(endpoints_of(&*view, name).is_empty());
    }
}

#[test]
fn header_names_are_those_of_the_settings_everywhere() {
    let usual = serde_json::to_string(&isthmus_model::RawHeaders::default()).unwrap();
    let renamed = usual.replace("x-mesh-", "x-other-");
    let headers = Headers::check(serde_json::from_str(&renamed).unwrap()).unwrap();
    let world = World::with(Settings {
        headers,
        ..Settings::new("us".parse().unwrap())
    });
    let mut found = 0;
    for kind in ["host", "gateway"] {
        let view = world.view(kind, &[], false);
        for (kind, name) in [
            (ResourceType::Listener, "outbound"),
            (ResourceType::Listener, "gateway"),
            (ResourceType::Route, "mesh"),
            (ResourceType::ExtensionConfig, "isthmus"),
            (ResourceType::Cluster, "payments.us"),
            (ResourceType::Cluster, "payments.eu"),
            (ResourceType::Cluster, "payments.any"),
            (ResourceType::Cluster, "nobody.us"),
        ] {
            let Some(resource) = view.get(kind, name) else {
                continue;
            };
            let body = String::from_utf8_lossy(&resource.body()).into_owned();
            // Between two filters of one Envoy: nobody else sees those.
            let body = body
                .replace("x-mesh-limit-", "")
                .replace("x-mesh-lease-", "");
            assert!(!body.contains("x-mesh-"), "{kind} {name}: {body}");
            found += usize::from(body.contains("x-other-"));
        }
    }
    assert_eq!(found, 7, "listener, route and config of both, payments.any");
}

/// What clients say, and what newcomers are sent of it: the connect timeout tells versions apart.
#[test]
fn a_version_that_all_reject_is_not_for_newcomers() {
    let world = World::new();
    let payments: ServiceName = "payments".parse().unwrap();
    let put = |seconds| {
        let mut service = service("payments");
        service.policy.connect_timeout = std::time::Duration::from_secs(seconds);
        put_service(&world.maps, service);
        world.apply(Affected::Service(payments.clone()));
    };
    let served = |view: &Arc<dyn View>| cluster(&**view, "payments.us").unwrap().connect_timeout;
    let rejections = || {
        let all = world.resources.rejections_of_service(&payments);
        assert_eq!(all, world.resources.rejections());
        all.into_iter()
            .map(|r| (r.name, r.error, r.former_served))
            .collect::<Vec<_>>()
    };
    let seconds = |seconds| {
        let nanos = 0;
        Some(envoy_types::pb::google::protobuf::Duration { seconds, nanos })
    };
    let get = |view: &Arc<dyn View>| view.get(ResourceType::Cluster, "payments.us").unwrap();
    let rule = |resource| {
        let changed = world.resources.ruled(ResourceType::Cluster, resource);
        let names = changed.iter().map(|(kind, name)| (kind, name.clone()));
        names.collect::<Vec<_>>()
    };
    let one = world.named("one");
    let two = world.named("two");

    // Nothing was good before: there is nothing else to send.
    put(2);
    let second = get(&one);
    assert!(rejects("one", &second, "first words"));
    assert_eq!(rule(&second), []);
    assert_eq!(served(&two), seconds(2));
    assert_eq!(
        rejections(),
        [("payments.us".into(), "first words".into(), false)]
    );

    put(3);
    assert_eq!(rejections(), [], "a new version of the record");
    get(&one).fate().take();
    put(4);
    let fourth = get(&one);
    assert_eq!(served(&one), seconds(4));
    assert!(rejects("one", &fourth, "words"));
    assert_eq!(rule(&fourth), []);
    assert_eq!(served(&one), seconds(3), "the last that was taken");
    assert_eq!(served(&two), seconds(4), "one may be the odd one");
    assert!(!rejects("two", &fourth, "other words"));
    assert_eq!(served(&two), seconds(3), "the last that was taken");
    assert_eq!(rejections(), [("payments.us".into(), "words".into(), true)]);
    put(5);
    let fifth = get(&one);
    assert!(rejects("one", &fifth, "more words") && !rejects("two", &fifth, "no"));
    assert_eq!(served(&two), seconds(3), "still the last that was taken");
    assert!(fourth.fate().take());
    assert_eq!(rule(&fourth), [], "nobody's version any more");

    // Who comes back after all were gone.
    drop((one, two));
    let three = world.host();
    assert_eq!(served(&three), seconds(3));
    put(3);
    assert_eq!(rejections(), []);
    assert_eq!(served(&three), seconds(3));
    put(5);
    let fifth = get(&three);
    assert!(rejects("one", &fifth, "more words") && fifth.fate().take());
    let changed = (ResourceType::Cluster, "payments.us".into());
    assert_eq!(
        rule(&fifth),
        [changed],
        "those who have the third are to have it"
    );
    assert_eq!(served(&three), seconds(5));

    drop(three);
    assert_eq!(world.resources.in_use(), 0);
    // A record that is gone takes its bad version with it.
    let four = world.host();
    get(&four).fate().take();
    put(6);
    assert!(rejects("one", &get(&four), "words"));
    drop(four);
    assert_eq!(world.resources.in_use(), 1);
    world.maps.services.write().unwrap().remove(&payments);
    world.apply(Affected::Service(payments.clone()));
    assert_eq!(world.resources.in_use(), 0);
}

#[test]
fn pins_are_for_services_that_allow_them() {
    let world = World::new();
    put_service(
        &world.maps,
        Service {
            allow_version_pins: true,
            ..service("payments")
        },
    );
    put_endpoint(
        &world.maps,
        Endpoint {
            version_label: Some("v2".parse().unwrap()),
            ..endpoint("payments", "b", "127.0.0.2:7002")
        },
    );
    let view = world.host();
    assert!(cluster(&*view, "payments@v2.us").is_some());
    assert_eq!(
        endpoints_of(&*view, "payments@v2.us"),
        ["0/ 127.0.0.2 UNKNOWN"]
    );
    assert!(cluster(&*view, "payments@v3.us").is_some());
    assert!(endpoints_of(&*view, "payments@v3.us").is_empty());
}

#[test]
fn a_change_touches_only_what_is_in_use_and_differs() {
    let world = World::new();
    put_service(&world.maps, service("ledger"));
    world.apply(Affected::Service("ledger".parse().unwrap()));
    let view = world.host();
    for name in ["payments.us", "payments.eu", "payments.any", "ledger.us"] {
        assert!(cluster(&*view, name).is_some());
    }
    let payments: ServiceName = "payments".parse().unwrap();
    let nothing: [&str; 0] = [];
    assert_eq!(world.apply(Affected::Endpoints(payments.clone())), nothing);

    put_endpoint(&world.maps, endpoint("payments", "b", "127.0.0.1:7002"));
    assert_eq!(
        world.apply(Affected::Endpoints(payments.clone())),
        ["endpoints payments.any", "endpoints payments.us"]
    );

    let mut slow = service("payments");
    slow.policy.connect_timeout = std::time::Duration::from_secs(9);
    put_service(&world.maps, slow);
    assert_eq!(
        world.apply(Affected::Service(payments.clone())),
        [
            "cluster payments.any",
            "cluster payments.eu",
            "cluster payments.us"
        ]
    );

    let closed = Service {
        access: Some(Vec::new()),
        ..service("ledger")
    };
    put_service(&world.maps, closed);
    assert_eq!(
        world.apply(Affected::Service("ledger".parse().unwrap())),
        ["extension_config isthmus"]
    );

    put_region(&world.maps, region("eu", &["127.0.0.9:15443"], 10));
    assert_eq!(
        world.apply(Affected::Region("eu".parse().unwrap())),
        [
            "secret trust",
            "secret trust.eu",
            "endpoints payments.any",
            "endpoints payments.eu",
            "listener gateway",
        ]
    );
}

#[test]
fn a_region_that_comes_or_goes_is_announced() {
    let world = World::new();
    put_service(&world.maps, service("ledger"));
    world.apply(Affected::Service("ledger".parse().unwrap()));
    let sa: RegionName = "sa".parse().unwrap();
    let everything = [
        "cluster ledger.sa",
        "cluster payments.sa",
        "extension_config isthmus",
    ];
    let announced = |world: &World| {
        let changed = world.apply(Affected::Region(sa.clone()));
        everything.map(|name| changed.contains(&name.to_owned()))
    };
    put_region(&world.maps, region("sa", &["127.0.0.9:1"], 30));
    assert_eq!(announced(&world), [true; 3], "it came");
    put_region(&world.maps, region("sa", &["127.0.0.9:2"], 40));
    assert_eq!(announced(&world), [false; 3], "it changed");
    world.maps.regions.write().unwrap().remove(&sa);
    assert_eq!(announced(&world), [true; 3], "it went");
}

#[test]
fn a_service_that_comes_or_goes_is_announced() {
    let world = World::new();
    let view = world.host();
    let ledger: ServiceName = "ledger".parse().unwrap();
    assert_eq!(standing(&*view, "ledger.us"), "unknown");
    put_service(&world.maps, service("ledger"));
    let changed = world.apply(Affected::Service(ledger.clone()));
    assert!(changed.contains(&"cluster ledger.us".to_owned()));
    assert_eq!(standing(&*view, "ledger.us"), "known");

    world.maps.services.write().unwrap().remove(&ledger);
    let changed = world.apply(Affected::Service(ledger));
    assert!(changed.contains(&"cluster ledger.us".to_owned()));
    assert!(changed.contains(&"endpoints ledger.us".to_owned()));
    assert_eq!(standing(&*view, "ledger.us"), "unknown");
}

#[test]
fn names_that_nobody_vouches_for_are_limited() {
    let limits = Limits {
        per_node: 2,
        in_all: 3,
    };
    let world = World::with_limits(limits);
    let [one, two] = [world.host(), world.host()];
    let exists = |view: &Arc<dyn View>, name| cluster(&**view, name).is_some();
    assert!(exists(&one, "a.eu") && exists(&one, "b.eu"));
    assert!(!exists(&one, "c.eu"), "the node's limit");
    assert!(exists(&one, "payments.eu"), "vouched for");
    assert!(exists(&one, "a.eu"), "what it has, it keeps");
    assert!(
        exists(&one, "x.us") && exists(&one, "y.us"),
        "counted apart"
    );
    assert!(!exists(&one, "z.us"));
    assert!(exists(&two, "a.eu") && exists(&two, "c.eu"));
    let three = world.host();
    assert!(!exists(&three, "d.eu"), "the limit in all");

    put_service(&world.maps, service("a"));
    world.apply(Affected::Service("a".parse().unwrap()));
    assert!(exists(&one, "d.eu"), "a record came for one of its names");
    drop((one, two));
    assert!(
        exists(&three, "e.eu"),
        "nodes that are gone give back theirs"
    );
    drop(three);
    assert_eq!(world.resources.in_use(), 0);
}

#[test]
fn names_are_given_back() {
    let limits = Limits {
        per_node: 2,
        in_all: 2,
    };
    let world = World::with_limits(limits);
    let view = world.host();
    let exists = |name| cluster(&*view, name).is_some();
    let (cds, eds) = (ResourceType::Cluster, ResourceType::Endpoints);
    assert!(exists("a.eu") && exists("b.eu") && !exists("c.eu"));
    view.unused(cds, "c.eu");
    view.unused(eds, "a.eu");
    view.unused(ResourceType::Listener, "a.eu");
    assert!(!exists("c.eu"), "its cluster is in use");
    view.unused(cds, "a.eu");
    view.unused(cds, "a.eu");
    assert!(exists("c.eu") && !exists("a.eu"));
    // Both sides of a name count.
    assert!(view.get(eds, "c.eu").is_some());
    view.unused(cds, "c.eu");
    assert!(!exists("a.eu"), "its endpoints are in use");
    view.unused(eds, "c.eu");
    assert!(exists("a.eu"));
    assert_eq!(world.resources.in_use(), 2);
    drop(view);
    assert_eq!(world.resources.in_use(), 0);
}

#[test]
fn what_a_node_wants_beforehand() {
    let world = World::new();
    put_service(&world.maps, service("a.eu"));
    let cases: [(&str, &[&str], bool, &[&str]); 5] = [
        ("host", &[], false, &[]),
        (
            "host",
            &["payments", "ledger.eu", "x.any", "dotted.name", "???"],
            false,
            &["dotted.name.us", "ledger.eu", "payments.us", "x.any"],
        ),
        ("host", &["new.mars"], false, &["new.mars.us"]),
        (
            "sidecar",
            &[],
            true,
            &[
                "a.eu.ap",
                "a.eu.eu",
                "a.eu.us",
                "payments.ap",
                "payments.eu",
                "payments.us",
            ],
        ),
        ("gateway", &[], true, &["a.eu.us", "payments.us"]),
    ];
    for (kind, uses, eager, wanted) in cases {
        let view = world.view(kind, uses, eager);
        let names = view.wildcard(ResourceType::Cluster);
        let names: Vec<_> = names.iter().map(|name| &**name).collect();
        assert_eq!(names, wanted, "{kind} {uses:?}");
        for name in names {
            assert!(view.covers(ResourceType::Cluster, name), "{name}");
        }
        assert!(!view.covers(ResourceType::Cluster, "nobody.us"));
    }
}

#[test]
fn a_gateway_believes_each_region_for_itself() {
    let world = World::new();
    let view = world.view("gateway", &[], false);
    assert!(view.get(ResourceType::Listener, "outbound").is_none());
    let listener = view.get(ResourceType::Listener, "gateway").unwrap();
    let listener = Listener::decode(listener.body()).unwrap();
    let names: Vec<_> = listener
        .filter_chains
        .iter()
        .flat_map(|chain| chain.filter_chain_match.clone().unwrap().server_names)
        .collect();
    assert_eq!(
        names,
        ["ap.mesh.internal", "eu.mesh.internal", "us.mesh.internal"]
    );
}

#[test]
fn secrets() {
    let world = World::new();
    let view = world.view("gateway", &[], false);
    for (name, holds) in [
        ("identity", Some("spiffe://mesh.internal/region/us/gateway")),
        ("trust", Some("roots of eu\nroots of us")),
        ("trust.eu", Some("roots of eu")),
        ("trust.mars", None),
        ("other", None),
    ] {
        let secret = view.get(ResourceType::Secret, name);
        let body = secret.map(|s| String::from_utf8_lossy(&s.body()).into_owned());
        match holds {
            Some(part) => assert!(body.unwrap().contains(part), "{name}"),
            None => assert_eq!(body, None, "{name}"),
        }
    }
}

#[test]
fn callers_are_spread_as_their_service_or_evenly() {
    let world = World::new();
    for (service, id, at, zone) in [
        ("payments", "z", "127.0.0.1:1", "z1"),
        ("payments", "y", "127.0.0.1:2", "z2"),
        ("orders", "x", "127.0.0.1:3", "z3"),
    ] {
        let endpoint = Endpoint {
            zone: Some(zone.into()),
            ..endpoint(service, id, at)
        };
        put_endpoint(&world.maps, endpoint);
    }
    let sidecar = world.view("sidecar", &[], false);
    let host = world.host();
    assert_eq!(
        world.apply(Affected::Endpoints("payments".parse().unwrap())),
        [
            "endpoints isthmus-callers",
            "endpoints isthmus-callers/orders",
            "endpoints isthmus-callers/payments",
        ],
        "new zones are everybody's"
    );
    let own = || endpoints_of(&*sidecar, "isthmus-callers/orders");
    assert_eq!(own().len(), 2, "orders has no record yet");
    put_service(&world.maps, service("orders"));
    world.apply(Affected::Service("orders".parse().unwrap()));
    assert_eq!(own(), ["0/z3 127.0.0.1 UNKNOWN"]);
    assert_eq!(endpoints_of(&*host, CALLERS).len(), 3);
    let others = sidecar.get(ResourceType::Endpoints, "isthmus-callers/payments");
    assert!(others.is_none(), "not a sidecar of it");
    let more = Endpoint {
        zone: Some("z1".into()),
        ..endpoint("payments", "x", "127.0.0.1:4")
    };
    put_endpoint(&world.maps, more);
    assert_eq!(
        world.apply(Affected::Endpoints("payments".parse().unwrap())),
        ["endpoints isthmus-callers/payments"],
        "a change of shares is the service's own"
    );
}
