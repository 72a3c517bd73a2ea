//! What the records take and refuse, as tables. Messages are written as people write them: in JSON.

use std::time::Duration;

use isthmus_proto::v1;
use prost::{Message, Name};

use super::{
    Endpoint, FieldError, HashKey, Invalid, LoadBalancing, OutlierDetection, Policy, Probe, Region,
    Retries, Service,
};
use crate::json;

fn message<M: Message + Name + Default>(text: &str) -> M {
    json::read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn service(text: &str) -> Result<Service, Invalid> {
    Service::parse(&message(text))
}

fn endpoint(text: &str) -> Result<Endpoint, Invalid> {
    Endpoint::parse(&message(text))
}

/// The paths at fault, joined by blanks.
fn paths<T: std::fmt::Debug>(result: Result<T, Invalid>) -> String {
    let invalid = result.expect_err("must be refused");
    let paths: Vec<_> = invalid.fields().iter().map(|e| e.field.as_str()).collect();
    paths.join(" ")
}

#[test]
fn service_errors_name_their_paths() {
    for (text, at) in [
        (r#"{}"#, "name"),
        (r#"{"name": "-a"}"#, "name"),
        (
            r#"{"name": "a", "version": "9223372036854775808"}"#,
            "version",
        ),
        (r#"{"name": "a", "protocol": 9}"#, "protocol"),
        (r#"{"name": "a", "loadBalancing": 9}"#, "loadBalancing"),
        (r#"{"name": "a", "connectTimeout": "0s"}"#, "connectTimeout"),
        (
            r#"{"name": "a", "connectTimeout": "-1s"}"#,
            "connectTimeout",
        ),
        (
            r#"{"name": "a", "connectTimeout": "301s"}"#,
            "connectTimeout",
        ),
        (
            r#"{"name": "a", "maxStreamDuration": "86401s"}"#,
            "maxStreamDuration",
        ),
        (
            r#"{"name": "a", "retries": {"attempts": 11}}"#,
            "retries.attempts",
        ),
        (
            r#"{"name": "a", "retries": {"on": ["5xx", "sometimes"], "perTryTimeout": "0s"}}"#,
            "retries.on[1] retries.perTryTimeout",
        ),
        (
            r#"{"name": "a", "retries": {"on": ["retriable-headers"]}}"#,
            "retries.on[0]",
        ),
        (
            r#"{"name": "a", "hashPolicy": [{"header": "x-user"}]}"#,
            "hashPolicy",
        ),
        (
            r#"{"name": "a", "loadBalancing": "maglev",
                "hashPolicy": [{"header": "a b"}, {}, {"sourceIp": false}, {"cookie": ""}]}"#,
            "hashPolicy[0].header hashPolicy[1] hashPolicy[2].sourceIp hashPolicy[3].cookie",
        ),
        (
            r#"{"name": "a", "outlierDetection": {"consecutiveErrors": 0, "interval": "1ms", "maxEjectionPercent": 101}}"#,
            "outlierDetection.consecutiveErrors outlierDetection.interval outlierDetection.maxEjectionPercent",
        ),
        (r#"{"name": "a", "healthCheck": {}}"#, "healthCheck"),
        (
            r#"{"name": "a", "protocol": "http1", "healthCheck": {"grpc": {}}}"#,
            "healthCheck.grpc",
        ),
        (
            r#"{"name": "a", "healthCheck": {"interval": "0.01s", "timeout": "2h", "healthyThreshold": 0, "http": {"path": "x y"}}}"#,
            "healthCheck.interval healthCheck.timeout healthCheck.healthyThreshold healthCheck.http.path healthCheck.http.path",
        ),
        (
            r#"{"name": "a", "healthCheck": {"grpc": {"service": "a b"}}}"#,
            "healthCheck.grpc.service",
        ),
        (
            r#"{"name": "a", "zoneAwareness": {"minClusterSize": 0}}"#,
            "zoneAwareness.minClusterSize",
        ),
        (
            r#"{"name": "a", "access": {"allow": ["eu/orders", "orders", "any/x", "*/A_"]}}"#,
            "access.allow[1] access.allow[2] access.allow[3]",
        ),
        (
            r#"{"name": "a", "rateLimits": [{}, {"per": "caller", "requests": 1, "lease": true, "burst": 1},
                {"per": ["caller", "tenant"], "requests": 1, "unit": 4, "mode": 2, "onError": 2, "scope": 2, "burst": 0}]}"#,
            "rateLimits[1].lease rateLimits[2].unit rateLimits[2].scope rateLimits[2].mode rateLimits[2].onError \
             rateLimits[0].per rateLimits[0].requests rateLimits[2].per[1] rateLimits[2].burst",
        ),
        (
            r#"{"rateLimits": [{"per": "caller", "requests": 0, "method": "Charge"}]}"#,
            "name rateLimits[0].method rateLimits[0].requests",
        ),
        (
            r#"{"name": "", "connectTimeout": "0s", "access": {"allow": ["x"]}}"#,
            "name connectTimeout access.allow[0]",
        ),
    ] {
        let text = text
            .replace("\"2h\"", "\"7200s\"")
            .replace("\"1ms\"", "\"0.001s\"");
        assert_eq!(paths(service(&text)), at, "{text}");
    }
}

#[test]
fn lists_have_limits() {
    let many = |entry: &str, count| vec![entry; count].join(",");
    for (text, at) in [
        (
            format!(
                r#"{{"name": "a", "access": {{"allow": [{}]}}}}"#,
                many("\"*/*\"", 1001)
            ),
            "access.allow",
        ),
        (
            format!(
                r#"{{"name": "a", "loadBalancing": "ring_hash", "hashPolicy": [{}]}}"#,
                many(r#"{"sourceIp": true}"#, 9)
            ),
            "hashPolicy",
        ),
        (
            format!(
                r#"{{"name": "a", "retries": {{"on": [{}]}}}}"#,
                many("\"5xx\"", 15)
            ),
            "retries.on",
        ),
    ] {
        assert_eq!(paths(service(&text)), at);
    }
    let gateways = many(r#"{"address": "10.0.0.1", "port": 1}"#, 65);
    let text = format!(r#"{{"name": "eu", "gateways": [{gateways}]}}"#);
    assert_eq!(paths(Region::parse(&message(&text))), "gateways");
}

#[test]
fn nothing_said_means_the_defaults() {
    let parsed = service(r#"{"name": "Payments"}"#).unwrap();
    assert_eq!(parsed.name.as_str(), "payments");
    assert_eq!(parsed.policy, Policy::default());
    assert_eq!(parsed.access, None);
    // An empty list is not the absence of one: it lets nobody in.
    let parsed = service(r#"{"name": "a", "access": {}}"#).unwrap();
    assert_eq!(parsed.access, Some(Vec::new()));
}

#[test]
fn what_is_said_is_taken() {
    let parsed = service(
        r#"{"name": "a", "loadBalancing": "ring_hash", "hashPolicy": [{"header": "X-User"}, {"sourceIp": true}],
            "retries": {"attempts": 0}, "outlierDetection": {"disabled": true}, "zoneAwareness": {"disabled": true},
            "healthCheck": {"http": {}}, "maxStreamDuration": "30s"}"#,
    )
    .unwrap();
    let policy = parsed.policy;
    assert_eq!(policy.load_balancing, LoadBalancing::RingHash);
    assert_eq!(
        policy.hash,
        [HashKey::Header("x-user".to_owned()), HashKey::SourceIp]
    );
    assert_eq!(
        policy.retries,
        Retries {
            attempts: 0,
            ..Retries::default()
        }
    );
    assert_eq!(policy.outlier_detection, None::<OutlierDetection>);
    assert_eq!(policy.zone_min_cluster_size, None);
    assert_eq!(policy.max_stream_duration, Some(Duration::from_secs(30)));
    let check = policy.health_check.unwrap();
    assert_eq!(check.interval, Duration::from_secs(5));
    assert_eq!(
        check.probe,
        Probe::Http {
            path: "/healthz".to_owned(),
            host: String::new()
        }
    );
}

#[test]
fn endpoint_errors_name_their_paths() {
    for (text, at) in [
        (r#"{}"#, "service id address port"),
        (
            r#"{"service": "a", "id": "a/b", "address": "10.0.0.1", "port": 1}"#,
            "id",
        ),
        (
            r#"{"service": "a", "id": "..", "address": "10.0.0.1", "port": 1}"#,
            "id",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "10.0.0.1:80", "port": 1}"#,
            "address",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "10.0.0.256", "port": 1}"#,
            "address",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "[::1]", "port": 1}"#,
            "address",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "0.0.0.0", "port": 1}"#,
            "address",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "a..b", "port": 1}"#,
            "address",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "-a", "port": 1}"#,
            "address",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "::1", "port": 65536}"#,
            "port",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "h", "port": 1, "versionLabel": "-"}"#,
            "versionLabel",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "h", "port": 1, "zone": "a b"}"#,
            "zone",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "h", "port": 1, "weight": 0}"#,
            "weight",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "h", "port": 1, "weight": 1000001}"#,
            "weight",
        ),
        (
            r#"{"service": "a", "id": "x", "address": "h", "port": 1, "ttl": 86401}"#,
            "ttl",
        ),
    ] {
        assert_eq!(paths(endpoint(text)), at, "{text}");
    }
}

