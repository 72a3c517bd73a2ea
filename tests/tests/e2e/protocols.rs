//! HTTP/1.1, HTTP/2 and gRPC, here and between regions, small and large.

use isthmus_upstream::{Client, ECHO_SERVICE};

use crate::stage::shared;

#[test]
fn a_request_keeps_its_protocol() {
    let stage = shared();
    let host = &stage.mesh.us.host;
    let caller = Client::new(&host.address()).unwrap();
    for region in ["us", "eu", "any"] {
        let reply = host.get("payments", region).unwrap();
        assert_eq!(reply.json()["protocol"], "HTTP/1.1", "{region}: {reply:?}");
        let headers = [("x-mesh-service", "payments"), ("x-mesh-region", region)];
        let answer = caller.http2("GET", "/", &headers).unwrap();
        assert_eq!(answer.body["protocol"], "HTTP/2.0", "{region}: {answer:?}");
    }
}

#[test]
fn grpc_unary_and_streaming() {
    let stage = shared();
    let caller = Client::new(&stage.mesh.us.host.address()).unwrap();
    for region in ["us", "eu", "any"] {
        let headers = [("x-mesh-service", ECHO_SERVICE), ("x-mesh-region", region)];
        let said = caller.say(&headers, "hello").unwrap();
        assert_eq!(said.message.text, "hello", "{region}");
        // Each text is sent when the last was answered, so nothing may wait for the end of the stream.
        let heard = caller.chat(&headers, &["one", "two", "three"]).unwrap();
        let texts: Vec<&str> = heard.iter().map(|said| said.text.as_str()).collect();
        assert_eq!(texts, ["one", "two", "three"], "{region}");
    }
}

#[test]
fn bodies_arrive_whole() {
    let stage = shared();
    let host = &stage.mesh.us.host;
    let body = "isthmus ".repeat(100_000);
    for region in ["us", "eu"] {
        let reply = host
            .call("POST", "/a/path?with=1")
            .service("payments")
            .region(region)
            .body(body.clone())
            .send()
            .unwrap();
        let seen = reply.json();
        assert_eq!(
            (seen["method"].as_str(), seen["path"].as_str()),
            (Some("POST"), Some("/a/path"))
        );
        assert!(
            seen["body"] == body,
            "{region}: the body changed on its way"
        );
    }
}

/// Sent by hand, since a gRPC library would give up by itself and hide what Envoy does.
#[test]
fn a_grpc_deadline_is_kept() {
    let stage = shared();
    // delay_ms: 5000
    let message = [0, 0, 0, 0, 3, 0x10, 0x88, 0x27];
    for region in ["us", "eu"] {
        let reply = stage
            .mesh
            .us
            .host
            .call("POST", "/isthmus.test.v1.Echo/Say")
            .region(region)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "300m")
            .body(message)
            .send()
            .unwrap();
        let deadline_exceeded = Some("4");
        assert_eq!(
            reply.header("grpc-status"),
            deadline_exceeded,
            "{region}: {reply:?}"
        );
    }
}
