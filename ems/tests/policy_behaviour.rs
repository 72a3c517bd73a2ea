//! What policy does to requests: real Envoys, real upstreams, two regions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "policy/region.rs"]
mod region;

use std::time::{Duration, Instant};

use isthmus_tests::{Call, Envoy, Load, Port, Reply, eventually, http};
use isthmus_upstream::{Client, Upstream};
use region::Region;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(10);

/// Two regions that know each other, a gateway in each, and a host Envoy in `us`.
struct World {
    us: Region,
    eu: Region,
    host: Envoy,
    _gateway: Envoy,
}

impl World {
    fn start() -> Self {
        let (us, eu) = (Region::start("us"), Region::start("eu"));
        us.region(&us, 1, 0);
        eu.region(&eu, 1, 0);
        eu.region(&us, 1, 10);
        us.region(&eu, 1, 10);
        let gateway = eu.envoy("gateway", &[]);
        us.region(&eu, gateway.port(), 10);
        let host = us.envoy("host", &["--service", "orders"]);
        Self {
            us,
            eu,
            host,
            _gateway: gateway,
        }
    }
}

/// Steady requests for `payments` in `us`.
fn load(envoy: &Envoy) -> Load {
    let (url, agent) = (format!("http://{}/", envoy.address()), http::agent(LIMIT));
    Load::start(2, Duration::from_millis(2), move || {
        let call = Call::on(&agent, "GET", url.clone());
        let reply = call.service("payments").region("us").send()?.ok()?;
        Ok(who(&reply))
    })
}

