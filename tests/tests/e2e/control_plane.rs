//! EMS comes, goes and is contradicted; requests do not notice.

use std::time::Duration;

use isthmus_tests::port::Port;
use isthmus_tests::{
    Envoy, Region, WorkDir, artifact, ems::Node, envoy::EnvoyOptions, eventually, within,
};
use isthmus_upstream::Upstream;
use serde_json::{Value, json};

use crate::{
    refusals,
    stage::{self, none_failed, shared},
};

/// What Envoy counts when it takes something from EMS.
fn taken(envoy: &Envoy) -> Vec<(String, u64)> {
    let counters = [
        "cluster_manager.cluster_added",
        "cluster_manager.cluster_modified",
        "cluster_manager.cluster_removed",
        "cluster_manager.cluster_updated",
        "listener_manager.listener_added",
        "listener_manager.listener_modified",
        "listener_manager.lds.update_success",
        "cluster.shop.us.update_success",
    ];
    let stats = envoy.stats().unwrap();
    let mut taken: Vec<(String, u64)> = counters
        .iter()
        .map(|name| {
            (
                (*name).to_owned(),
                stats.get(*name).copied().unwrap_or_default(),
            )
        })
        .collect();
    let reloads = |(name, value): (&String, &u64)| {
        name.ends_with("config_reload")
            .then(|| (name.clone(), *value))
    };
    taken.extend(stats.iter().filter_map(reloads));
    taken
}

#[test]
fn a_restart_costs_no_request_and_no_push() {
    let mut region = Region::start("us").unwrap();
    let upstream = stage::service(&region, "shop", json!({}), "shop-1");
    let load = stage::load(&region.host, "shop", "us");
    load.answered_more(50).unwrap();
    let before = taken(&region.host);
    let connected = |region: &Region| {
        region
            .host
            .stat("control_plane.connected_state")
            .is_ok_and(|state| state == 1)
    };

    for crash in [false, true] {
        if crash {
            region.ems.kill();
        } else {
            region.ems.stop();
        }
        eventually("Envoy to notice", || !connected(&region)).unwrap();
        load.answered_more(50).unwrap();
        region.ems.start_again().unwrap();
        eventually("Envoy to connect again", || connected(&region)).unwrap();
        eventually("EMS to know what Envoy has", || {
            region.ems.nodes().is_ok_and(|nodes| {
                nodes.iter().any(|node| {
                    node["kind"] == "host"
                        && node["resources"].as_array().is_some_and(|r| r.len() >= 4)
                })
            })
        })
        .unwrap();
        load.answered_more(50).unwrap();
        assert_eq!(
            taken(&region.host),
            before,
            "what did not change was sent again"
        );
    }

    // And it is still the one who tells of changes.
    let _second = stage::endpoint(&region, "shop", "shop-2");
    stage::reaches(&region.host, "shop", "us", "shop-2");
    none_failed(load);
    drop(upstream);
}

#[test]
fn without_ems_what_is_known_goes_on_and_what_is_not_is_unresolved() {
    let mut region = Region::start("us").unwrap();
    let _known = stage::service(&region, "known", json!({}), "known-1");
    region.ems.put_service("unseen", json!({})).unwrap();
    let _unseen = stage::endpoint(&region, "unseen", "unseen-1");
    region.ems.stop();

    let unseen = [("x-mesh-service", "unseen"), ("x-mesh-region", "us")];
    refusals::check(&region.host, &unseen, refusals::UNRESOLVED);
    let reply = region.host.get("known", "us").unwrap();
    assert_eq!(reply.json()["upstream"], "known-1", "{reply:?}");

    region.ems.start_again().unwrap();
    stage::reaches(&region.host, "unseen", "us", "unseen-1");
}

