//! Decisions: tables of headers and where they lead.

use super::*;
use crate::{
    request::{
        Peer, Request,
        tests::{config, pairs},
    },
    testing::test,
};

const US: &str = r#"{
    "version": "7", "region": "us", "regions": ["eu", "us"], "caller": "us/orders",
    "services": {
        "ledger": {"allow": ["us/payments", "eu/*"]},
        "audit": {"allow": ["*/orders"], "allow_pins": true},
        "vault": {"allow": []},
        "canary": {"allow_pins": true}
    }
}"#;

const EU_GATEWAY: &str = r#"{
    "region": "eu", "regions": ["eu", "us"], "mode": "gateway",
    "services": {
        "ledger": {"allow": ["us/payments", "eu/*"]},
        "canary": {"allow_pins": true}
    }
}"#;

const ORDERS: &str = "spiffe://mesh.internal/region/us/service/orders";

/// Checks a decision: `<kind> <cluster> caller=<caller> hops=<n> rule=<rule>`, or `<code>: <message>`.
fn check(json: &str, headers: &str, uri: Option<&str>, want: &str) {
    let peer = Peer {
        uri: uri.map(str::as_bytes),
        server_name: Some(b"us.mesh.internal"),
    };
    check_peer(json, headers, peer, want);
}

fn check_peer(json: &str, headers: &str, peer: Peer<'_>, want: &str) {
    let config = config(json);
    let request = Request::collect(config.headers(), pairs(headers));
    let caller = Caller::parse(&config, &request, peer);
    let caller = caller.expect("headers that make sense");
    let got = match decide(&config, &caller) {
        Decision::Reject(refusal) => refusal.to_string(),
        Decision::Route(route) => {
            let mut cluster = String::new();
            route
                .write_cluster(&mut cluster)
                .expect("strings take everything");
            let who = route
                .caller
                .map_or("-".to_owned(), |caller| caller.to_string());
            let kind = route.kind.as_str();
            format!(
                "{kind} {cluster} caller={who} hops={} rule={}",
                route.hops, route.granted
            )
        }
    };
    assert_eq!(got, want, "{headers}");
}

fn outbound(headers: &str, want: &str) {
    check(US, headers, None, want);
}

fn gateway(headers: &str, want: &str) {
    check(EU_GATEWAY, headers, Some(ORDERS), want);
}

#[test]
fn regions() {
    outbound(
        "x-mesh-service: a",
        "local a.us caller=us/orders hops=0 rule=open",
    );
    outbound(
        "x-mesh-service: a\nx-mesh-region: us",
        "local a.us caller=us/orders hops=0 rule=open",
    );
    outbound(
        "x-mesh-service: A.b\nx-mesh-region: EU",
        "remote a.b.eu caller=us/orders hops=0 rule=elsewhere",
    );
    outbound(
        "x-mesh-service: a\nx-mesh-region: any",
        "any a.any caller=us/orders hops=0 rule=open",
    );
    outbound(
        "x-mesh-service: a\nx-mesh-region: mars",
        "unknown_region: no region mars is known here",
    );
}

