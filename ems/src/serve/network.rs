//! Connections: HTTP/1.1 and HTTP/2 on the same socket, kept alive so that dead peers are noticed.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, http, response::IntoResponse};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    server::NamedService,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tracing::error;

/// An Envoy that is cut off without a word is noticed within the sum of these, and its streams end.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// Serves a router on a socket until told to stop and all connections have ended.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(PING_EVERY));
    let stopped = async move {
        // The sender going away means the same.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let served = Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PONG_WITHIN))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(incoming, stopped)
        .await;
    if let Err(error) = served {
        error!(%error, "a server failed");
    }
}

/// Adds a gRPC service to a router.
pub(super) fn grpc<S>(router: Router, service: S) -> Router
where
    S: tower::Service<http::Request<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    router.route_service(&format!("/{}/{{*method}}", S::NAME), service)
}
