//! The registry's API as its clients see it: a whole server, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

#[path = "api/lifetimes.rs"]
mod lifetimes;
#[path = "api/server.rs"]
mod server;

use isthmus_proto::v1::{self, registry_client::RegistryClient};
use serde_json::{Value, json};
use tonic::Code;

use server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_their_answers() {
    let server = Server::start().await;
    let pay = "/v1/services/pay";
    let a = "/v1/services/pay/endpoints/a";
    let address = json!({"address": "10.0.0.1", "port": 80});
    let big = json!({"zone": "x".repeat(1024 * 1024)});
    // Method, path, body, then status and, by pointer, what the answer says.
    let table: Vec<(&str, &str, Value, u16, &str, Value)> = vec![
        (
            "GET",
            "/v1/services",
            Value::Null,
            200,
            "/services",
            json!([]),
        ),
        (
            "GET",
            pay,
            Value::Null,
            404,
            "/type",
            json!("urn:isthmus:not-found"),
        ),
        (
            "PUT",
            a,
            address.clone(),
            404,
            "/type",
            json!("urn:isthmus:not-found"),
        ),
        ("PUT", pay, Value::Null, 201, "/version", json!("1")),
        (
            "PUT",
            pay,
            json!({"name": "PAY"}),
            200,
            "/version",
            json!("1"),
        ),
        (
            "PUT",
            pay,
            json!({"protocol": "grpc"}),
            200,
            "/version",
            json!("2"),
        ),
        (
            "PUT",
            pay,
            json!({"version": 1}),
            409,
            "/storedVersion",
            json!("2"),
        ),
        (
            "PUT",
            pay,
            json!({"version": "9"}),
            200,
            "/version",
            json!("9"),
        ),
        (
            "PUT",
            pay,
            json!({"name": "shop"}),
            400,
            "/errors/0/field",
            json!("name"),
        ),
        (
            "PUT",
            pay,
            json!({"retrys": {}}),
            400,
            "/type",
            json!("urn:isthmus:invalid"),
        ),
        (
            "PUT",
            pay,
            json!({"connectTimeout": "0s", "retries": {"on": ["never"]}}),
            400,
            "/errors/1/field",
            json!("retries.on[0]"),
        ),
        (
            "PUT",
            pay,
            big,
            413,
            "/type",
            json!("urn:isthmus:too-large"),
        ),
        (
            "PUT",
            "/v1/services/-",
            Value::Null,
            400,
            "/errors/0/field",
            json!("name"),
        ),
        ("PUT", a, address.clone(), 201, "/version", json!("1")),
        ("PUT", a, address.clone(), 200, "/version", json!("1")),
        (
            "PUT",
            a,
            json!({"id": "b", "address": "h", "port": 1}),
            400,
            "/errors/0/field",
            json!("id"),
        ),
        (
            "PUT",
            a,
            json!({"service": "x", "address": "h", "port": 1}),
            400,
            "/errors/0/field",
            json!("service"),
        ),
        (
            "POST",
            "/v1/services/pay/endpoints/a/drain",
            Value::Null,
            200,
            "/draining",
            json!(true),
        ),
        ("PUT", a, address, 200, "/draining", json!(true)),
        (
            "GET",
            "/v1/services/pay/endpoints",
            Value::Null,
            200,
            "/endpoints/0/version",
            json!("2"),
        ),
        (
            "GET",
            "/v1/services/none/endpoints",
            Value::Null,
            404,
            "/status",
            json!(404),
        ),
        ("DELETE", a, Value::Null, 200, "/version", json!("2")),
        ("GET", a, Value::Null, 404, "/status", json!(404)),
        (
            "PUT",
            "/v1/regions/eu",
            json!({"gateways": [{"address": "gw.eu", "port": 15443}]}),
            201,
            "/version",
            json!("1"),
        ),
        (
            "PUT",
            "/v1/regions/eu",
            json!({"trustBundle": "x"}),
            400,
            "/errors/0/field",
            json!("trustBundle"),
        ),
        (
            "GET",
            "/v1/regions",
            Value::Null,
            200,
            "/regions/1/local",
            json!(true),
        ),
        (
            "DELETE",
            "/v1/regions/us",
            Value::Null,
            409,
            "/type",
            json!("urn:isthmus:own-region"),
        ),
        (
            "DELETE",
            "/v1/regions/eu",
            Value::Null,
            200,
            "/version",
            json!("1"),
        ),
        ("GET", "/v1/nodes", Value::Null, 200, "/nodes", json!([])),
        ("GET", "/v1/limits", Value::Null, 200, "/limits", json!([])),
        (
            "GET",
            "/v1/limits?service=nobody",
            Value::Null,
            404,
            "/type",
            json!("urn:isthmus:not-found"),
        ),
        (
            "GET",
            "/v1/limits?colour=red",
            Value::Null,
            400,
            "/errors/0/field",
            json!("colour"),
        ),
        (
            "GET",
            "/v1/nodes?node=nobody",
            Value::Null,
            200,
            "/nodes",
            json!([]),
        ),
        (
            "GET",
            "/v1/nodes?nodes=x",
            Value::Null,
            400,
            "/errors/0/field",
            json!("nodes"),
        ),
        (
            "GET",
            "/v1/explain?service=pay&region=us&header=x-mesh-hops:0",
            Value::Null,
            200,
            "/error",
            json!("no_healthy_endpoint"),
        ),
        (
            "GET",
            "/v1/explain?service=pay&region=mars",
            Value::Null,
            200,
            "/error",
            json!("unknown_region"),
        ),
        (
            "GET",
            "/v1/explain?service=pay&region=us&header=:path:/p.Pay/Charge&header=:method%3DGET",
            Value::Null,
            200,
            "/error",
            json!("no_healthy_endpoint"),
        ),
        (
            "GET",
            "/v1/explain?service=pay&header=:x",
            Value::Null,
            400,
            "/errors/0/field",
            json!("header"),
        ),
        (
            "GET",
            "/v1/explain?colour=red",
            Value::Null,
            400,
            "/errors/0/field",
            json!("colour"),
        ),
        ("GET", "/healthz", Value::Null, 200, "/status", json!("ok")),
        (
            "GET",
            "/readyz",
            Value::Null,
            200,
            "/status",
            json!("ready"),
        ),
        (
            "GET",
            "/openapi.json",
            Value::Null,
            200,
            "/openapi",
            json!("3.1.0"),
        ),
        (
            "GET",
            "/nothing",
            Value::Null,
            404,
            "/type",
            json!("urn:isthmus:no-such-path"),
        ),
        (
            "GET",
            "/v1/services/%ff",
            Value::Null,
            400,
            "/errors/0/field",
            json!("path"),
        ),
        (
            "POST",
            "/v1/services",
            Value::Null,
            405,
            "/type",
            json!("urn:isthmus:method-not-allowed"),
        ),
    ];
    for (method, path, body, status, pointer, expect) in table {
        let answer = server.http(method, path, &body).await;
        let what = format!("{method} {path}: {answer:?}");
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(answer.json().pointer(pointer), Some(&expect), "{what}");
        let media = if status < 400 {
            "application/json"
        } else {
            "application/problem+json"
        };
        assert_eq!(answer.media, media, "{what}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_error_hides_another() {
    let server = Server::start().await;
    for (method, path, body, fields) in [
        (
            "PUT",
            "/v1/services/z1",
            json!({"connectTimeout": "900s", "foo": 1, "protocol": "x", "name": "z2"}),
            vec!["foo", "protocol", "name", "connectTimeout"],
        ),
        // A field that is not known and has a known one's name in it, and one that cannot be read and so is not missing.
        (
            "PUT",
            "/v1/services/z1/endpoints/a",
            json!({"addressed": "", "port": "x", "ttl": "1ms", "id": "b"}),
            vec!["addressed", "port", "ttl", "id", "address"],
        ),
        (
            "PUT",
            "/v1/regions/r1",
            json!({"foo": 1, "gateways": [{"address": "a b", "port": 7, "bar": 2}]}),
            vec!["foo", "gateways[0].bar", "gateways[0].address"],
        ),
        (
            "GET",
            "/v1/explain?foo=1&bar=2&header=x",
            Value::Null,
            vec!["foo", "bar", "header"],
        ),
    ] {
        let answer = server.http(method, path, &body).await;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        let errors = answer.json()["errors"].take();
        let told: Vec<_> = errors.as_array().unwrap().iter().collect();
        let told: Vec<_> = told.iter().map(|e| e["field"].as_str().unwrap()).collect();
        assert_eq!(told, fields, "{path}: {answer:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_writes_nothing() {
    let server = Server::start().await;
    for (site, status) in [
        ("cross-site", 403),
        ("same-site", 403),
        ("same-origin", 201),
        ("none", 200),
    ] {
        let answer = server
            .http_with(
                "PUT",
                "/v1/services/pay",
                &Value::Null,
                &[("sec-fetch-site", site)],
            )
            .await;
        assert_eq!(answer.status, status, "{site}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ports_speak_grpc() {
    let server = Server::start().await;
    for (port, outcome) in [(server.http, 1), (server.xds, 2)] {
        let mut client = RegistryClient::connect(format!("http://{port}"))
            .await
            .unwrap();
        let service = v1::Service {
            name: "Pay".to_owned(),
            allow_version_pins: outcome == 2,
            ..v1::Service::default()
        };
        let stored = client.put_service(service).await.unwrap().into_inner();
        assert_eq!((stored.name.as_str(), stored.version), ("pay", outcome));

        let endpoint = |service: &str, id: &str| v1::Endpoint {
            service: service.to_owned(),
            id: id.to_owned(),
            address: "10.0.0.1".to_owned(),
            port: 80,
            ..v1::Endpoint::default()
        };
        let missing = client
            .put_endpoint(endpoint("nobody", "a"))
            .await
            .unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
        assert!(
            missing.message().contains("put the service first"),
            "{missing}"
        );
        let invalid = client.put_endpoint(endpoint("", "a/b")).await.unwrap_err();
        assert_eq!(invalid.code(), Code::InvalidArgument);
        assert!(invalid.message().contains("service: ") && invalid.message().contains("id: "));
        let stale = v1::Endpoint {
            version: 1,
            port: 81,
            ..endpoint("pay", "a")
        };
        client
            .put_endpoint(v1::Endpoint {
                version: 5,
                ..endpoint("pay", "a")
            })
            .await
            .unwrap();
        let stale = client.put_endpoint(stale).await.unwrap_err();
        assert_eq!(stale.code(), Code::FailedPrecondition);
        let target = v1::EndpointRef {
            service: "pay".to_owned(),
            id: "a".to_owned(),
        };
        let drained = client
            .drain_endpoint(target.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!((drained.version, drained.draining), (6, Some(true)));
        assert_eq!(
            client
                .delete_endpoint(target)
                .await
                .unwrap()
                .into_inner()
                .version,
            6
        );
        let home = v1::RegionRef {
            region: "us".to_owned(),
        };
        let home = client.get_region(home.clone()).await.unwrap().into_inner();
        assert!(home.local && home.trust_bundle.contains("BEGIN CERTIFICATE"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_served() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let server = Server::start().await;
    let channel = tonic::transport::Endpoint::new(format!("http://{}", server.xds)).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "isthmus.v1.Registry"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status, 1, "{service}");
    }
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection
        .server_reflection_info(tokio_stream::once(ask))
        .await
        .unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    assert!(
        list.service
            .iter()
            .any(|service| service.name == "isthmus.v1.Registry")
    );
    server.stop().await;
}
