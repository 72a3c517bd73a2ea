//! Every refusal of the contract, as HTTP callers and as gRPC callers see it.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use isthmus_tests::{Envoy, Reply};
use isthmus_upstream::Client;
use serde_json::json;
use tonic::{Code, Status};

use crate::stage::{self, shared};

/// How a refusal looks.
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    code: &'static str,
    http: u16,
    grpc: Code,
}

const fn refusal(code: &'static str, http: u16, grpc: Code) -> Refusal {
    Refusal { code, http, grpc }
}

const BAD_SERVICE: Refusal = refusal("bad_service", 400, Code::InvalidArgument);
const BAD_REGION: Refusal = refusal("bad_region", 400, Code::InvalidArgument);
const BAD_VERSION: Refusal = refusal("bad_version", 400, Code::InvalidArgument);
const MISSING_SERVICE: Refusal = refusal("missing_service", 400, Code::InvalidArgument);
const UNKNOWN_REGION: Refusal = refusal("unknown_region", 404, Code::NotFound);
const UNKNOWN_SERVICE: Refusal = refusal("unknown_service", 404, Code::NotFound);
const NO_HEALTHY_ENDPOINT: Refusal = refusal("no_healthy_endpoint", 503, Code::Unavailable);
const ENDPOINT_FAILED: Refusal = refusal("endpoint_failed", 502, Code::Unavailable);
const DENIED: Refusal = refusal("denied", 403, Code::PermissionDenied);
const RATE_LIMITED: Refusal = refusal("rate_limited", 429, Code::ResourceExhausted);
pub(crate) const UNRESOLVED: Refusal = refusal("unresolved", 503, Code::Unavailable);
const LOOP: Refusal = refusal("loop", 508, Code::FailedPrecondition);

/// Asks over HTTP and over gRPC, compares what both are told, and returns it.
pub(crate) fn check(envoy: &Envoy, headers: &[(&str, &str)], expected: Refusal) -> (Reply, Status) {
    let call = headers
        .iter()
        .fold(envoy.call("GET", "/"), |call, (name, value)| {
            call.header(name, value)
        });
    let reply = call.send().unwrap();
    assert_eq!(
        (reply.error(), reply.status),
        (Some(expected.code), expected.http),
        "{headers:?}: {reply:?}"
    );
    assert_eq!(
        reply.header("content-type"),
        Some("application/json"),
        "{reply:?}"
    );
    assert_eq!(reply.header("grpc-status"), None, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["error"], expected.code, "{reply:?}");
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{reply:?}"
    );
    assert_eq!(
        reply.body.trim_end().lines().count(),
        1,
        "one line: {reply:?}"
    );

    let caller = Client::new(&envoy.address()).unwrap();
    let status = caller.say(headers, "").unwrap_err();
    assert_eq!(status.code(), expected.grpc, "{headers:?}: {status:?}");
    let error = status
        .metadata()
        .get("x-mesh-error")
        .map(|value| value.to_str().unwrap());
    assert_eq!(error, Some(expected.code), "{headers:?}: {status:?}");
    assert!(!status.message().is_empty(), "{headers:?}: {status:?}");
    (reply, status)
}

#[test]
fn malformed_names() {
    let stage = shared();
    let long = "a".repeat(254);
    for (headers, expected) in [
        (vec![("x-mesh-service", "no_underscore")], BAD_SERVICE),
        (vec![("x-mesh-service", "-dash")], BAD_SERVICE),
        (vec![("x-mesh-service", "")], BAD_SERVICE),
        (vec![("x-mesh-service", &long)], BAD_SERVICE),
        (
            vec![("x-mesh-service", "payments"), ("x-mesh-region", "e.u")],
            BAD_REGION,
        ),
        (
            vec![("x-mesh-service", "payments"), ("x-mesh-region", "")],
            BAD_REGION,
        ),
        (
            vec![("x-mesh-service", "payments"), ("x-mesh-version", "a b")],
            BAD_VERSION,
        ),
        // Well formed, but the service allows no pins: here, and at the gateway over there.
        (
            vec![("x-mesh-service", "payments"), ("x-mesh-version", "v2")],
            BAD_VERSION,
        ),
        (
            vec![
                ("x-mesh-service", "payments"),
                ("x-mesh-region", "eu"),
                ("x-mesh-version", "v2"),
            ],
            BAD_VERSION,
        ),
    ] {
        check(&stage.mesh.us.host, &headers, expected);
    }
}

#[test]
fn a_missing_service() {
    let stage = shared();
    // A gRPC caller always names one, by its path; so this is for HTTP.
    for headers in [
        vec![],
        vec![("x-mesh-region", "eu")],
        vec![("host", "payments.example")],
    ] {
        let call = headers.iter().fold(
            stage.mesh.us.host.call("GET", "/"),
            |call, (name, value)| call.header(name, value),
        );
        let reply = call.send().unwrap();
        assert_eq!(
            (reply.error(), reply.status),
            (Some(MISSING_SERVICE.code), MISSING_SERVICE.http),
            "{headers:?}: {reply:?}"
        );
    }
    // A path that names none is malformed.
    let reply = stage
        .mesh
        .us
        .host
        .call("POST", "/")
        .header("content-type", "application/grpc")
        .send()
        .unwrap();
    assert_eq!(reply.header("grpc-status"), Some("3"), "{reply:?}");
    assert_eq!(reply.error(), Some(BAD_SERVICE.code), "{reply:?}");
}

