//! What a service's policy does to requests. That every field of it reaches Envoy is tested beside the code that writes
//! clusters, in `ems/tests/policy.rs`.

use isthmus_tests::{Load, eventually};
use serde_json::json;

use crate::stage::{self, shared};

#[test]
fn an_endpoint_that_is_not_there_is_passed_over() {
    let stage = shared();
    let us = &stage.mesh.us;
    let _upstream = stage::service(us, "half-there", json!({}), "half-1");
    // Nobody listens there, and connections are refused.
    let nobody = isthmus_tests::Port::reserve().unwrap();
    us.ems
        .put_endpoint("half-there", "half-2", nobody.number())
        .unwrap();
    eventually("both to be known", || {
        us.host.sends_to("half-there.us", nobody.number())
    })
    .unwrap();
    let load: Load = stage::load(&us.host, "half-there", "us");
    load.answered_more(100).unwrap();
    stage::none_failed(load);
}

#[test]
fn equal_keys_go_to_one_endpoint() {
    let stage = shared();
    let us = &stage.mesh.us;
    let record = json!({"loadBalancing": "maglev", "hashPolicy": [{"header": "x-user"}]});
    us.ems.put_service("sticky", record).unwrap();
    let upstreams: Vec<_> = (0..4)
        .map(|n| stage::endpoint(us, "sticky", &format!("sticky-{n}")))
        .collect();
    us.host.get("sticky", "us").unwrap();
    for upstream in &upstreams {
        eventually("all four to be known", || {
            us.host.sends_to("sticky.us", upstream.port())
        })
        .unwrap();
    }
    let mut used = std::collections::BTreeSet::new();
    for user in 0..20 {
        let ask = || {
            let call = us
                .host
                .call("GET", "/")
                .service("sticky")
                .header("x-user", user.to_string());
            call.send().unwrap().json()["upstream"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let first = ask();
        assert_eq!(ask(), first, "user {user}");
        used.insert(first);
    }
    assert!(used.len() > 1, "all users on {used:?}");
}

#[test]
fn a_stream_that_takes_too_long_is_ended() {
    let stage = shared();
    let us = &stage.mesh.us;
    let _upstream = stage::service(us, "slow", json!({"maxStreamDuration": "0.3s"}), "slow-1");
    let reply = us
        .host
        .call("GET", "/?delay_ms=5000")
        .service("slow")
        .send()
        .unwrap();
    assert_eq!(reply.status, 504, "{reply:?}");
}
