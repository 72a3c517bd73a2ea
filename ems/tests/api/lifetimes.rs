//! What outlives what: records a restart, endpoints their silence, a folder its server.

use std::time::Duration;

use isthmus_proto::v1::{self, registry_client::RegistryClient};
use serde_json::{Value, json};

use crate::server::{DEADLINE, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_records_and_renews_leases() {
    let server = Server::start().await;
    server
        .put("/v1/services/pay", json!({"version": "41"}))
        .await;
    let endpoint = json!({"address": "10.0.0.1", "port": 80, "ttl": 60});
    server
        .put("/v1/services/pay/endpoints/a", endpoint.clone())
        .await;
    let before = server
        .http("GET", "/v1/regions/us", &Value::Null)
        .await
        .json();
    let server = server.restart().await;
    let pay = server
        .http("GET", "/v1/services/pay", &Value::Null)
        .await
        .json();
    assert_eq!(pay["version"], "41");
    // The same identity too, or every other region would have to be told of new roots.
    let after = server
        .http("GET", "/v1/regions/us", &Value::Null)
        .await
        .json();
    assert_eq!(before, after);
    let again = server
        .http("PUT", "/v1/services/pay/endpoints/a", &endpoint)
        .await;
    assert_eq!(
        (again.status, again.json()["version"].clone()),
        (200, json!("1"))
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_endpoint_goes_and_the_metrics_show_it() {
    let server = Server::start().await;
    server.put("/v1/services/pay", json!({})).await;
    server
        .put(
            "/v1/services/pay/endpoints/a",
            json!({"address": "h", "port": 1, "ttl": 1}),
        )
        .await;
    assert_eq!(server.metric("ems_leases").await, Some(1.0));
    server
        .eventually("ems_records{kind=\"endpoint\"}", 0.0)
        .await;
    assert_eq!(server.metric("ems_leases").await, Some(0.0));
    assert_eq!(
        server.metric("ems_records{kind=\"service\"}").await,
        Some(1.0)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_silent_endpoints_are_held_with_an_alarm() {
    let server = Server::start().await;
    server.put("/v1/services/pay", json!({})).await;
    for id in ["a", "b", "c"] {
        let path = format!("/v1/services/pay/endpoints/{id}");
        server
            .put(&path, json!({"address": "h", "port": 1, "ttl": 1}))
            .await;
    }
    server.eventually("ems_leases_held", 3.0).await;
    let health = server.http("GET", "/healthz", &Value::Null).await;
    assert_eq!(
        (health.status, &health.json()["status"]),
        (200, &json!("alarm"))
    );
    assert_eq!(health.json()["heldLeases"]["pay"], json!(["a", "b", "c"]));
    for id in ["a", "b"] {
        let path = format!("/v1/services/pay/endpoints/{id}");
        server.http("DELETE", &path, &Value::Null).await;
    }
    // Somebody looked, so the last one is believed to be gone.
    server
        .eventually("ems_records{kind=\"endpoint\"}", 0.0)
        .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_with_the_same_folder_is_told_why_it_cannot() {
    let server = Server::start().await;
    let error = server.rival().await;
    assert!(error.contains("open in another process"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_does_not_keep_the_server() {
    let server = Server::start().await;
    let idle = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let mut client = RegistryClient::connect(format!("http://{}", server.xds))
        .await
        .unwrap();
    client.list_services(v1::ListRequest {}).await.unwrap();
    let begun = std::time::Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(8));
    drop(idle);
}