#[test]
fn default_regions() {
    let a = "x-mesh-service: a";
    let with = |default: &str| {
        format!(r#"{{"region": "us", "regions": ["eu"], "default_region": "{default}"}}"#)
    };
    check(&with("us"), a, None, "local a.us caller=- hops=0 rule=open");
    check(
        &with("eu"),
        a,
        None,
        "remote a.eu caller=- hops=0 rule=elsewhere",
    );
    check(&with("Any"), a, None, "any a.any caller=- hops=0 rule=open");
    check(
        &with("any"),
        "x-mesh-service: a\nx-mesh-region: us",
        None,
        "local a.us caller=- hops=0 rule=open",
    );
}

#[test]
fn access() {
    outbound(
        "x-mesh-service: ledger",
        "denied: us/orders may not call ledger",
    );
    outbound(
        "x-mesh-service: ledger\nx-mesh-region: any",
        "denied: us/orders may not call ledger",
    );
    outbound(
        "x-mesh-service: vault",
        "denied: us/orders may not call vault",
    );
    outbound(
        "x-mesh-service: audit",
        "local audit.us caller=us/orders hops=0 rule=*/orders",
    );
    // The other region's gateway judges by that region's rules.
    outbound(
        "x-mesh-service: ledger\nx-mesh-region: eu",
        "remote ledger.eu caller=us/orders hops=0 rule=elsewhere",
    );
    // Who the caller says to be counts for nothing.
    outbound(
        "x-mesh-service: ledger\nx-mesh-caller: us/payments",
        "denied: us/orders may not call ledger",
    );
    check(
        r#"{"region": "us", "services": {"ledger": {"allow": ["*/*"]}}}"#,
        "x-mesh-service: ledger",
        None,
        "denied: callers without identity may not call ledger",
    );
}

#[test]
fn pins() {
    outbound(
        "x-mesh-service: canary\nx-mesh-version: v2",
        "local canary@v2.us caller=us/orders hops=0 rule=open",
    );
    outbound(
        "x-mesh-service: canary\nx-mesh-version: v2\nx-mesh-region: any",
        "any canary@v2.any caller=us/orders hops=0 rule=open",
    );
    outbound(
        "x-mesh-service: a\nx-mesh-version: v2",
        "bad_version: a allows no version pins: leave x-mesh-version out",
    );
    // Access comes first: those who may not call learn nothing about pins.
    outbound(
        "x-mesh-service: ledger\nx-mesh-version: v2",
        "denied: us/orders may not call ledger",
    );
    // The header goes on to the gateway, which judges it and pins.
    outbound(
        "x-mesh-service: canary\nx-mesh-version: v2\nx-mesh-region: eu",
        "remote canary.eu caller=us/orders hops=0 rule=elsewhere",
    );
    gateway(
        "x-mesh-service: canary\nx-mesh-version: v2\nx-mesh-region: eu",
        "local canary@v2.eu caller=us/orders hops=1 rule=open",
    );
    gateway(
        "x-mesh-service: a\nx-mesh-version: v2",
        "bad_version: a allows no version pins: leave x-mesh-version out",
    );
}

#[test]
fn a_gateway_serves_its_own_region() {
    let local = "local a.eu caller=us/orders hops=1 rule=open";
    gateway("x-mesh-service: a", local);
    gateway("x-mesh-service: a\nx-mesh-region: eu", local);
    gateway("x-mesh-service: a\nx-mesh-region: any", local);
    gateway(
        "x-mesh-service: a\nx-mesh-region: us",
        "loop: this is a gateway of eu, which sends nothing on to us",
    );
    gateway(
        "x-mesh-service: a\nx-mesh-region: mars",
        "loop: this is a gateway of eu, which sends nothing on to mars",
    );
}

#[test]
fn hops() {
    let passed =
        "loop: the request passed a gateway already: a cluster of another region points back here";
    for hops in ["1", "2", "-1", "x", "00", ""] {
        gateway(&format!("x-mesh-service: a\nx-mesh-hops: {hops}"), passed);
    }
    gateway("x-mesh-service: a\nx-mesh-hops: 0\nx-mesh-hops: 0", passed);
    gateway(
        "x-mesh-service: a\nx-mesh-hops: 0",
        "local a.eu caller=us/orders hops=1 rule=open",
    );
    // What this gateway sent on itself, seen again: Envoy found the cluster on demand.
    let again = "x-mesh-service: a\nx-mesh-hops: 1\nx-mesh-caller: us/orders";
    gateway(again, "local a.eu caller=us/orders hops=1 rule=open");
    // The same after another gateway, whose certificate is no caller's, or another caller's.
    check(
        EU_GATEWAY,
        again,
        Some("spiffe://mesh.internal/region/eu/gateway"),
        passed,
    );
    check(
        EU_GATEWAY,
        again,
        Some("spiffe://mesh.internal/region/us/service/order"),
        passed,
    );
    gateway(&format!("{again}\nx-mesh-caller: us/orders"), passed);
    gateway(
        "x-mesh-service: a\nx-mesh-hops: 2\nx-mesh-caller: us/orders",
        passed,
    );
    // Beside a caller it is the caller's own invention.
    outbound(
        "x-mesh-service: a\nx-mesh-hops: 1",
        "local a.us caller=us/orders hops=0 rule=open",
    );
    // The loop is seen first.
    check(
        EU_GATEWAY,
        "x-mesh-service: ledger\nx-mesh-hops: 1",
        None,
        passed,
    );
}

#[test]
fn a_region_speaks_for_itself_alone() {
    let says = |server_name: Option<&str>, uri: &str, want: &str| {
        let peer = Peer {
            uri: Some(uri.as_bytes()),
            server_name: server_name.map(str::as_bytes),
        };
        // A service with a rule that lets the caller in, and one without rules.
        check_peer(EU_GATEWAY, "x-mesh-service: a", peer, want);
        if want.starts_with("denied") {
            check_peer(EU_GATEWAY, "x-mesh-service: ledger", peer, want);
        }
    };
    let ok = "local a.eu caller=us/orders hops=1 rule=open";
    let no = |region: &str| {
        format!(
            "denied: the peer certificate says {region}/payments, but the connection is not for callers of that \
             region: its server name has to be {region}.mesh.internal"
        )
    };
    let payments =
        |region: &str| format!("spiffe://mesh.internal/region/{region}/service/payments");
    says(Some("us.mesh.internal"), ORDERS, ok);
    says(Some("US.Mesh.Internal"), ORDERS, ok);
    for name in [
        None,
        Some(""),
        Some("us"),
        Some("us."),
        Some("u"),
        Some("eu.mesh.internal"),
        Some("us.mesh.internal."),
        Some("us.mesh.interna"),
        Some("us.mesh.internal.example"),
        Some("usa.mesh.internal"),
        Some("x.us.mesh.internal"),
        Some("us-mesh.internal"),
    ] {
        says(name, &payments("us"), &no("us"));
    }
    // Its roots are those of region us, and its certificate names the callers of another one first.
    says(Some("us.mesh.internal"), &payments("eu"), &no("eu"));
    says(Some("us.mesh.internal"), &payments("u"), &no("u"));
}

#[test]
fn a_gateway_believes_the_certificate_alone() {
    let says = |uri: Option<&str>, service: &str, want: &str| {
        let headers = format!("x-mesh-service: {service}\nx-mesh-caller: us/payments");
        check(EU_GATEWAY, &headers, uri, want);
    };
    let nobody = "denied: the peer certificate has no URI spiffe://mesh.internal/region/<region>/service/<service>";
    says(None, "a", nobody);
    says(Some(""), "a", nobody);
    says(
        Some("spiffe://mesh.internal/region/us/gateway"),
        "a",
        nobody,
    );
    says(
        Some("spiffe://evil/region/us/service/payments"),
        "a",
        nobody,
    );
    says(
        Some(ORDERS),
        "ledger",
        "denied: us/orders may not call ledger",
    );
    says(
        Some("spiffe://mesh.internal/region/us/service/payments"),
        "ledger",
        "local ledger.eu caller=us/payments hops=1 rule=us/payments",
    );
    let peer = Peer {
        uri: Some(b"spiffe://mesh.internal/region/eu/service/x"),
        server_name: Some(b"eu.mesh.internal"),
    };
    let by_its_region = "local ledger.eu caller=eu/x hops=1 rule=eu/*";
    check_peer(EU_GATEWAY, "x-mesh-service: ledger", peer, by_its_region);
}

/// Which limits are met: those of this region's services, of the methods that are asked for.
#[test]
fn limits() {
    let check = |mode: &str, headers: &str, want: &str| {
        let config = config(&format!(
            r#"{{"region": "us", "regions": ["eu"], {mode}
                "services": {{
                    "ledger": {{"allow": ["us/*"], "allow_pins": true, "limits": [
                        {{"per": "caller", "requests": 5, "unit": "minute"}},
                        {{"per": "service", "method": "/l.L/Apply", "requests": 1, "unit": "hour", "mode": "shadow"}}]}},
                    "audit": {{"limits": [{{"per": "service", "method": "/a", "requests": 1, "unit": "hour"}}]}}}}}}"#
        ));
        let request = Request::collect(config.headers(), pairs(headers));
        let peer = Peer {
            uri: Some(ORDERS.as_bytes()),
            server_name: Some(b"us.mesh.internal"),
        };
        let caller = Caller::parse(&config, &request, peer).expect(headers);
        let got = match decide(&config, &caller) {
            Decision::Route(route) => route.limits.to_string(),
            Decision::Reject(refusal) => refusal.code().to_string(),
        };
        assert_eq!(got, want, "{mode} {headers}");
    };
    let outbound = r#""caller": "us/orders","#;
    let gateway = r#""mode": "gateway","#;
    let ledger = "x-mesh-service: ledger\n:path: /l.L/Apply?x";
    let both = "caller 5/minute, service /l.L/Apply 1/hour shadow";
    check(outbound, ledger, both);
    check(outbound, &format!("{ledger}\nx-mesh-region: any"), both);
    check(outbound, &format!("{ledger}\nx-mesh-version: v2"), both);
    check(gateway, ledger, both);
    // Another region's services are limited there.
    check(outbound, &format!("{ledger}\nx-mesh-region: eu"), "");
    check(
        outbound,
        "x-mesh-service: ledger\n:path: /l.L/Read",
        "caller 5/minute",
    );
    check(
        outbound,
        "x-mesh-service: audit\n:path: /a",
        "service /a 1/hour",
    );
    check(outbound, "x-mesh-service: audit\n:path: /A", "");
    check(outbound, "x-mesh-service: other", "");
    // Who is refused for another reason meets no limit.
    check(r#""caller": "eu/orders","#, ledger, "denied");
}