#[test]
fn what_was_written_survives_a_crash() {
    let dir = WorkDir::new("crash").unwrap();
    let mut ems = isthmus_tests::Ems::start(&dir, "us").unwrap();
    ems.put_service("kept", json!({"connectTimeout": "3s"}))
        .unwrap();
    ems.put_endpoint("kept", "one", 1234).unwrap();
    let roots = ems.get_region("us").unwrap()["trustBundle"].clone();
    ems.kill();
    ems.start_again().unwrap();
    assert_eq!(
        ems.get("/v1/services/kept").unwrap()["connectTimeout"],
        "3s"
    );
    assert_eq!(
        ems.get("/v1/services/kept/endpoints/one").unwrap()["port"],
        1234
    );
    assert_eq!(
        ems.get_region("us").unwrap()["trustBundle"],
        roots,
        "identities would all be void"
    );
}

#[test]
fn a_rejection_is_shown_and_not_repeated() {
    let stage = shared();
    let us = &stage.mesh.us;
    // An Envoy whose filter is not where its bootstrap says: it cannot take its filter's config.
    let (admin, listen) = (Port::reserve().unwrap(), Port::reserve().unwrap());
    let bootstrap = us
        .ems
        .bootstrap(
            &Node::host("misfit").with(["--uses", "payments"]),
            &admin,
            &listen,
        )
        .unwrap()
        .replace(
            &artifact::filter().unwrap().display().to_string(),
            "/nowhere/isthmus.wasm",
        );
    assert!(bootstrap.contains("/nowhere/isthmus.wasm"), "{bootstrap}");
    let options = EnvoyOptions {
        name: "misfit".to_owned(),
        binary: artifact::envoy().unwrap(),
        bootstrap,
        arguments: Vec::new(),
        admin,
        listen,
        workers: 1,
    };
    let misfit = Envoy::launch(us.dir(), options).unwrap();
    let rejected = || -> Option<Value> {
        let nodes = us.ems.nodes().ok()?;
        let node = nodes.into_iter().find(|node| node["service"] == "misfit")?;
        (rejections(&node) > 0).then_some(node)
    };
    let node = eventually("the rejection to be known", rejected).unwrap();
    let resource = node["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|resource| resource["state"] == "rejected")
        .unwrap_or_else(|| panic!("no rejected resource in {node}"));
    assert!(
        resource["error"]
            .as_str()
            .unwrap()
            .contains("/nowhere/isthmus.wasm"),
        "{resource}"
    );

    // Without a filter nothing is routed, least of all where the caller says.
    let forged = || {
        misfit
            .call("GET", "/")
            .service("payments")
            .header("x-mesh-destination", "payments.us")
            .send()
            .ok()
            .filter(|_| misfit.has_cluster("payments.us"))
    };
    let reply = eventually("the listener, and a cluster to be misled to", forged).unwrap();
    assert_eq!(reply.status, 500, "{reply:?}");
    let sent_on = misfit.stat("cluster.payments.us.upstream_rq_total");
    assert_eq!(sent_on.unwrap(), 0, "{reply:?}");

    let status = us.ems.run(["status"]).unwrap();
    assert!(
        status.contains("misfit") && status.contains("/nowhere/isthmus.wasm"),
        "{status}"
    );

    // Another record changes, the rejected resource does not: it must not be sent again.
    let count = rejections(&node);
    us.ems.put_service("unrelated", json!({})).unwrap();
    let again = within(Duration::from_secs(2), "nothing", || {
        rejected().is_some_and(|node| rejections(&node) > count)
    });
    assert!(
        again.is_err(),
        "the rejected resource was sent again: {:?}",
        rejected()
    );
}

fn rejections(node: &Value) -> u64 {
    // Canonical protobuf JSON writes 64-bit numbers as texts, and leaves zeros out.
    let count = &node["rejections"];
    count
        .as_u64()
        .or_else(|| count.as_str()?.parse().ok())
        .unwrap_or_default()
}

#[test]
fn status_lists_every_envoy() {
    let stage = shared();
    for region in [&stage.mesh.eu, &stage.mesh.us] {
        let status = region.ems.run(["status"]).unwrap();
        for word in ["host", "gateway", "client"] {
            assert!(status.contains(word), "{word} is not in:\n{status}");
        }
    }
}

#[test]
fn explain_agrees_with_the_data_plane() {
    let stage = shared();
    let us = &stage.mesh.us;
    let put = |name: &str, record| us.ems.put_service(name, record).unwrap();
    put("explain-denied", json!({"access": {"allow": []}}));
    put("explain-pinned", json!({"allowVersionPins": true}));
    let _drained = stage::service(us, "explain-drained", json!({}), "drained");
    us.ems.drain_endpoint("explain-drained", "drained").unwrap();
    eventually("the new services to be known", || {
        let code = |service| {
            us.host
                .get(service, "us")
                .unwrap()
                .error()
                .map(str::to_owned)
        };
        code("explain-denied").as_deref() == Some("denied")
            && code("explain-drained").as_deref() == Some("no_healthy_endpoint")
    })
    .unwrap();
    for (service, region, version) in [
        ("payments", "us", None),
        ("payments", "eu", None),
        ("payments", "any", None),
        ("payments", "mars", None),
        ("nobody", "us", None),
        ("no_name", "us", None),
        ("payments", "us", Some("v9")),
        ("explain-denied", "us", None),
        ("explain-drained", "us", None),
        ("explain-pinned", "us", Some("v9")),
    ] {
        let pin = version.map(|version| format!("x-mesh-version={version}"));
        let mut call = us.host.call("GET", "/").service(service).region(region);
        let mut words = vec!["explain", "--service", service, "--region", region];
        if let (Some(version), Some(pin)) = (version, &pin) {
            call = call.header("x-mesh-version", version);
            words.extend(["--header", pin]);
        }
        let reply = call.send().unwrap();
        let text = match us.ems.run(words) {
            Ok(text) => text,
            Err(error) => format!("{error:#}"),
        };
        let expect = match reply.error() {
            Some(code) => code.to_owned(),
            None => format!("{service}.{region}"),
        };
        assert!(
            text.contains(&expect),
            "{service} {region} {version:?}: {expect} is not in {text}"
        );
    }
}

#[test]
fn a_warm_sidecar_knows_what_it_uses() {
    let stage = shared();
    let us = &stage.mesh.us;
    let node = Node::sidecar("warm").with(["--uses", "payments,payments.eu"]);
    let sidecar = us.envoy(&node).unwrap();
    eventually("both clusters without a request", || {
        sidecar.has_cluster("payments.us") && sidecar.has_cluster("payments.eu")
    })
    .unwrap();
    assert_eq!(
        sidecar.get("payments", "eu").unwrap().json()["upstream"],
        "eu-1"
    );
    let reply = sidecar.get("payments", "us").unwrap();
    assert_eq!(reply.json()["headers"]["x-mesh-caller"], "us/warm");
}

#[test]
fn an_eager_host_knows_everything() {
    let stage = shared();
    let us = &stage.mesh.us;
    let host = us.envoy(&Node::host("eager").with(["--eager"])).unwrap();
    eventually("the clusters of this region without a request", || {
        host.has_cluster("payments.us")
    })
    .unwrap();
    us.ems.put_service("eagerly-awaited", json!({})).unwrap();
    eventually("a new one as well", || {
        host.has_cluster("eagerly-awaited.us")
    })
    .unwrap();
    assert_eq!(
        host.get("payments", "eu").unwrap().json()["upstream"],
        "eu-1",
        "on demand too"
    );
}

#[test]
fn others_are_not_disturbed_by_a_change() {
    let stage = shared();
    let us = &stage.mesh.us;
    let _quiet = stage::service(us, "quiet", json!({}), "quiet-1");
    let updates = || us.host.stat("cluster.quiet.us.update_success").unwrap();
    let before = updates();
    let loud = stage::service(us, "loud", json!({}), "loud-1");
    let _more: Vec<Upstream> = (2..5)
        .map(|n| stage::endpoint(us, "loud", &format!("loud-{n}")))
        .collect();
    stage::reaches(&us.host, "loud", "us", "loud-4");
    assert_eq!(updates(), before);
    let load = stage::load(&us.host, "quiet", "us");
    load.answered_more(10).unwrap();
    none_failed(load);
    drop(loud);
}
