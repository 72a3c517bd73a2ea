//! A service's policy is in its cluster, as Envoy itself shows it; and it works.

use isthmus_tests::{Load, eventually};
use serde_json::{Value, json};

use crate::stage::{self, shared};

const OPTIONS: &str =
    "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

#[test]
fn policy_as_envoy_has_it() {
    let stage = shared();
    let us = &stage.mesh.us;
    let options = |rest: &str| format!("{OPTIONS}{rest}");
    let table: &[(&str, Value, String, Value)] = &[
        (
            "timeout",
            json!({"connectTimeout": "2.5s"}),
            "/connect_timeout".into(),
            json!("2.500s"),
        ),
        (
            "default-timeout",
            json!({}),
            "/connect_timeout".into(),
            json!("1s"),
        ),
        (
            "retries",
            json!({"retries": {"attempts": 4, "on": ["connect-failure"]}}),
            options("/retry_policy/num_retries"),
            json!(4),
        ),
        (
            "no-retries",
            json!({"retries": {"attempts": 0}}),
            options("/retry_policy"),
            Value::Null,
        ),
        (
            "hashed",
            json!({"loadBalancing": "ring_hash", "hashPolicy": [{"header": "x-user"}]}),
            options("/hash_policy/0/header/header_name"),
            json!("x-user"),
        ),
        (
            "ring",
            json!({"loadBalancing": "ring_hash"}),
            "/lb_policy".into(),
            json!("RING_HASH"),
        ),
        (
            "breakers",
            json!({"circuitBreakers": {"maxConnections": 7}}),
            "/circuit_breakers/thresholds/0/max_connections".into(),
            json!(7),
        ),
        (
            "ejecting",
            json!({"outlierDetection": {"consecutiveErrors": 9}}),
            "/outlier_detection/consecutive_5xx".into(),
            json!(9),
        ),
        (
            "limited",
            json!({"maxStreamDuration": "7s"}),
            options("/common_http_protocol_options/max_stream_duration"),
            json!("7s"),
        ),
        (
            "http2",
            json!({"protocol": "http2"}),
            options(
                "/explicit_http_config/http2_protocol_options/override_stream_error_on_invalid_http_message",
            ),
            json!(true),
        ),
        (
            "tcp-checked",
            json!({"healthCheck": {"interval": "3s", "tcp": {}}}),
            "/health_checks/0/interval".into(),
            json!("3s"),
        ),
    ];
    for (name, record, pointer, expected) in table {
        let service = format!("policy-{name}");
        us.ems.put_service(&service, record.clone()).unwrap();
        us.host.get(&service, "us").unwrap();
        let cluster = us.host.cluster(&format!("{service}.us")).unwrap();
        let found = cluster.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(&found, expected, "{name}: {pointer} of {cluster:#}");
    }
}

#[test]
fn a_changed_policy_reaches_envoy() {
    let stage = shared();
    let us = &stage.mesh.us;
    let _upstream = stage::service(us, "changing", json!({}), "changing-1");
    us.ems
        .put_service("changing", json!({"connectTimeout": "9s"}))
        .unwrap();
    eventually("the new policy", || {
        us.host
            .cluster("changing.us")
            .is_ok_and(|cluster| cluster["connect_timeout"] == "9s")
    })
    .unwrap();
}

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
