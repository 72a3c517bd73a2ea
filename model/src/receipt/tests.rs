//! Receipts, word for word.

use super::*;
use crate::{
    decide::decide,
    limit::{Budgets, Cell, CellName, POLICY_HEADER, Unavailable, named_by_policy, spend},
    request::{
        Caller, Peer, Request,
        tests::{config, pairs},
    },
    testing::test,
};

fn check(json: &str, headers: &str, want: &str) {
    let config = config(json);
    let request = Request::collect(config.headers(), pairs(headers));
    let peer = Peer {
        uri: Some(b"spiffe://mesh.internal/region/us/service/orders"),
        server_name: Some(b"us.mesh.internal"),
    };
    let caller = Caller::parse(&config, &request, peer).expect(headers);
    let mut got = String::new();
    write_receipt(&mut got, &config, &decide(&config, &caller), None)
        .expect("strings take everything");
    assert_eq!(got, want);
}

#[test]
fn receipts() {
    check(
        r#"{"region": "us"}"#,
        "x-mesh-service: a",
        r#""us";mode=outbound;config="";rule="open";kind=local;destination="a.us""#,
    );
    check(
        r#"{"version": "7", "region": "us", "regions": ["eu"], "caller": "us/orders"}"#,
        "x-mesh-service: a\nx-mesh-region: eu",
        r#""us";mode=outbound;config="7";rule="elsewhere";kind=remote;destination="a.eu";caller="us/orders""#,
    );
    check(
        r#"{"version": "9", "region": "eu", "mode": "gateway", "services": {"a": {"allow": ["us/*"]}}}"#,
        "x-mesh-service: a",
        r#""eu";mode=gateway;config="9";rule="us/*";kind=local;destination="a.eu";caller="us/orders""#,
    );
    check(
        r#"{"region": "us"}"#,
        "x-mesh-service: a\nx-mesh-region: eu",
        r#""us";mode=outbound;config="";refused=unknown_region"#,
    );
}

/// A host whose limiter cannot be asked.
struct Nothing;

impl Budgets for Nothing {
    fn read(&mut self, _: &CellName) -> Result<(Cell, u32), Unavailable> {
        Err(Unavailable)
    }

    fn write(&mut self, _: &CellName, _: &Cell, _: u32) -> Result<bool, Unavailable> {
        Err(Unavailable)
    }

    fn now(&mut self) -> u64 {
        0
    }
}

#[test]
fn limits() {
    let json = r#"{"region": "us", "services": {"a": {"limits": [
        {"per": "caller", "requests": 5, "unit": "minute"},
        {"per": "service", "requests": 9, "unit": "hour", "on_error": "deny"}]}}}"#;
    check(
        json,
        "x-mesh-service: a",
        r#""us";mode=outbound;config="";rule="open";kind=local;destination="a.us";limits="caller 5/minute, service 9/hour""#,
    );
    let config = config(json);
    let request = Request::collect(config.headers(), pairs("x-mesh-service: a"));
    let caller = Caller::parse(&config, &request, Peer::default()).expect("a caller");
    let decision = decide(&config, &caller);
    let Decision::Route(route) = &decision else {
        panic!("{decision:?}");
    };
    let hasher = std::hash::DefaultHasher::new();
    let exceeded = spend(route, std::iter::empty(), &hasher, &mut Nothing, |_, _| ());
    let exceeded = exceeded.expect_err("deny");
    let mut got = String::new();
    write_receipt(&mut got, &config, &decision, Some(&exceeded)).expect("strings take everything");
    assert_eq!(
        got,
        r#""us";mode=outbound;config="";refused=rate_limited;limit="service 9/hour";limits="caller 5/minute, service 9/hour""#
    );
    let [_, (header, policy), (_, state)] = exceeded.headers();
    assert_eq!(policy, r#""service 9/hour";q=9;w=3600"#);
    assert_eq!(state, r#""service 9/hour";r=0;t=1"#);
    assert_eq!(header, POLICY_HEADER);
    assert_eq!(named_by_policy(policy.as_bytes()), Some("service 9/hour"));
    for none in [&b"service;q=9"[..], b"\"service", b"\"\xff\"", b""] {
        assert_eq!(named_by_policy(none), None);
    }
    assert_eq!(
        exceeded.refusal().to_string(),
        "rate_limited: over the limit of a (service 9/hour): try again in 1 s"
    );
}
