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
    let request = Request::collect(config.headers(), pairs.clone());
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
    texts.question.push_str("1h;other");
    texts.lease.push_str("1;other");
    texts.ask(&route, request.is_grpc(), pairs.clone());
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

const LIMITED: &str = r#"{"region": "us", "regions": ["eu"], "caller": "us/orders", "services": {"payments": {"limits": [
    {"per": "caller", "requests": 1, "unit": "second", "scope": "region"},
    {"per": "header:x-tenant", "method": "/pay", "requests": 1, "unit": "day", "scope": "region", "on_error": "deny"}
]}}}"#;

#[test]
fn a_leased_budget() {
    let leased = LIMITED
        .replace(r#""scope": "region"}"#, r#""scope": "lease"}"#)
        .replace(
            r#""scope": "region", "on_error": "deny""#,
            r#""on_error": "deny""#,
        );
    let sent = [
        ("x-mesh-destination", "payments.us"),
        ("x-mesh-caller", "us/orders"),
        (
            "x-mesh-lease-allow",
            "1;payments;caller,,second,enforce,lease|us/orders",
        ),
    ];
    check(&leased, &[], &sent);
    let spoofed = [
        (
            "x-mesh-lease-allow",
            "1;other;service,,second,enforce,lease|",
        ),
        (
            "x-mesh-lease-deny",
            "1;other;service,,second,enforce,lease|",
        ),
    ];
    check(&leased, &spoofed, &sent);
    check(OUTBOUND, &spoofed, &sent[..2]);
}

#[test]
fn a_question_about_limits() {
    let asked = ("x-mesh-destination", "payments.us");
    let caller = ("x-mesh-caller", "us/orders");
    let first = "1h;payments;caller,,second,enforce|us/orders";
    // What a caller says of limits goes, whether there is a question or not.
    let spoofed = [
        ("x-mesh-limit-allow", "1h;other;service,,day,enforce|"),
        ("x-mesh-limit-deny", "1h;other;service,,day,enforce|"),
    ];
    check(
        LIMITED,
        &[spoofed[0], spoofed[1]],
        &[asked, caller, ("x-mesh-limit-allow", first)],
    );
    check(OUTBOUND, &[spoofed[0], spoofed[1]], &[asked, caller]);
    let both = format!("{first};header:x-tenant,/pay,day,enforce|=acme%20inc");
    let request = [("x-tenant", "acme inc"), (":path", "/pay?now")];
    check(
        LIMITED,
        &[spoofed[0], request[0], request[1]],
        &[
            asked,
            caller,
            request[0],
            request[1],
            ("x-mesh-limit-deny", &both),
        ],
    );
    // That of another region asks its own EMS.
    let elsewhere = ("x-mesh-region", "eu");
    check(
        LIMITED,
        &[elsewhere],
        &[elsewhere, ("x-mesh-destination", "payments.eu"), caller],
    );
}