/// Who answered.
fn who(reply: &Reply) -> String {
    reply.json()["upstream"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn requests_arrive_over_either_protocol_here_and_there() {
    let world = World::start();
    let (here, there) = (
        Upstream::start("here").unwrap(),
        Upstream::start("there").unwrap(),
    );
    for (region, upstream) in [(&world.us, &here), (&world.eu, &there)] {
        region.service("payments", json!({}));
        region.endpoint("payments", "a", upstream.port(), json!({}));
    }
    for (region, id) in [("us", "here"), ("eu", "there"), ("any", "here")] {
        let reply = world.host.get("payments", region).unwrap();
        assert_eq!(
            (reply.status, who(&reply)),
            (200, id.to_owned()),
            "{region}"
        );
    }
    // A service that only the other region knows, and one that nobody knows.
    world.eu.service("ledger", json!({}));
    world.eu.endpoint("ledger", "a", there.port(), json!({}));
    for region in ["eu", "any"] {
        let reply = world.host.get("ledger", region).unwrap();
        assert_eq!(who(&reply), "there", "{region}: {reply:?}");
    }
    for region in ["us", "eu", "any"] {
        let reply = world.host.get("nobody", region).unwrap();
        assert_eq!(
            (reply.status, reply.error()),
            (404, Some("unknown_service")),
            "{region}"
        );
    }
    world.us.delete_endpoint("payments", "a");
    eventually("`any` leaves the region", || {
        who(&world.host.get("payments", "any").unwrap()) == "there"
    })
    .unwrap();
    let reply = world.host.get("payments", "us").unwrap();
    assert_eq!(
        (reply.status, reply.error()),
        (503, Some("no_healthy_endpoint"))
    );
    for region in [&world.us, &world.eu] {
        assert_eq!(region.rejections(), Vec::<String>::new());
    }
}

/// Half of the local endpoints drain: the others keep every request here, as nobody else is needed.
#[test]
fn any_stays_here_while_somebody_here_is_healthy() {
    let world = World::start();
    let there = Upstream::start("there").unwrap();
    world.eu.service("payments", json!({}));
    world.eu.endpoint("payments", "a", there.port(), json!({}));
    world.us.service("payments", json!({}));
    let here: Vec<_> = (0..4).map(|_| Upstream::start("here").unwrap()).collect();
    let put = |n: usize, draining: bool| {
        let record = json!({"draining": draining});
        let port = here[n].port();
        world
            .us
            .endpoint("payments", &format!("e{n}"), port, record);
    };
    let remote = || {
        let replies = (0..100).map(|_| who(&world.host.get("payments", "any").unwrap()));
        replies.filter(|who| who != "here").count()
    };
    (0..4).for_each(|n| put(n, false));
    assert_eq!(remote(), 0);
    for draining in [2, 3] {
        (0..draining).for_each(|n| put(n, true));
        eventually("the drained are known", || {
            // The gateway is healthy too.
            let healthy = world.host.stat("cluster.payments.any.membership_healthy");
            healthy.unwrap() == 4 - draining as u64 + 1
        })
        .unwrap();
        assert_eq!(remote(), 0, "{draining} of 4 drain");
    }
}

/// One of the local endpoints is gone and nobody said so: the others are tried before another region is, and with
/// retries off too, as nobody has seen the request.
#[test]
fn any_tries_here_again_before_it_leaves() {
    let world = World::start();
    let there = Upstream::start("there").unwrap();
    let here: Vec<_> = (0..3).map(|_| Upstream::start("here").unwrap()).collect();
    let gone = Port::reserve().unwrap();
    world.eu.service("payments", json!({}));
    world.eu.endpoint("payments", "a", there.port(), json!({}));
    for attempts in [2, 0] {
        let policy =
            json!({"retries": {"attempts": attempts}, "outlierDetection": {"disabled": true}});
        world.us.service("payments", policy);
        for (n, upstream) in here.iter().enumerate() {
            let id = format!("e{n}");
            world
                .us
                .endpoint("payments", &id, upstream.port(), json!({}));
        }
        world
            .us
            .endpoint("payments", "gone", gone.number(), json!({}));
        let replies = (0..100).map(|_| who(&world.host.get("payments", "any").unwrap()));
        let elsewhere = replies.filter(|who| who != "here").count();
        // Envoy picks at random and gives up to avoid the endpoint that failed after five times.
        assert!(
            elsewhere <= 2,
            "{elsewhere} of 100 with {attempts} attempts"
        );
        let failed = world
            .host
            .stat("cluster.payments.any.upstream_cx_connect_fail");
        assert!(failed.unwrap() > 0, "the endpoint that is gone was tried");
    }
}

#[test]
fn a_changed_policy_counts_at_once_and_fails_no_request() {
    let world = World::start();
    let here = Upstream::start("here").unwrap();
    world.us.service("payments", json!({}));
    world.us.endpoint("payments", "a", here.port(), json!({}));
    let (url, agent) = (
        format!("http://{}/", world.host.address()),
        http::agent(LIMIT),
    );
    let load = Load::start(2, Duration::from_millis(2), move || {
        let call = Call::on(&agent, "GET", url.clone());
        let reply = call.service("payments").region("us").send()?.ok()?;
        Ok(who(&reply))
    });
    load.answered_more(20).unwrap();
    for seconds in ["2s", "3s", "4s"] {
        let since = Instant::now();
        world
            .us
            .service("payments", json!({"connectTimeout": seconds}));
        eventually("the new policy", || {
            let cluster = world.host.cluster("payments.us").unwrap();
            cluster["connect_timeout"] == json!(seconds)
        })
        .unwrap();
        // Envoy's wait for endpoints that nobody sends is 5 s.
        assert!(
            since.elapsed() < Duration::from_secs(3),
            "{:?}",
            since.elapsed()
        );
    }
    let report = load.finish();
    assert_eq!(report.failed, 0, "{:?}", report.failures);
}

/// Past a limit callers are told so in the words of the contract, each in its own form.
#[test]
fn a_full_circuit_breaker_is_a_refusal() {
    let world = World::start();
    let here = Upstream::start("here").unwrap();
    let closed = json!({"circuitBreakers": {"maxRequests": 0, "maxPendingRequests": 0}});
    world.us.service("payments", closed);
    world.us.endpoint("payments", "a", here.port(), json!({}));
    let refused = |content_type: &str| {
        let call = world.host.call("GET", "/").service("payments");
        call.header("content-type", content_type).send().unwrap()
    };
    // gRPC-Web is not gRPC.
    for content_type in ["text/plain", "application/grpc-web", "application/grpcish"] {
        let reply = refused(content_type);
        assert_eq!(
            (reply.status, reply.error()),
            (503, Some("no_healthy_endpoint")),
            "{content_type}: {reply:?}"
        );
        assert_eq!(
            reply.json()["error"],
            "no_healthy_endpoint",
            "{content_type}"
        );
    }
    let client = Client::new(&world.host.address()).unwrap();
    let refused = client.say(&[("x-mesh-service", "payments")], "hi");
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    assert_eq!(
        refused.message(),
        "its circuit breakers let no more requests through now: payments.us"
    );
}

#[test]
fn an_unknown_service_is_refused_at_once_every_time_until_it_is_there() {
    let world = World::start();
    for attempt in 0..3 {
        let since = Instant::now();
        let reply = world.host.get("late", "us").unwrap();
        assert_eq!(
            (reply.status, reply.error()),
            (404, Some("unknown_service"))
        );
        assert!(
            since.elapsed() < Duration::from_secs(2),
            "attempt {attempt}: {:?}",
            since.elapsed()
        );
    }
    let client = Client::new(&world.host.address()).unwrap();
    let refused = client.say(&[("x-mesh-service", "late")], "hi").unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused:?}");
    assert_eq!(refused.message(), "no such service: late.us");
    assert_eq!(
        refused.metadata().get("x-mesh-error").unwrap(),
        "unknown_service"
    );

    let here = Upstream::start("here").unwrap();
    world.us.service("late", json!({}));
    world.us.endpoint("late", "a", here.port(), json!({}));
    eventually("the service is there", || {
        world.host.get("late", "us").unwrap().status == 200
    })
    .unwrap();
}

/// Endpoints in two zones, an Envoy in one of them: its own zone is preferred as far as it can take the load.
#[test]
fn zones() {
    let world = World::start();
    let near = Upstream::start("near").unwrap();
    let far: Vec<_> = (0..3).map(|_| Upstream::start("far").unwrap()).collect();
    for (name, disabled) in [("aware", false), ("unaware", true)] {
        let zones = json!({"zoneAwareness": {"disabled": disabled, "minClusterSize": 2}});
        world.us.service(name, zones);
        world
            .us
            .endpoint(name, "near", near.port(), json!({"zone": "z1"}));
    }
    world
        .us
        .endpoint("aware", "far", far[0].port(), json!({"zone": "z2"}));
    for (n, upstream) in far.iter().enumerate() {
        world.us.endpoint(
            "unaware",
            &format!("far{n}"),
            upstream.port(),
            json!({"zone": "z2"}),
        );
    }
    let envoy = world.us.envoy(
        "host",
        &["--service", "billing", "--zone", "z1", "--node-id", "z1"],
    );
    let share = |service: &str| {
        let replies = (0..60).map(|_| who(&envoy.get(service, "us").unwrap()));
        replies.filter(|who| who == "near").count()
    };
    // Half of the endpoints for half of the callers: all of the zone's load stays.
    assert_eq!(share("aware"), 60);
    let spread = share("unaware");
    assert!((1..40).contains(&spread), "{spread} of 60");
    // A service that runs in this zone alone: half of the endpoints for all of its callers.
    world.us.service("orders", json!({}));
    world
        .us
        .endpoint("orders", "a", near.port(), json!({"zone": "z1"}));
    let sidecar = world
        .us
        .envoy("sidecar", &["--service", "orders", "--zone", "z1"]);
    let replies = (0..60).map(|_| who(&sidecar.get("aware", "us").unwrap()));
    let stays = replies.filter(|who| who == "near").count();
    assert!((10..50).contains(&stays), "{stays} of 60");
    // Now the zone has a quarter of the endpoints for half of the callers: half of its load goes elsewhere.
    for (n, upstream) in far.iter().enumerate().skip(1) {
        world.us.endpoint(
            "aware",
            &format!("far{n}"),
            upstream.port(),
            json!({"zone": "z2"}),
        );
    }
    eventually("the other zone helps out", || {
        (10..50).contains(&share("aware"))
    })
    .unwrap();
}

#[test]
fn endpoints_come_drain_and_go_and_no_request_fails() {
    let world = World::start();
    let [a, b] = ["a", "b"].map(|id| Upstream::start(id).unwrap());
    world.us.service("payments", json!({}));
    world.us.endpoint("payments", "a", a.port(), json!({}));
    let load = load(&world.host);
    load.answered_more(20).unwrap();
    let moved = |from: &str, to: &str| {
        eventually(&format!("requests move from {from} to {to}"), || {
            let before = load.report();
            load.answered_more(20).unwrap();
            let after = load.report();
            after.by(from) == before.by(from) && after.by(to) > before.by(to)
        })
        .unwrap();
    };
    world.us.endpoint("payments", "b", b.port(), json!({}));
    eventually("b has its share", || load.report().by("b") > 5).unwrap();
    world
        .us
        .endpoint("payments", "a", a.port(), json!({"draining": true}));
    moved("a", "b");
    world.us.endpoint("payments", "a", a.port(), json!({}));
    eventually("a is back", || {
        let before = load.report().by("a");
        load.answered_more(10).unwrap();
        load.report().by("a") > before
    })
    .unwrap();
    world.us.delete_endpoint("payments", "b");
    moved("b", "a");
    let report = load.finish();
    assert_eq!(report.failed, 0, "{:?}", report.failures);
}

#[test]
fn what_a_node_uses_is_there_beforehand_and_the_rest_on_demand() {
    let us = Region::start("us");
    us.region(&us, 1, 0);
    let here = Upstream::start("here").unwrap();
    for name in ["payments", "ledger"] {
        us.service(name, json!({}));
        us.endpoint(name, "a", here.port(), json!({}));
    }
    let envoy = us.envoy(
        "sidecar",
        &["--service", "orders", "--uses", "payments,later"],
    );
    assert!(envoy.has_cluster("payments.us") && !envoy.has_cluster("ledger.us"));
    let since = Instant::now();
    for (name, status) in [
        ("payments", 200),
        ("ledger", 200),
        ("later", 404),
        ("nobody", 404),
        ("nobody", 404),
    ] {
        assert_eq!(envoy.get(name, "us").unwrap().status, status, "{name}");
    }
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "{:?}",
        since.elapsed()
    );
    us.service("later", json!({}));
    us.endpoint("later", "a", here.port(), json!({}));
    eventually("the service is there", || {
        envoy.get("later", "us").unwrap().status == 200
    })
    .unwrap();
    assert_eq!(us.rejections(), Vec::<String>::new());
}

#[test]
fn an_eager_node_has_everything_beforehand() {
    let us = Region::start("us");
    us.region(&us, 1, 0);
    us.service("payments", json!({}));
    let envoy = us.envoy("host", &["--service", "orders", "--eager"]);
    assert!(envoy.has_cluster("payments.us"));
    us.service("ledger", json!({}));
    eventually("the new service", || envoy.has_cluster("ledger.us")).unwrap();
    assert_eq!(us.rejections(), Vec::<String>::new());
}
