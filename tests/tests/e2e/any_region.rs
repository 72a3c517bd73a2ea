//! `any`: the nearest region that can, local endpoints first.

use isthmus_tests::eventually;
use serde_json::json;

use crate::stage::{self, none_failed, shared};

#[test]
fn local_endpoints_first_then_the_other_region() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let _eu = stage::service(eu, "roaming", json!({}), "roaming-eu");
    let _us = stage::service(us, "roaming", json!({}), "roaming-us");
    stage::reaches(&us.host, "roaming", "any", "roaming-us");

    let load = stage::load(&us.host, "roaming", "any");
    load.answered_more(50).unwrap();
    assert_eq!(load.report().by("roaming-eu"), 0, "{:?}", load.report());
    us.ems.delete_endpoint("roaming", "roaming-us").unwrap();
    eventually("the other region to take over", || {
        load.report().by("roaming-eu") > 20
    })
    .unwrap();
    us.ems
        .put_endpoint("roaming", "roaming-us", _us.port())
        .unwrap();
    let before = load.report().by("roaming-us");
    eventually("the local endpoint to be used again", || {
        load.report().by("roaming-us") > before + 20
    })
    .unwrap();
    none_failed(load);
}

#[test]
fn a_service_that_only_another_region_has() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let _eu = stage::service(eu, "only-eu", json!({}), "only-eu-1");
    stage::reaches(&us.host, "only-eu", "any", "only-eu-1");
    stage::refuses(&us.host, "only-eu", "us", "unknown_service");
    stage::refuses(&us.host, "nowhere", "any", "unknown_service");
}

/// Health checks notice what nobody told: local endpoints that are gone.
#[test]
fn unhealthy_local_endpoints() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let check = json!({"healthCheck": {
        "interval": "0.2s", "timeout": "0.2s", "unhealthyThreshold": 1, "healthyThreshold": 1,
        "http": {"path": "/healthz"},
    }});
    let _eu = stage::service(eu, "checked", json!({}), "checked-eu");
    let local = stage::service(us, "checked", check, "checked-us");
    stage::reaches(&us.host, "checked", "any", "checked-us");
    drop(local);
    stage::reaches(&us.host, "checked", "any", "checked-eu");
    stage::refuses(&us.host, "checked", "us", "no_healthy_endpoint");
}