#[test]
fn unknown_names() {
    let stage = shared();
    for (region, expected) in [
        ("us", UNKNOWN_SERVICE),
        ("eu", UNKNOWN_SERVICE),
        ("any", UNKNOWN_SERVICE),
        ("mars", UNKNOWN_REGION),
    ] {
        let headers = [("x-mesh-service", "nobody"), ("x-mesh-region", region)];
        check(&stage.mesh.us.host, &headers, expected);
    }
}

#[test]
fn an_unknown_service_is_told_at_once() {
    let stage = shared();
    // What EMS does not answer is given up after this time (`timeout` of Envoy's on-demand filter), and then it is called
    // `unresolved`: to be told of an unknown service any later than that would be to have waited for nothing.
    const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
    // Each name for the first time, and then again.
    for n in [0, 1, 2, 0, 1, 2] {
        for region in ["us", "eu", "any"] {
            let begin = Instant::now();
            let reply = stage
                .mesh
                .us
                .host
                .get(&format!("nobody-{n}"), region)
                .unwrap();
            let took = begin.elapsed();
            assert_eq!(
                reply.error(),
                Some(UNKNOWN_SERVICE.code),
                "{region}: {reply:?}"
            );
            assert!(took < FETCH_TIMEOUT, "{region}: took {took:?}");
        }
    }
}

#[test]
fn nobody_is_there() {
    let stage = shared();
    stage
        .mesh
        .us
        .ems
        .put_service("deserted", json!({}))
        .unwrap();
    for (host, region) in [(&stage.mesh.us.host, "us"), (&stage.mesh.eu.host, "us")] {
        let headers = [("x-mesh-service", "deserted"), ("x-mesh-region", region)];
        check(host, &headers, NO_HEALTHY_ENDPOINT);
    }
}

/// A port where every connection is read from once, gets these bytes and is closed.
fn says(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let _ = connection.read(&mut [0; 1024]);
            let _ = connection.write_all(bytes);
        }
    });
    port
}

/// One that closes every connection once something was asked, and one that does not speak what its record says.
#[test]
fn endpoints_that_give_no_answer() {
    let stage = shared();
    let us = &stage.mesh.us;
    us.serve("broken", json!({}), says(b"")).unwrap();
    let old = says(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    us.serve("babel", json!({"protocol": "http2"}), old)
        .unwrap();
    for host in [&us.host, &stage.mesh.eu.host] {
        for service in ["broken", "babel"] {
            stage::refuses(host, service, "us", ENDPOINT_FAILED.code);
            let headers = [("x-mesh-service", service), ("x-mesh-region", "us")];
            check(host, &headers, ENDPOINT_FAILED);
        }
    }
}

#[test]
fn access_is_denied_here_and_at_the_gateway() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let rule = json!({"access": {"allow": ["eu/client", "us/billing"]}});
    let _vault = stage::service_for(us, "vault", rule, "vault-1", &eu.host);
    // The rule travels on its own way, so it may come after the endpoint.
    stage::refuses(&us.host, "vault", "us", "denied");
    check(&us.host, &[("x-mesh-service", "vault")], DENIED);

    us.ems
        .put_service("vault", json!({"access": {"allow": ["us/*"]}}))
        .unwrap();
    stage::reaches(&us.host, "vault", "us", "vault-1");
    stage::refuses(&eu.host, "vault", "us", "denied");
    let headers = [("x-mesh-service", "vault"), ("x-mesh-region", "us")];
    check(&eu.host, &headers, DENIED);

    us.ems
        .put_service("vault", json!({"access": {"allow": []}}))
        .unwrap();
    stage::refuses(&us.host, "vault", "us", "denied");
    us.ems.put_service("vault", json!({})).unwrap();
    stage::reaches(&eu.host, "vault", "us", "vault-1");
}

#[test]
fn over_a_rate_limit() {
    let us = &shared().mesh.us;
    let _rationed = stage::service(us, "rationed", json!({}), "rationed-1");
    let limit = json!({"per": "service", "requests": 1, "unit": "day"});
    us.ems
        .put_service("rationed", json!({"rateLimits": [limit]}))
        .unwrap();
    stage::refuses(&us.host, "rationed", "us", RATE_LIMITED.code);
    let (reply, status) = check(&us.host, &[("x-mesh-service", "rationed")], RATE_LIMITED);
    let again = status.metadata().get("retry-after");
    let again = again.map(|value| value.to_str().unwrap());
    for seconds in [reply.header("retry-after"), again] {
        let seconds: Option<u32> = seconds.and_then(|text| text.parse().ok());
        let within_a_day = seconds.is_some_and(|seconds| (1..=86_400).contains(&seconds));
        assert!(within_a_day, "{reply:?} {status:?}");
    }
}

#[test]
fn a_gateway_sends_nothing_out_again() {
    let stage = shared();
    let caller = crate::identity::Insider::of(&stage.mesh.us, &stage.mesh.eu);
    for headers in [
        vec![("x-mesh-service", "payments"), ("x-mesh-region", "us")],
        vec![("x-mesh-service", "payments"), ("x-mesh-region", "mars")],
        vec![
            ("x-mesh-service", "payments"),
            ("x-mesh-region", "eu"),
            ("x-mesh-hops", "1"),
        ],
        vec![("x-mesh-service", "payments"), ("x-mesh-hops", "no number")],
    ] {
        check(&caller.envoy, &headers, LOOP);
    }
}
