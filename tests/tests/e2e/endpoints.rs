//! Endpoints come and go under load, and no request fails.

use std::time::Duration;

use isthmus_tests::{Load, eventually, within};
use isthmus_upstream::Upstream;
use serde_json::json;

use crate::stage::{self, Shown, Stage, none_failed, shared};

/// A service of region us with endpoints a, b, c, and load on it from both regions.
struct UnderLoad {
    stage: Shown<&'static Stage>,
    upstreams: Vec<Upstream>,
    local: Load,
    remote: Load,
}

impl UnderLoad {
    fn start(service: &'static str, ids: &[&str], path: &str) -> UnderLoad {
        let stage = shared();
        let us = &stage.mesh.us;
        us.ems.put_service(service, json!({})).unwrap();
        let upstreams: Vec<Upstream> = ids
            .iter()
            .map(|id| stage::endpoint(us, service, id))
            .collect();
        for id in ids {
            for host in [&us.host, &stage.mesh.eu.host] {
                stage::reaches(host, service, "us", id);
            }
        }
        let local = stage::load_at(&us.host, service, "us", path);
        let remote = stage::load_at(&stage.mesh.eu.host, service, "us", path);
        let under_load = UnderLoad {
            stage,
            upstreams,
            local,
            remote,
        };
        under_load.go_on();
        under_load
    }

    fn go_on(&self) {
        self.local.answered_more(50).unwrap();
        self.remote.answered_more(50).unwrap();
    }

    /// Waits until an endpoint takes part, in what comes from both regions.
    fn joins(&self, id: &str) {
        for load in [&self.local, &self.remote] {
            let before = load.report().by(id);
            eventually(&format!("{id} to take part"), || {
                load.report().by(id) > before + 5
            })
            .unwrap();
        }
    }

    /// Waits until an endpoint gets nothing any more.
    fn leaves(&self, upstream: &Upstream) {
        eventually(&format!("{} to be left alone", upstream.id()), || {
            let before = upstream.requests();
            self.go_on();
            upstream.requests() == before && upstream.in_flight() == 0
        })
        .unwrap();
    }

    fn none_failed(self) {
        self.go_on();
        none_failed(self.local);
        none_failed(self.remote);
    }
}

#[test]
fn an_endpoint_is_added() {
    let test = UnderLoad::start("adding", &["add-a"], "/");
    let _b = stage::endpoint(&test.stage.mesh.us, "adding", "add-b");
    test.joins("add-b");
    test.none_failed();
}

#[test]
fn an_endpoint_is_removed() {
    let mut test = UnderLoad::start("removing", &["rem-a", "rem-b"], "/?delay_ms=20");
    let b = test.upstreams.pop().unwrap();
    test.stage
        .mesh
        .us
        .ems
        .delete_endpoint("removing", "rem-b")
        .unwrap();
    test.leaves(&b);
    b.finish().unwrap();
    test.none_failed();
}

#[test]
fn an_endpoint_is_drained_with_slow_requests_under_way() {
    let mut test = UnderLoad::start("draining", &["drain-a", "drain-b"], "/?delay_ms=150");
    let b = test.upstreams.pop().unwrap();
    test.stage
        .mesh
        .us
        .ems
        .drain_endpoint("draining", "drain-b")
        .unwrap();
    test.leaves(&b);
    let record = test
        .stage
        .mesh
        .us
        .ems
        .get("/v1/services/draining/endpoints/drain-b")
        .unwrap();
    assert_eq!(record["draining"], true, "{record}");

    // A heartbeat does not bring it back, and to say so does.
    let ems = &test.stage.mesh.us.ems;
    let heartbeat = ems.put_endpoint("draining", "drain-b", b.port()).unwrap();
    assert_eq!(heartbeat.json()["draining"], true, "{heartbeat:?}");
    let back = json!({"address": "127.0.0.1", "port": b.port(), "draining": false});
    ems.put_endpoint_record("draining", "drain-b", back)
        .unwrap();
    test.joins("drain-b");
    test.none_failed();
}

