//! Connections: HTTP/1.1 and HTTP/2 on the same socket, kept alive so that dead peers are noticed.

use std::{convert::Infallible, io, net::SocketAddr, num::NonZeroU32, time::Duration};

use axum::{Router, body::Body, http, response::IntoResponse};
use futures::{Stream, StreamExt};
use isthmus_model::limit::Rate;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    time::{Instant, sleep},
};
use tonic::{
    server::NamedService,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tracing::error;

/// An Envoy that is cut off without a word is noticed within the sum of these, and its streams end.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// Connections that may wait to be let in: as many as Linux allows by default.
const BACKLOG: u32 = 4_096;

/// Connections a second that are let in unless somebody says otherwise: ten thousand Envoys are there within five seconds,
/// and two processors have as much time left for those that are there already.
pub const CONNECTS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(1_999);

/// Listens on an address.
///
/// # Errors
/// Those of the system.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A server that is started again need not wait for what is left of its connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How many connections are let in: so many a second, and half a second's worth at once. When all Envoys come back
/// together, those that wait do so in the kernel, where they cost nothing, and not in line before those that are served.
#[must_use]
pub fn admission(per_second: NonZeroU32) -> Option<Rate> {
    Rate::new(
        per_second.get(),
        1_000_000_000,
        per_second.get().div_ceil(2),
    )
}

/// Serves a router on a socket until told to stop and all connections have ended. `None`: everybody is let in at once.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    admission: Option<Rate>,
    mut stop: watch::Receiver<bool>,
) {
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(PING_EVERY));
    let incoming = admit(incoming, admission);
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

/// Takes one connection after the other, each when its time has come.
fn admit<T>(incoming: impl Stream<Item = T>, admission: Option<Rate>) -> impl Stream<Item = T> {
    let start = Instant::now();
    let mut state = 0;
    incoming.then(move |connection| {
        let mut wait = 0;
        if let Some(rate) = admission {
            let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let taken = rate.take(state, now).or_else(|denied| {
                wait = denied.wait;
                rate.take(state, now.saturating_add(wait))
            });
            state = taken.unwrap_or(state);
        }
        async move {
            if wait > 0 {
                sleep(Duration::from_nanos(wait)).await;
            }
            connection
        }
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    /// Ten a second, five at once: what has come when, in tenths of a second.
    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_let_in_at_a_rate() {
        let rate = admission(NonZeroU32::new(10).unwrap());
        for (crowd, last) in [(1, 0), (5, 0), (6, 1), (25, 20)] {
            let start = Instant::now();
            let all: Vec<_> = admit(stream::iter(0..crowd), rate).collect().await;
            assert_eq!(all.len(), crowd);
            let tenths = start.elapsed().as_millis().div_euclid(100);
            assert_eq!(tenths, last, "{crowd} at once");
        }
        let start = Instant::now();
        let _: Vec<_> = admit(stream::iter(0..1_000), None).collect().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