/// Whatever strangers send: no panic, and no destination that cannot be read back.
#[cfg(not(target_arch = "wasm32"))]
mod strangers {
    use proptest::prelude::*;

    use super::*;
    use crate::name::ClusterName;

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            "[a-zA-Z0-9.@-]{0,260}".prop_map(String::into_bytes),
            "(spiffe://mesh.internal/region/(eu|us)/service/)?[a-z./]{0,12}"
                .prop_map(String::into_bytes),
            "(/[A-Za-z.]{0,9}){0,3}|[a-z.]{0,6}\\.(eu|us|any)?\\.mesh(:80)?"
                .prop_map(String::into_bytes),
            Just(b"canary".to_vec()),
            Just(b"eu".to_vec()),
            Just(b"application/grpc".to_vec()),
        ]
    }

    fn header() -> impl Strategy<Value = (&'static [u8], Vec<u8>)> {
        let names: &[&[u8]] = &[
            b":path",
            b":authority",
            b"content-type",
            b"x-mesh-service",
            b"x-mesh-region",
            b"x-mesh-version",
            b"x-mesh-hops",
            b"x-mesh-debug",
            b"x-mesh-caller",
            b"\xff",
        ];
        (proptest::sample::select(names), value())
    }

    proptest! {
        #[test]
        fn get_a_decision(
            headers in proptest::collection::vec(header(), 0..9),
            uri in proptest::option::of(value()),
            server_name in proptest::option::of(value()),
            json in proptest::sample::select(&[US, EU_GATEWAY][..]),
        ) {
            let config = config(json);
            let headers = headers.iter().map(|(name, value)| (*name, value.as_slice()));
            let request = Request::collect(config.headers(), headers);
            let peer = Peer {
                uri: uri.as_deref(),
                server_name: server_name.as_deref(),
            };
            let Ok(caller) = Caller::parse(&config, &request, peer) else {
                return Ok(());
            };
            if let Decision::Route(route) = decide(&config, &caller) {
                let mut cluster = String::new();
                prop_assert!(route.write_cluster(&mut cluster).is_ok());
                let name = ClusterName::parse(&cluster);
                prop_assert!(name.is_ok(), "{cluster}: {name:?}");
                prop_assert_eq!(name.map(|name| name.to_string()), Ok(cluster));
            }
        }
    }
}
