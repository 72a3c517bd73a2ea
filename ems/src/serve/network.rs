//! Connections: HTTP/1.1 and HTTP/2 on the same socket, kept alive so that dead peers are noticed.

use std::{convert::Infallible, io, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use axum::{Router, body::Body as AxumBody, http, response::IntoResponse};
use futures::{Stream, StreamExt, stream};
use isthmus_model::limit::Rate;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, watch},
    time::{Instant, sleep},
};
use tonic::{
    body::Body,
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};
use tower::Service;
use tracing::error;

use super::connection::{Connection, Noting};

/// On what terms connections are served.
#[derive(Clone, Debug)]
pub struct Terms {
    /// So many at a time.
    pub places: usize,
    /// Let in at this rate; `None`: everybody at once.
    pub admission: Option<Rate>,
    /// When one is given up.
    pub keepalive: Keepalive,
}

/// A peer that is cut off without a word is noticed within the sum of these, and its streams end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// One that has said nothing for so long is pinged.
    pub after: Duration,
    /// It has to answer within this time.
    pub within: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(30),
            within: Duration::from_secs(10),
        }
    }
}

/// Connections that may wait to be let in: as many as Linux allows by default.
const BACKLOG: u32 = 4_096;

/// Requests under way on one HTTP/2 connection; its client waits with more, or makes another connection.
const REQUESTS_AT_ONCE: u32 = 1_000;

/// After a connection could not be taken: what the system lacks it does not have a moment later.
const RETRY: Duration = Duration::from_millis(100);

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

/// Serves what is on a socket until told to stop and all connections have ended.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    terms: Terms,
    mut stop: watch::Receiver<bool>,
) where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let Terms {
        places,
        admission,
        keepalive,
    } = terms;
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(keepalive.after));
    // Whoever reads nothing answers no ping either.
    let patience = keepalive.after + keepalive.within;
    let incoming = admit(seat(incoming, places, patience), admission);
    let stopped = async move {
        // The sender going away means the same.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let served = Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(REQUESTS_AT_ONCE)
        .http2_keepalive_interval(Some(keepalive.after))
        .http2_keepalive_timeout(Some(keepalive.within))
        .serve_with_incoming_shutdown(Noting(service), incoming, stopped)
        .await;
    if let Err(error) = served {
        error!(%error, "a server failed");
    }
}

/// Takes a connection only when there is a place for it.
fn seat(
    incoming: TcpIncoming,
    places: usize,
    patience: Duration,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
    stream::unfold(incoming, move |mut incoming| {
        let places = places.clone();
        async move {
            let place = places.acquire_owned().await.ok()?;
            let accepted = incoming.next().await?;
            if let Err(error) = &accepted {
                error!(%error, "cannot take a connection");
                sleep(RETRY).await;
            }
            let connection = accepted.map(|stream| Connection::new(stream, place, patience));
            Some((connection, incoming))
        }
    })
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
    S: Service<http::Request<AxumBody>, Error = Infallible>
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
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };
    use tonic::service::Routes;

    use super::*;
    use crate::serve::connection::FIRST_REQUEST;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: ems\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n";
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

    /// A server with so many places; it ends with the sender.
    fn server(places: usize) -> (SocketAddr, watch::Sender<bool>) {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "" }));
        let terms = Terms {
            places,
            admission: None,
            keepalive: Keepalive::default(),
        };
        tokio::spawn(serve(listener, Routes::from(router), terms, stopped));
        (address, stop)
    }

    async fn say(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Whether the answer to a request comes, in time.
    async fn answered(stream: &mut TcpStream) -> bool {
        let mut begin = [0; ANSWER.len()];
        let answer = timeout(Duration::from_secs(1), stream.read_exact(&mut begin)).await;
        answer.is_ok_and(|read| read.is_ok() && begin == ANSWER)
    }

    /// Time is the test's: it goes on when nothing else does.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_for_nothing_ends() {
        let (address, _stop) = server(100);
        let start = Instant::now();
        let half = PREFACE.split_at(10).0;
        let idle = [PREFACE, SETTINGS].concat();
        for said in [
            &b""[..],
            b"G",
            b"GET / HTTP/1.1\r\nhost:",
            half,
            PREFACE,
            &idle,
        ] {
            let before = start.elapsed();
            let mut stream = say(address, said).await;
            let mut rest = Vec::new();
            let ended = timeout(FIRST_REQUEST * 2, stream.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "{said:?} stays");
            let after = start.elapsed() - before;
            assert!(after >= FIRST_REQUEST, "{said:?} ended after {after:?}");
        }
        // One that has asked may take its time.
        let mut stream = say(address, GET).await;
        assert!(answered(&mut stream).await);
        sleep(FIRST_REQUEST * 2).await;
        stream.write_all(GET).await.unwrap();
        let mut more = vec![0; 1_024];
        let read = stream.read(&mut more).await.unwrap();
        assert!(read > 0, "the connection was ended");
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_for_one() {
        let (address, _stop) = server(2);
        let mut first = say(address, GET).await;
        let mut second = say(address, GET).await;
        assert!(answered(&mut first).await && answered(&mut second).await);
        let mut third = say(address, GET).await;
        assert!(!answered(&mut third).await, "there were two places");
        drop(first);
        assert!(answered(&mut third).await);
    }

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