#[test]
fn a_lease_ends() {
    let test = UnderLoad::start("leasing", &["lease-a", "lease-b"], "/");
    let ems = &test.stage.mesh.us.ems;
    let mortal = Upstream::start("lease-c").unwrap();
    let record = json!({"address": "127.0.0.1", "port": mortal.port(), "ttl": 2});
    for _ in 0..3 {
        ems.put_endpoint_record("leasing", "lease-c", record.clone())
            .unwrap();
        test.joins("lease-c");
    }
    // No heartbeat any more.
    within(Duration::from_secs(30), "the record to go", || {
        ems.call("GET", "/v1/services/leasing/endpoints/lease-c")
            .send()
            .is_ok_and(|reply| reply.status == 404)
    })
    .unwrap();
    test.leaves(&mortal);
    test.none_failed();
}

#[test]
fn all_leases_at_once_are_held() {
    let stage = shared();
    let us = &stage.mesh.us;
    us.ems.put_service("holding", json!({})).unwrap();
    let upstreams: Vec<Upstream> = (0..4)
        .map(|n| Upstream::start(&format!("hold-{n}")).unwrap())
        .collect();
    for upstream in &upstreams {
        let record = json!({"address": "127.0.0.1", "port": upstream.port(), "ttl": 2});
        us.ems
            .put_endpoint_record("holding", upstream.id(), record)
            .unwrap();
    }
    stage::reaches(&us.host, "holding", "us", "hold-0");
    let load = stage::load(&us.host, "holding", "us");
    // As if all heartbeats were lost on the way. `/healthz` reckons for itself, the log is by who removes endpoints.
    eventually("all four leases to be held", || {
        let held = us.ems.get("/healthz")?["heldLeases"]["holding"].clone();
        let ids = held.as_array().map_or(0, Vec::len);
        anyhow::ensure!(ids == upstreams.len(), "{held}");
        let log = us.ems.log();
        let is_told = |line: &str| {
            line.contains("leases are running out at once") && line.contains("service=holding")
        };
        anyhow::ensure!(log.lines().any(is_told), "it was not told");
        Ok(())
    })
    .unwrap();
    load.answered_more(50).unwrap();
    none_failed(load);
    let endpoints = us.ems.get("/v1/services/holding/endpoints").unwrap();
    assert_eq!(
        endpoints["endpoints"].as_array().map(Vec::len),
        Some(4),
        "{endpoints}"
    );
}

#[test]
fn a_new_service_is_reachable_without_a_restart() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    // Asked for before it exists, so that "does not exist" has been told to everybody.
    for host in [&us.host, &eu.host] {
        stage::refuses(host, "newborn", "us", "unknown_service");
    }
    us.ems.put_service("newborn", json!({})).unwrap();
    stage::refuses(&us.host, "newborn", "us", "no_healthy_endpoint");
    let _upstream = stage::endpoint(us, "newborn", "newborn-1");
    for host in [&us.host, &eu.host] {
        stage::reaches(host, "newborn", "us", "newborn-1");
    }
    us.ems.delete_service("newborn").unwrap();
    for host in [&us.host, &eu.host] {
        stage::refuses(host, "newborn", "us", "unknown_service");
    }
}

#[test]
fn an_endpoint_may_have_a_name_for_an_address() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    us.ems.put_service("named", json!({})).unwrap();
    let upstream = Upstream::start("named-1").unwrap();
    let record = json!({"address": "localhost", "port": upstream.port()});
    us.ems
        .put_endpoint_record("named", "named-1", record)
        .unwrap();
    for host in [&us.host, &eu.host] {
        stage::reaches(host, "named", "us", "named-1");
    }
    // And from a name to an address, without a gap.
    let load = stage::load(&us.host, "named", "us");
    let _second = stage::endpoint(us, "named", "named-2");
    us.ems.delete_endpoint("named", "named-1").unwrap();
    eventually("the other to take over", || {
        load.report().by("named-2") > 20
    })
    .unwrap();
    none_failed(load);
}