#[test]
fn addresses_are_written_as_envoy_and_people_read_them() {
    for (host, written) in [
        ("10.0.0.1", "10.0.0.1:80"),
        ("2001:DB8::1", "[2001:db8::1]:80"),
        ("DB.internal", "db.internal:80"),
        ("_srv.internal", "_srv.internal:80"),
    ] {
        let text =
            format!(r#"{{"service": "a", "id": "x", "address": "{host}", "port": 80, "ttl": 5}}"#);
        let parsed = endpoint(&text).unwrap();
        assert_eq!(parsed.address.to_string(), written);
        assert_eq!(parsed.weight, 1);
        assert_eq!(parsed.ttl, Some(Duration::from_secs(5)));
    }
}

#[test]
fn a_trust_bundle_must_be_certificates() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap()
        .pem();
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (bundle, wrong) in [
        (String::new(), None),
        (certificate.clone(), None),
        (format!("{certificate}{certificate}"), None),
        ("hello".to_owned(), Some("has no certificate")),
        (garbled.to_owned(), Some("block 1 is no certificate")),
        (
            format!("{certificate}{garbled}"),
            Some("block 2 is no certificate"),
        ),
        (key.serialize_pem(), Some("block 1 is a PRIVATE KEY")),
        ("x".repeat(65_537), Some("is longer")),
    ] {
        let raw = v1::Region {
            name: "eu".to_owned(),
            trust_bundle: bundle.clone(),
            ..v1::Region::default()
        };
        match (Region::parse(&raw), wrong) {
            (Ok(region), None) => assert_eq!(region.trust_bundle, bundle),
            (Err(invalid), Some(wrong)) => {
                let FieldError { field, detail } = &invalid.fields()[0];
                assert_eq!(field, "trustBundle");
                assert!(detail.starts_with(wrong), "{detail}");
            }
            (result, wrong) => panic!("{bundle}: {result:?}, not {wrong:?}"),
        }
    }
}

