//! Identities, patterns, and which of them match.

use super::*;
use crate::testing::test;

#[test]
fn identities_from_certificates() {
    let check = |uri: &[u8], want: Option<&str>| {
        let got = Identity::from_spiffe(uri, "mesh.internal").map(|id| id.to_string());
        assert_eq!(got.as_deref(), want, "{}", uri.escape_ascii());
    };
    check(
        b"spiffe://mesh.internal/region/eu/service/orders",
        Some("eu/orders"),
    );
    check(
        b"spiffe://mesh.internal/region/eu/service/a.b.c",
        Some("eu/a.b.c"),
    );
    check(b"", None);
    check(b"spiffe://mesh.internal/region/eu/gateway", None);
    check(b"spiffe://other.example/region/eu/service/orders", None);
    check(
        b"spiffe://mesh.internal.evil/region/eu/service/orders",
        None,
    );
    check(b"spiffe://mesh.interna/region/eu/service/orders", None);
    check(b"https://mesh.internal/region/eu/service/orders", None);
    check(b"spiffe://mesh.internal/region//service/orders", None);
    check(b"spiffe://mesh.internal/region/eu/service/", None);
    check(b"spiffe://mesh.internal/region/any/service/orders", None);
    check(b"spiffe://mesh.internal/region/eu/service/orders/x", None);
    check(
        b"spiffe://mesh.internal/region/eu/service/a/service/b",
        None,
    );
    check(b"spiffe://mesh.internal/region/EU/service/orders", None);
    check(b"spiffe://mesh.internal/region/eu/service/Orders", None);
    check(b"spiffe://mesh.internal/region/eu/service/\xff", None);
}

#[test]
fn patterns() {
    let check = |pattern: &str, caller: &str, want: bool| {
        let pattern = Pattern::parse(pattern).expect("a pattern");
        let caller = Identity::parse_owned(caller).expect("an identity");
        assert_eq!(pattern.matches(&caller), want, "{pattern} on {caller}");
    };
    check("eu/orders", "eu/orders", true);
    check("EU/Orders", "eu/orders", true);
    check("eu/orders", "us/orders", false);
    check("eu/orders", "eu/orders.v2", false);
    check("*/orders", "us/orders", true);
    check("*/orders", "us/billing", false);
    check("us/*", "us/billing", true);
    check("us/*", "eu/billing", false);
    check("*/*", "eu/anything", true);
}

#[test]
fn bad_patterns() {
    let check = |text: &str, want: &str| {
        let got = Pattern::parse(text).expect_err(text).to_string();
        assert_eq!(got, want);
    };
    check("orders", "has no slash: write <region>/<service>");
    check("*", "has no slash: write <region>/<service>");
    check("/orders", "the region is empty");
    check("eu/", "the service is empty");
    check("any/orders", "the region is reserved");
    check(
        "eu/or*",
        "the service has '*' at offset 2, where a name has none",
    );
    check(
        "e.u/orders",
        "the region has '.' at offset 1, where a name has none",
    );
}
