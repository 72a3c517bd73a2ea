//! Regions stand alone: what happens between them, or to the other one, is not felt within.

use std::time::Duration;

use isthmus_tests::{Link, Mesh, Region, ems::Node, eventually, http, wait::within};
use serde_json::json;

use crate::stage::{self, none_failed};

#[test]
fn a_cut_between_the_regions() {
    let mesh = Mesh::start().unwrap();
    let (us, eu) = (&mesh.us, &mesh.eu);
    let _us = stage::service(us, "shop", json!({}), "shop-us");
    let _eu = stage::service(eu, "shop", json!({}), "shop-eu");
    for region in ["us", "eu"] {
        stage::reaches(&us.host, "shop", region, &format!("shop-{region}"));
    }
    let here = stage::load(&us.host, "shop", "us");
    let anywhere = stage::load(&us.host, "shop", "any");
    mesh.us_to_eu.cut();
    mesh.eu_to_us.cut();
    eventually("the other region to be out of reach", || {
        us.host
            .get("shop", "eu")
            .is_ok_and(|reply| reply.status == 503)
    })
    .unwrap();
    // New names and new services need nobody else.
    let _new = stage::service(us, "new-shop", json!({}), "new-us");
    here.answered_more(50).unwrap();
    anywhere.answered_more(50).unwrap();
    mesh.us_to_eu.mend();
    mesh.eu_to_us.mend();
    stage::reaches(&us.host, "shop", "eu", "shop-eu");
    none_failed(here);
    none_failed(anywhere);
}

/// Far below the 40 seconds that HTTP/2 pings of idle connections within a region take.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_link_that_falls_silent_is_found_by_the_requests_on_it() {
    let mesh = Mesh::start().unwrap();
    let (us, eu) = (&mesh.us, &mesh.eu);
    let http2 = json!({"protocol": "http2"});
    us.ems.put_service("shop", http2.clone()).unwrap();
    let _eu = stage::service_for(eu, "shop", http2, "shop-eu", &us.host);
    let lost = || us.host.stat("cluster.shop.eu.http2.keepalive_timeout");
    let hasty = http::agent(Duration::from_millis(200));
    let call = http::Call::on(&hasty, "GET", format!("http://{}/", us.host.address()))
        .service("shop")
        .region("eu");
    mesh.us_to_eu.silence();
    assert_eq!(lost().unwrap(), 0);
    within(SOON, "the silent connection to be given up", || {
        let _ = call.send();
        lost().is_ok_and(|count| count > 0)
    })
    .unwrap();
    mesh.us_to_eu.mend();
    stage::reaches(&us.host, "shop", "eu", "shop-eu");
}

#[test]
fn gateways_come_and_go_under_load() {
    let mesh = Mesh::start().unwrap();
    let (us, eu) = (&mesh.us, &mesh.eu);
    let _eu = stage::service_for(eu, "shop", json!({}), "shop-eu", &us.host);
    let second = eu.envoy(&Node::gateway().named("second-gateway")).unwrap();
    let second = Link::to(&second.address())
        .map(|link| (link, second))
        .unwrap();
    let (first_port, second_port) = (mesh.us_to_eu.port(), second.0.port());
    let gateways = |ports: &[u16]| {
        let mut record = us.ems.get_region("eu").unwrap();
        let fields = record.as_object_mut().unwrap();
        fields.retain(|field, _| ["trustBundle", "distance"].contains(&field.as_str()));
        let gateways: Vec<_> = ports
            .iter()
            .map(|port| json!({"address": "127.0.0.1", "port": port}))
            .collect();
        fields.insert("gateways".to_owned(), gateways.into());
        us.ems.put_region("eu", record).unwrap();
    };
    let load = stage::load(&us.host, "shop", "eu");
    load.answered_more(50).unwrap();

    gateways(&[first_port, second_port]);
    eventually("the second gateway to be used", || {
        second.0.connections() > 0
    })
    .unwrap();
    load.answered_more(50).unwrap();
    gateways(&[second_port]);
    eventually("the first gateway to be left", || {
        !us.host.sends_to("shop.eu", first_port)
    })
    .unwrap();
    load.answered_more(50).unwrap();
    gateways(&[first_port]);
    eventually("the second gateway to be left", || {
        !us.host.sends_to("shop.eu", second_port)
    })
    .unwrap();
    load.answered_more(50).unwrap();
    none_failed(load);
}

#[test]
fn the_default_region_is_for_the_operator_to_say() {
    let options = isthmus_tests::ems::EmsOptions {
        region: "us".to_owned(),
        arguments: vec!["--default-region".to_owned(), "eu".to_owned()],
        ..Default::default()
    };
    let us = Region::with(options).unwrap();
    let stage = stage::shared();
    stage.mesh.eu.introduce_to(&us).unwrap();
    let reply = eventually("requests without a region to leave it", || {
        let reply = us
            .host
            .call("GET", "/")
            .service("payments")
            .debug()
            .send()
            .ok()?;
        let receipt = reply.header("x-mesh-receipt")?.to_owned();
        receipt.contains("payments.eu").then_some(receipt)
    })
    .unwrap();
    assert!(reply.contains("kind=remote"), "{reply}");
}
