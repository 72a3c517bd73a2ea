//! Configs, good and bad, and everything that is said about the bad ones.

use super::*;
use crate::{
    limit::{LimitMode, OnError, Unit},
    testing::test,
};

fn raw(json: &str) -> RawConfig {
    serde_json::from_str(json).expect(json)
}

/// Checks a config and what is said about it, one line for each error.
fn check(json: &str, want: &[&str]) {
    let errors = Config::check(raw(json)).err().unwrap_or_default();
    let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(got, want, "{json}");
}

#[test]
fn the_region_is_enough() {
    check(r#"{"region": "us"}"#, &[]);
    let config = Config::check(raw(r#"{"region": "US"}"#)).expect("a config");
    assert_eq!(config.region().as_str(), "us");
    assert_eq!(config.mode(), Mode::Outbound);
    assert_eq!(config.trust_domain(), "mesh.internal");
    assert_eq!(config.headers().service, "x-mesh-service");
    assert!(!config.debug());
    assert!(config.caller().is_none());
    assert!(config.knows_region("us"));
    assert!(!config.knows_region("eu"));
}

#[test]
fn a_full_config() {
    check(
        r#"{"version": "7", "mode": "outbound", "region": "us", "regions": ["eu", "us"], "default_region": "any",
            "caller": "us/orders", "trust_domain": "mesh.internal", "debug": true,
            "headers": {"service": "X-Svc", "error": "x-svc-error"},
            "services": {"payments": {"allow": ["eu/orders", "*/billing", "us/*"], "allow_pins": true},
                         "ledger": {"allow": []}, "open": {}}}"#,
        &[],
    );
    check(
        r#"{"mode": "gateway", "region": "us", "default_region": "us"}"#,
        &[],
    );
}

#[test]
fn every_error_is_said_with_its_path() {
    check(
        r#"{"version": "a b", "region": "u.s", "regions": ["eu", "", "EU"], "default_region": "*",
            "caller": "orders", "trust_domain": "Mesh",
            "headers": {"service": "x service", "region": ""},
            "services": {"payments": {"allow": ["eu/orders", "billing"],
                                      "limits": [{"per": "x", "requests": 0, "unit": "day"}]},
                         "-": {"allow": ["/"]}}}"#,
        &[
            "version: has ' ': only visible ASCII without quotes and backslashes can be shown in a receipt",
            "region: has '.' at offset 1, where a name has none",
            "regions[1]: is empty",
            "regions[2]: eu is listed twice",
            "default_region: has '*' at offset 0, where a name has none",
            "caller: has no slash: write <region>/<service>",
            "trust_domain: has 'M': a trust domain has only a-z 0-9 . - _",
            "headers.service: has ' ': a header name has only a-z 0-9 - _ .",
            "headers.region: is empty",
            "services.-.allow[0]: the region is empty",
            "services.-: has '-' at offset 0, where a name has none",
            "services.payments.allow[1]: has no slash: write <region>/<service>",
            "services.payments.limits[0].per[0]: must be service, caller, caller_region, method or header:<name>",
            "services.payments.limits[0].requests: must be given, and be 1 to 1000000",
        ],
    );
}

#[test]
fn errors_one_by_one() {
    check(r#"{"region": ""}"#, &["region: is empty"]);
    check(r#"{"region": "any"}"#, &["region: is reserved"]);
    check(
        r#"{"region": "us", "default_region": "eu"}"#,
        &["default_region: eu is not one of the regions: add it to regions"],
    );
    check(
        r#"{"region": "us", "regions": ["eu"], "mode": "gateway", "default_region": "eu", "caller": "us/a"}"#,
        &[
            "default_region: a gateway serves its own region only: leave this out",
            "caller: a gateway takes the caller from the peer certificate: leave this out",
        ],
    );
    check(
        r#"{"region": "us", "headers": {"caller": "X-MESH-HOPS"}}"#,
        &["headers.hops: x-mesh-hops is also headers.caller: each needs a name of its own"],
    );
    check(
        r#"{"region": "us", "headers": {"debug": "content-type"}}"#,
        &["headers.debug: content-type has a meaning of its own: choose another name"],
    );
    check(
        r#"{"region": "us", "headers": {"hops": "X-Envoy-Hops"}}"#,
        &["headers.hops: x-envoy-hops has a meaning of its own: choose another name"],
    );
    check(
        r#"{"region": "us", "services": {"A": {}, "a": {}}}"#,
        &["services.a: is listed twice: names do not differ by case alone"],
    );
    check(
        r#"{"region": "us", "trust_domain": ""}"#,
        &["trust_domain: is empty: leave it out to get mesh.internal"],
    );
}

#[test]
fn limits() {
    let check_field = |field: &str, most: usize, say: &str| {
        let json = |len| {
            format!(
                r#"{{"region": "us", {}}}"#,
                field.replace('?', &"a".repeat(len))
            )
        };
        check(&json(most), &[]);
        check(&json(most + 1), &[say]);
    };
    check_field(
        r#""version": "?""#,
        128,
        "version: is longer than 128 bytes",
    );
    check_field(
        r#""trust_domain": "?""#,
        255,
        "trust_domain: is longer than 255 bytes",
    );
    check_field(
        r#""headers": {"debug": "?"}"#,
        64,
        "headers.debug: is longer than 64 bytes",
    );
    check_field(
        r#""regions": ["?"]"#,
        63,
        "regions[0]: is longer than 63 bytes",
    );
    check_field(
        r#""caller": "us/?""#,
        253,
        "caller: the service is longer than 253 bytes",
    );
}

/// What is not of the right shape is no raw config in the first place.
#[test]
fn shapes() {
    let check = |json: &str, want: &str| {
        let got = serde_json::from_str::<RawConfig>(json)
            .expect_err(json)
            .to_string();
        assert!(got.contains(want), "{got}");
    };
    check(r#"{}"#, "missing field `region`");
    check(r#"{"region": "us", "color": 1}"#, "unknown field `color`");
    check(
        r#"{"region": "us", "headers": {"color": "x"}}"#,
        "unknown field `color`",
    );
    check(
        r#"{"region": "us", "services": {"a": {"deny": []}}}"#,
        "unknown field `deny`",
    );
    check(
        r#"{"region": "us", "mode": "inbound"}"#,
        "unknown variant `inbound`",
    );
    check(r#"{"region": 5}"#, "invalid type");
}

/// Whoever makes configs from the raw form gets only what differs from the defaults.
#[test]
fn written_and_read_again() {
    let mut config = RawConfig {
        region: "us".into(),
        ..RawConfig::default()
    };
    let json = serde_json::to_string(&config).expect("json");
    assert_eq!(json, r#"{"region":"us"}"#);
    config.mode = Mode::Gateway;
    config.debug = true;
    config.headers.service = "x-svc".into();
    config.services.insert(
        "payments".into(),
        RawService {
            allow: Some(vec![]),
            allow_pins: true,
            limits: vec![RawLimit {
                per: vec!["caller".into(), "header:x-tenant".into()],
                method: Some("/a.B/C".into()),
                requests: 5,
                unit: Unit::Minute,
                burst: Some(6),
                scope: Scope::Local,
                mode: LimitMode::Shadow,
                on_error: OnError::Deny,
            }],
        },
    );
    let json = serde_json::to_string(&config).expect("json");
    assert_eq!(raw(&json), config);
}
