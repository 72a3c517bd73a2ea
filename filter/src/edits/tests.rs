//! Headers before and after.

use isthmus_model::{Caller, Config, Decision, Peer, RawConfig, decide};

use super::*;

const OUTBOUND: &str = r#"{"region": "us", "regions": ["eu"], "caller": "us/orders"}"#;
const NOBODY: &str = r#"{"region": "us", "regions": ["eu"]}"#;
const GATEWAY: &str = r#"{"region": "us", "mode": "gateway"}"#;

/// Routes a request for `payments`, and checks what its headers are afterwards, apart from the service's name.
fn check(json: &str, headers: &[(&str, &str)], want: &[(&str, &str)]) {
    let raw: RawConfig = serde_json::from_str(json).unwrap();
    let config = Config::check(raw).unwrap();
    let mut headers = headers.to_vec();
    headers.push(("x-mesh-service", "payments"));
    let pairs = headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
    let request = Request::collect(config.headers(), pairs);
    let peer = Peer {
        uri: Some(b"spiffe://mesh.internal/region/eu/service/billing"),
        server_name: Some(b"eu.mesh.internal"),
    };
    let caller = Caller::parse(&config, &request, peer).unwrap();
    let Decision::Route(route) = decide(&config, &caller) else {
        panic!("not routed");
    };
    let mut texts = Texts::default();
    // Left over from the request before.
    texts.caller.push_str("eu/other");
    let mut after = headers.clone();
    let edits: Vec<_> = edits(config.headers(), &request, &route, &mut texts).collect();
    for edit in &edits {
        match *edit {
            Edit::Remove(name) => {
                assert!(after.iter().any(|(n, _)| *n == name), "a call for nothing");
                after.retain(|(n, _)| *n != name);
            }
            Edit::Set(name, value) => {
                let same = headers.iter().filter(|(n, _)| *n == name);
                let same: Vec<_> = same.map(|(_, v)| *v).collect();
                assert!(
                    name == "x-mesh-destination" || same != [value],
                    "a call for nothing"
                );
                after.retain(|(n, _)| *n != name);
                after.push((name, value));
            }
        }
    }
    after.retain(|(name, _)| *name != "x-mesh-service");
    after.sort_unstable();
    let mut want = want.to_vec();
    want.sort_unstable();
    assert_eq!(after, want);
}

#[test]
fn a_plain_request() {
    check(
        OUTBOUND,
        &[("accept", "*/*")],
        &[
            ("accept", "*/*"),
            ("x-mesh-destination", "payments.us"),
            ("x-mesh-caller", "us/orders"),
        ],
    );
    check(NOBODY, &[], &[("x-mesh-destination", "payments.us")]);
}

#[test]
fn internal_headers_are_not_the_callers() {
    let forged = [
        ("x-mesh-destination", "vault.us"),
        ("x-mesh-destination", "vault.eu"),
        ("x-mesh-caller", "us/admin"),
        ("x-mesh-caller", ""),
        ("x-mesh-hops", "0"),
        ("x-mesh-receipt", "forged"),
        ("x-mesh-receipt", "again"),
    ];
    let destination = ("x-mesh-destination", "payments.us");
    check(
        OUTBOUND,
        &forged,
        &[destination, ("x-mesh-caller", "us/orders")],
    );
    check(NOBODY, &forged, &[destination]);
    check(
        GATEWAY,
        &forged,
        &[
            destination,
            ("x-mesh-caller", "eu/billing"),
            ("x-mesh-hops", "1"),
        ],
    );
}

#[test]
fn what_is_right_already_is_left_alone() {
    let destination = ("x-mesh-destination", "payments.us");
    let orders = ("x-mesh-caller", "us/orders");
    let billing = ("x-mesh-caller", "eu/billing");
    let one = ("x-mesh-hops", "1");
    check(OUTBOUND, &[orders], &[destination, orders]);
    check(OUTBOUND, &[orders, orders], &[destination, orders]);
    check(OUTBOUND, &[orders, billing], &[destination, orders]);
    check(GATEWAY, &[billing], &[destination, billing, one]);
}
