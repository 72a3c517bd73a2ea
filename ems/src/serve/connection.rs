//! One connection: it has a place among those that there is room for, and does not keep it by saying or reading nothing.
//!
//! hyper bounds the time of an HTTP/1 header, but not the time until it knows which protocol is spoken, nor that until
//! an HTTP/2 connection asks for anything. Both are the time until the first request, and that is bounded here.
//!
//! Nor does it bound how long a peer may leave everything unread: a connection whose ping is not answered ends once the
//! peer was told so, which may be never.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::ConnectInfo;
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;
use tower::Service;

/// Clients connect when they have something to ask.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// A connection that was let in.
pub(super) struct Connection {
    stream: TcpStream,
    peer: Peer,
    /// When the first request must have come; `None`: it has.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How long the peer may take to read anything.
    patience: Duration,
    /// When it must have; `None`: nothing waits for it.
    stuck: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

/// What a request knows of its connection, by its extensions.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The connection has made a request.
    asked: Arc<AtomicBool>,
    /// `None`: it was gone before it was asked for.
    address: Option<SocketAddr>,
}

/// Services that note of each connection that it has asked, and of each request where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Noting<S>(pub(super) S);

impl<S: Service<Request<B>>, B> Service<Request<B>> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(peer) = request.extensions().get::<Peer>() {
            peer.asked.store(true, Relaxed);
            if let Some(address) = peer.address {
                request.extensions_mut().insert(ConnectInfo(address));
            }
        }
        self.0.call(request)
    }
}

impl Connection {
    /// `patience`: how long the peer may take to read anything.
    pub(super) fn new(stream: TcpStream, place: OwnedSemaphorePermit, patience: Duration) -> Self {
        let peer = Peer {
            asked: Arc::default(),
            address: stream.peer_addr().ok(),
        };
        Self {
            stream,
            peer,
            deadline: Some(Box::pin(sleep(FIRST_REQUEST))),
            patience,
            stuck: None,
            _place: place,
        }
    }

    /// What came of a write, unless that waits for too long.
    fn bounded(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let patience = self.patience;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(patience)));
        stuck.as_mut().poll(cx).map(|()| {
            let late = format!("nothing was read within {patience:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, late))
        })
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // What has come counts, also when we are late to read it.
        if let read @ Poll::Ready(_) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            return read;
        }
        if self.deadline.is_some() && self.peer.asked.load(Relaxed) {
            self.deadline = None;
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            let late = format!("no request came within {FIRST_REQUEST:?}");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, late)));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
