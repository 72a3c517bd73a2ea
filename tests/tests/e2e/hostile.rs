//! Callers that lie, and bytes that are no text: the mesh does as the contract says, and goes on.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use isthmus_tests::eventually;
use isthmus_upstream::Client;
use serde_json::json;

use crate::stage::shared;

#[test]
fn internal_headers_are_the_meshs_own() {
    let stage = shared();
    let host = &stage.mesh.us.host;
    for (region, expected) in [("us", "us-1"), ("eu", "eu-1")] {
        let reply = host
            .call("GET", "/")
            .service("payments")
            .region(region)
            .header("x-mesh-destination", "nobody.us")
            .header("x-mesh-caller", "eu/admin")
            .header("x-mesh-hops", "7")
            .header("x-mesh-receipt", "\"us\";mode=forged")
            .debug()
            .send()
            .unwrap();
        let seen = reply.json();
        assert_eq!(seen["upstream"], expected, "{reply:?}");
        assert_eq!(
            seen["headers"]["x-mesh-destination"],
            format!("payments.{region}")
        );
        assert_eq!(seen["headers"]["x-mesh-caller"], "us/client");
        assert_ne!(seen["headers"]["x-mesh-hops"], "7");
        assert!(seen["headers"]["x-mesh-receipt"].is_null(), "{seen}");
        assert!(
            !reply.header("x-mesh-receipt").unwrap().contains("forged"),
            "{reply:?}"
        );
    }
    let reply = host
        .call("GET", "/")
        .header("x-mesh-destination", "payments.us")
        .send()
        .unwrap();
    assert_eq!(
        reply.error(),
        Some("missing_service"),
        "a destination is not a service: {reply:?}"
    );
}

#[test]
fn the_same_over_http2() {
    let stage = shared();
    let caller = Client::new(&stage.mesh.us.host.address()).unwrap();
    let headers = [
        ("x-mesh-service", "payments"),
        ("x-mesh-region", "eu"),
        ("x-mesh-destination", "payments.us"),
        ("x-mesh-caller", "eu/admin"),
        ("x-mesh-hops", "1"),
    ];
    let answer = caller.http2("GET", "/", &headers).unwrap();
    assert_eq!(answer.body["upstream"], "eu-1", "{answer:?}");
    assert_eq!(answer.body["headers"]["x-mesh-caller"], "us/client");
}

#[test]
fn a_gateway_believes_the_certificate_alone() {
    let stage = shared();
    let insider = crate::identity::Insider::of(&stage.mesh.us, &stage.mesh.eu);
    let reply = insider
        .envoy
        .call("GET", "/")
        .service("payments")
        .header("x-mesh-caller", "eu/admin")
        .header("x-mesh-destination", "nobody.eu")
        .send()
        .unwrap();
    let seen = reply.json();
    assert_eq!(seen["upstream"], "eu-1", "{reply:?}");
    assert_eq!(seen["headers"]["x-mesh-caller"], "us/insider", "{reply:?}");
    assert_eq!(
        seen["headers"]["x-mesh-destination"], "payments.eu",
        "{reply:?}"
    );
}

#[test]
fn a_header_given_twice_is_refused() {
    let stage = shared();
    let twice = |name: &str, one: &str, two: &str| {
        let call = stage.mesh.us.host.call("GET", "/").service("payments");
        let reply = call.header(name, one).header(name, two).send().unwrap();
        reply.error().map(str::to_owned)
    };
    assert_eq!(
        twice("x-mesh-service", "payments", "payments").as_deref(),
        Some("bad_service")
    );
    assert_eq!(
        twice("x-mesh-region", "eu", "us").as_deref(),
        Some("bad_region")
    );
    assert_eq!(
        twice("x-mesh-version", "v1", "v2").as_deref(),
        Some("bad_version")
    );
}

