//! Versions of records, and what is pushed because of a write: as little as possible.

use serde_json::json;

use crate::stage::{self, shared};

#[test]
fn a_stale_version_is_refused() {
    let stage = shared();
    let ems = &stage.mesh.us.ems;
    let put = |record| {
        ems.call("PUT", "/v1/services/versioned")
            .json(&record)
            .send()
            .unwrap()
    };
    let first = put(json!({"version": 5, "connectTimeout": "2s"}));
    assert_eq!(first.status / 100, 2, "{first:?}");
    let stored = |expected: u64| {
        let version = &ems.get("/v1/services/versioned").unwrap()["version"];
        // Canonical protobuf JSON writes 64-bit numbers as texts.
        assert_eq!(
            version
                .as_str()
                .map(str::to_owned)
                .or(Some(version.to_string())),
            Some(expected.to_string())
        );
    };
    stored(5);
    for (record, what) in [
        (json!({"version": 4, "connectTimeout": "3s"}), "lower"),
        (
            json!({"version": 5, "connectTimeout": "3s"}),
            "equal and different",
        ),
    ] {
        let refused = put(record);
        assert_eq!(refused.status, 409, "{what}: {refused:?}");
        assert_eq!(
            refused.header("content-type"),
            Some("application/problem+json"),
            "{refused:?}"
        );
        let problem = refused.json();
        assert_eq!(problem["status"], 409, "{problem}");
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|text| text.contains('5')),
            "{problem}"
        );
        stored(5);
    }
    let same = put(json!({"version": 5, "connectTimeout": "2s"}));
    assert_eq!(same.status / 100, 2, "equal and identical: {same:?}");
    stored(5);
    let assigned = put(json!({"connectTimeout": "3s"}));
    assert_eq!(assigned.status / 100, 2, "without a version: {assigned:?}");
    stored(6);
}

#[test]
fn bad_writes_name_every_field_at_fault() {
    let stage = shared();
    let ems = &stage.mesh.us.ems;
    for (path, record, status, words) in [
        ("/v1/services/no_name", json!({}), 400, vec!["name"]),
        (
            "/v1/services/bad",
            json!({"connectTimeout": "-1s", "outlierDetection": {"maxEjectionPercent": 101}}),
            400,
            vec!["connectTimeout", "maxEjectionPercent"],
        ),
        (
            "/v1/services/bad",
            json!({"conectTimeout": "1s"}),
            400,
            vec!["conectTimeout"],
        ),
        (
            "/v1/services/payments/endpoints/x",
            json!({"address": "127.0.0.1", "port": 0}),
            400,
            vec!["port"],
        ),
        (
            "/v1/services/unheard-of/endpoints/x",
            json!({"address": "127.0.0.1", "port": 1}),
            404,
            vec!["unheard-of"],
        ),
    ] {
        let reply = ems.call("PUT", path).json(&record).send().unwrap();
        assert_eq!(reply.status, status, "{path} {record}: {reply:?}");
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json"),
            "{reply:?}"
        );
        for word in words {
            assert!(reply.body.contains(word), "{word} is not in {reply:?}");
        }
    }
}

#[test]
fn heartbeats_push_nothing() {
    let stage = shared();
    let us = &stage.mesh.us;
    us.ems.put_service("beating", json!({})).unwrap();
    let upstream = isthmus_upstream::Upstream::start("beat-1").unwrap();
    let record = json!({"address": "127.0.0.1", "port": upstream.port(), "ttl": 30});
    us.ems
        .put_endpoint_record("beating", "beat-1", record.clone())
        .unwrap();
    stage::reaches(&us.host, "beating", "us", "beat-1");
    let version =
        || us.ems.get("/v1/services/beating/endpoints/beat-1").unwrap()["version"].clone();
    let updates = || us.host.stat("cluster.beating.us.update_success").unwrap();
    let (version_before, updates_before) = (version(), updates());
    for _ in 0..20 {
        us.ems
            .put_endpoint_record("beating", "beat-1", record.clone())
            .unwrap();
    }
    // A real change is pushed, and what the heartbeats caused would be there before it.
    let second = stage::endpoint(us, "beating", "beat-2");
    stage::reaches(&us.host, "beating", "us", "beat-2");
    assert_eq!(updates() - updates_before, 1, "one push for one change");
    assert_eq!(version(), version_before);
    drop(second);
}

#[test]
fn a_pin_reaches_one_version() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    us.ems
        .put_service("canary", json!({"allowVersionPins": true}))
        .unwrap();
    let (old, new) = (
        isthmus_upstream::Upstream::start("canary-old").unwrap(),
        isthmus_upstream::Upstream::start("canary-new").unwrap(),
    );
    for (upstream, label) in [(&old, "v1"), (&new, "v2")] {
        let record =
            json!({"address": "127.0.0.1", "port": upstream.port(), "versionLabel": label});
        us.ems
            .put_endpoint_record("canary", upstream.id(), record)
            .unwrap();
    }
    for host in [&us.host, &eu.host] {
        stage::reaches(host, "canary", "us", "canary-old");
        stage::reaches(host, "canary", "us", "canary-new");
        for (label, expected) in [("v1", "canary-old"), ("v2", "canary-new")] {
            let pinned = host
                .call("GET", "/")
                .service("canary")
                .region("us")
                .header("x-mesh-version", label);
            isthmus_tests::eventually("pins to be allowed", || {
                pinned.send().is_ok_and(|reply| reply.status == 200)
            })
            .unwrap();
            for _ in 0..10 {
                assert_eq!(
                    pinned.send().unwrap().json()["upstream"],
                    expected,
                    "{label}"
                );
            }
        }
        let reply = host
            .call("GET", "/")
            .service("canary")
            .region("us")
            .header("x-mesh-version", "v3")
            .send()
            .unwrap();
        assert_eq!(
            reply.error(),
            Some("no_healthy_endpoint"),
            "nobody has this version: {reply:?}"
        );
    }
}