#[test]
fn region_errors_name_their_paths() {
    let raw = message::<v1::Region>(
        r#"{"name": "any", "gateways": [{"address": "10.0.0.1", "port": 15443}, {"address": "", "port": 0}]}"#,
    );
    assert_eq!(
        paths(Region::parse(&raw)),
        "name gateways[1].address gateways[1].port"
    );
}

#[test]
fn json_errors_name_their_paths() {
    for (text, at) in [
        (r#"{"name": "a", "retrys": {}}"#, "retrys"),
        (r#"{"name": "a", "retries": {"tries": 1}}"#, "retries.tries"),
        (r#"{"name": 7}"#, "name"),
        (
            r#"{"name": 7, "version": {}, "hashPolicy": [{}, {"x": 1}, {"cookie": []}], "protocol": "x",
                "retries": {"on": ["5xx", 5], "per_try_timeout": "1s", "perTryTimeout": "1"}}"#,
            "hashPolicy[1].x hashPolicy[2].cookie name protocol retries.on[1] retries.perTryTimeout version",
        ),
        (r#"{"name": "a", "retries": []}"#, "retries"),
        (r#"{"name": "a", "hashPolicy": {}}"#, "hashPolicy"),
        (r#"{"name": "a"} x"#, ""),
        (r#"nonsense"#, ""),
        ("[]", ""),
    ] {
        let invalid = json::read::<v1::Service>(text.as_bytes());
        assert_eq!(paths(invalid), at, "{text}");
    }
}

#[test]
fn rate_limits() {
    let parsed = service(
        r#"{"name": "pay", "rateLimits": [
            {"per": "caller", "requests": 100, "burst": 200},
            {"per": ["service"], "requests": 10, "unit": "hour", "scope": "local", "mode": "enforce", "onError": "allow"},
            {"per": ["header:X-Tenant", "caller"], "method": "/pay.v1.Pay/Charge", "requests": 5, "unit": "minute",
             "onError": "deny", "mode": "shadow"},
            {"per": "service", "requests": 10000, "scope": "region"},
            {"per": "service", "requests": 10000, "scope": "region", "lease": true, "burst": 9}]}"#,
    )
    .unwrap();
    let names: Vec<_> = parsed.rate_limits.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "caller 100/second",
            "service 10/hour",
            "caller+header:x-tenant /pay.v1.Pay/Charge 5/minute shadow",
            "service 10000/second region",
            "service 10000/second leased"
        ]
    );
    assert_eq!(parsed.rate_limits[0].burst(), 200);
    assert_eq!(parsed.rate_limits[1].burst(), 10);
}

/// What is not a list of texts stays an error, and so does a text where a list of messages is due.
#[test]
fn one_text_for_a_list() {
    let read = |text: &str| json::read::<v1::Service>(text.as_bytes());
    let per = |text: &str| read(text).map(|service| service.rate_limits[0].per.clone());
    assert_eq!(
        per(r#"{"rateLimits": [{"per": "caller"}]}"#),
        Ok(vec!["caller".to_owned()])
    );
    assert_eq!(
        per(r#"{"rate_limits": [{"per": ["caller"]}]}"#),
        Ok(vec!["caller".to_owned()])
    );
    assert_eq!(
        read(r#"{"access": {"allow": "us/*"}}"#)
            .unwrap()
            .access
            .unwrap()
            .allow,
        ["us/*"]
    );
    for (text, at) in [
        (r#"{"rateLimits": [{"per": 7}]}"#, "rateLimits[0].per"),
        (r#"{"rateLimits": "caller"}"#, "rateLimits"),
        (
            r#"{"rateLimits": [{"per": "caller", "burst": "x"}]}"#,
            "rateLimits[0].burst",
        ),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.fields()[0].field.starts_with(at), "{text}: {error}");
    }
}