#[test]
fn bytes_that_are_no_text() {
    let stage = shared();
    let host = &stage.mesh.us.host;
    const NO_TEXT: &[u8] = b"\xff\xfe\x80";
    for (name, error) in [
        ("x-mesh-service", Some("bad_service")),
        ("x-mesh-region", Some("bad_region")),
        ("x-mesh-version", Some("bad_version")),
        ("x-mesh-caller", None),
        ("x-mesh-destination", None),
        ("x-mesh-hops", None),
        ("x-mesh-receipt", None),
        ("x-mesh-debug", None),
        ("content-type", None),
        ("x-other", None),
    ] {
        let mut call = host.call("GET", "/").header(name, NO_TEXT);
        if name != "x-mesh-service" {
            call = call.service("payments");
        }
        let reply = call.send().unwrap();
        assert_eq!(reply.error(), error, "{name}: {reply:?}");
        assert_eq!(
            reply.status,
            if error.is_some() { 400 } else { 200 },
            "{name}: {reply:?}"
        );
    }
}

#[test]
fn oversized_values() {
    let stage = shared();
    let host = &stage.mesh.us.host;
    for size in [254, 10_000, 50_000] {
        let long = "a".repeat(size);
        let reply = host.call("GET", "/").service(&long).send().unwrap();
        assert_eq!(reply.error(), Some("bad_service"), "{size}: {reply:?}");
        assert!(reply.body.len() < 1_000, "{size}: the reply repeats it");
        let call = host.call("GET", "/").service("payments");
        let reply = call.header("x-mesh-region", &long).send().unwrap();
        assert_eq!(reply.error(), Some("bad_region"), "{size}: {reply:?}");
        // What is none of the mesh's business passes, between regions too.
        let call = host.call("GET", "/").service("payments").region("eu");
        let reply = call.header("x-other", &long).send().unwrap();
        assert_eq!(reply.status, 200, "{size}: {reply:?}");
    }
    let reply = host
        .call("GET", "/")
        .service(&"a".repeat(100_000))
        .send()
        .unwrap();
    assert_eq!(reply.status, 431, "more than Envoy takes: {reply:?}");
    assert_eq!(
        host.get("payments", "us").unwrap().status,
        200,
        "and it goes on"
    );
}

/// What no client library would send.
#[test]
fn malformed_requests_end_alone() {
    let stage = shared();
    let host = &stage.mesh.us.host;
    for request in [
        "GET / HTTP/1.1\r\nx-mesh-service: payments\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: \u{0}\r\nx-mesh-service: payments\r\n\r\n",
        "GET /\u{7f} HTTP/1.1\r\nhost: a\r\nx-mesh-service: pay\u{0}ments\r\n\r\n",
        "\u{16}\u{3}\u{1}not tls\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all, and long enough to be read as one",
    ] {
        let mut connection = TcpStream::connect(host.address()).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset is an answer too.
        let _ = connection.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("200 OK"), "{request:?}: {answer}");
    }
    assert_eq!(
        host.get("payments", "us").unwrap().status,
        200,
        "and it goes on"
    );
}

/// A service that speaks as if it were a gateway or a filter.
#[test]
fn a_service_does_not_speak_for_the_mesh() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let liar = TcpListener::bind("127.0.0.1:0").unwrap();
    eu.ems.put_service("liar", json!({})).unwrap();
    eu.ems
        .put_endpoint("liar", "one", liar.local_addr().unwrap().port())
        .unwrap();
    // Ends with the tests.
    thread::spawn(move || {
        for connection in liar.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request);
            let _ = connection.write_all(
                b"HTTP/1.1 503 Busy\r\nx-mesh-error: no_healthy_endpoint\r\nx-mesh-receipt: forged\r\n\
                  x-own: kept\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
    for caller in [&eu.host, &us.host] {
        eventually("the service to be there", || {
            caller
                .get("liar", "eu")
                .is_ok_and(|reply| reply.header("x-own") == Some("kept"))
        })
        .unwrap();
        let reply = caller.get("liar", "eu").unwrap();
        assert_eq!(reply.status, 503, "{reply:?}");
        assert_eq!(reply.header("x-mesh-error"), None, "{reply:?}");
        assert_eq!(reply.header("x-mesh-receipt"), None, "{reply:?}");
    }
    // What the filter itself says stays, also if the request looked as if it were for a service here.
    let reply = eu
        .host
        .call("GET", "/")
        .service("liar")
        .region("mars")
        .header("x-mesh-destination", "liar.eu")
        .send()
        .unwrap();
    assert_eq!(reply.error(), Some("unknown_region"), "{reply:?}");
}
