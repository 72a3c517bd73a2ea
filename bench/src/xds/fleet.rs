//! Many clients, each a stream on a TCP connection of its own, that count what they get and take it.
//!
//! They share a process, and so a clock, with whoever writes the change; the server has another process for itself.

use std::{
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use prost_types::Struct;
use tokio::{
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
    sync::Semaphore,
    task::JoinHandle,
};

use super::message::{Mode, Node, Response, Scanner, Subscription};

/// How long a change or a connection may take in all.
const LIMIT: Duration = Duration::from_secs(120);
/// Connections being made at a time: below what a listener queues, as a connection that finds no place there is tried
/// again only after a second.
const CONNECTING: usize = 256;
/// Connections from one address: the system has some 28,000 ports for them.
const PER_ADDRESS: usize = 20_000;
/// Envoy's default windows, so that the server is held back no sooner than by Envoy.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 24 * 1024 * 1024;

/// What the clients of a fleet do.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    /// How many there are.
    pub(crate) streams: usize,
    /// The server.
    pub(crate) server: SocketAddr,
    /// The variant that they speak.
    pub(crate) mode: Mode,
    /// What each says of itself besides its id.
    pub(crate) metadata: Option<Struct>,
    /// What each wants.
    pub(crate) subscriptions: Vec<Subscription>,
}

/// Connected clients. They go with it.
#[derive(Debug)]
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    done: mpsc::Receiver<()>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    orders: Orders,
    begin: Instant,
    /// How many resources each client shall have got since it connected.
    wanted: AtomicU64,
    /// How many clients have.
    arrived: AtomicUsize,
    clients: Vec<Seen>,
    connecting: Semaphore,
    done: Mutex<mpsc::Sender<()>>,
    /// It was told to end, so whatever ends may.
    over: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    resources: AtomicU64,
    bytes: AtomicU64,
    /// When it had all that it wanted, in nanoseconds since the beginning.
    at: AtomicU64,
}

/// When the clients had what was wanted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Receipts {
    /// Seconds since the clock was started, by client.
    pub(crate) seconds: Vec<f64>,
    /// Bytes that all of them got together.
    pub(crate) bytes: u64,
}

impl Fleet {
    /// Connects everybody at once, and says when each had `wanted` resources.
    pub(crate) fn connect(
        runtime: &Runtime,
        orders: Orders,
        wanted: u64,
    ) -> Result<(Self, Receipts)> {
        let (sender, done) = mpsc::channel();
        let count = orders.streams;
        let shared = Arc::new(Shared {
            orders,
            begin: Instant::now(),
            wanted: AtomicU64::new(wanted),
            arrived: AtomicUsize::new(0),
            clients: (0..count).map(|_| Seen::default()).collect(),
            connecting: Semaphore::new(CONNECTING),
            done: Mutex::new(sender),
            over: AtomicBool::new(false),
            failure: Mutex::default(),
        });
        let begin = Instant::now();
        let clients = (0..count).map(|index| {
            let shared = shared.clone();
            runtime.spawn(async move {
                let ended = shared.run(index).await;
                if !shared.over.load(Relaxed) {
                    let why = match ended {
                        Ok(()) => anyhow!("the server ended the stream"),
                        Err(error) => error,
                    };
                    shared.fail(format!("client {index}: {why:#}"));
                }
            })
        });
        let fleet = Self {
            clients: clients.collect(),
            shared,
            done,
        };
        let receipts = fleet.receipts(begin, 0)?;
        Ok((fleet, receipts))
    }

    /// Does `write`, after which each client shall get `resources` more, and says when it had them.
    pub(crate) fn change(
        &self,
        resources: u64,
        write: impl FnOnce() -> Result<()>,
    ) -> Result<Receipts> {
        let before = self.bytes();
        self.shared.arrived.store(0, Relaxed);
        self.shared.wanted.fetch_add(resources, Relaxed);
        let begin = Instant::now();
        write()?;
        self.receipts(begin, before)
    }

    /// Fails when a client has got more than it wanted, or is gone. For when nothing is under way.
    pub(crate) fn check(&self) -> Result<()> {
        self.shared.check()?;
        let wanted = self.shared.wanted.load(Relaxed);
        let surplus = self
            .shared
            .clients
            .iter()
            .map(|client| client.resources.load(Relaxed))
            .find(|got| *got != wanted);
        match surplus {
            Some(got) => bail!("a client got {got} resources where {wanted} had changed"),
            None => Ok(()),
        }
    }

    fn receipts(&self, begin: Instant, before: u64) -> Result<Receipts> {
        if self.done.recv_timeout(LIMIT).is_err() {
            self.shared.check()?;
            let arrived = self.shared.arrived.load(Relaxed);
            bail!(
                "after {LIMIT:?} only {arrived} of {} clients had everything",
                self.shared.clients.len()
            );
        }
        self.shared.check()?;
        let offset = (begin - self.shared.begin).as_secs_f64();
        let seconds = |client: &Seen| client.at.load(Relaxed) as f64 / 1e9 - offset;
        Ok(Receipts {
            seconds: self.shared.clients.iter().map(seconds).collect(),
            bytes: self.bytes() - before,
        })
    }

    fn bytes(&self) -> u64 {
        let clients = self.shared.clients.iter();
        clients.map(|client| client.bytes.load(Relaxed)).sum()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        for client in &self.clients {
            client.abort();
        }
    }
}

impl Shared {
    async fn run(&self, index: usize) -> Result<()> {
        let permit = self.connecting.acquire().await?;
        let socket = self.dial(index).await?;
        socket.set_nodelay(true)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(socket)
            .await?;
        // One task for both: each stream has its connection to itself.
        tokio::select! {
            ended = connection => Ok(ended?),
            ended = self.talk(index, send, permit) => ended,
        }
    }

    async fn dial(&self, index: usize) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if self.orders.streams > PER_ADDRESS && self.orders.server.ip().is_loopback() {
            let last = u8::try_from(1 + index / PER_ADDRESS).context("too many streams")?;
            let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let connected = socket.connect(self.orders.server).await;
        connected.with_context(|| format!("cannot connect to {}", self.orders.server))
    }

    async fn talk(
        &self,
        index: usize,
        send: h2::client::SendRequest<Bytes>,
        permit: tokio::sync::SemaphorePermit<'_>,
    ) -> Result<()> {
        let orders = &self.orders;
        let mut send = send.ready().await?;
        let (response, mut requests) = send.send_request(self.opening()?, false)?;
        let mut node = Some(Node {
            id: format!("bench-{index}"),
            metadata: orders.metadata.clone(),
        });
        for subscription in &orders.subscriptions {
            requests.send_data(subscription.request(orders.mode, node.take()), false)?;
        }
        let response = response.await?;
        drop(permit);
        if let Some(status) = response.headers().get("grpc-status") {
            bail!(
                "refused: {status:?} {:?}",
                response.headers().get("grpc-message")
            );
        }
        let mut body = response.into_body();
        let mut scanner = Scanner::default();
        let mut complete = Vec::new();
        while let Some(bytes) = poll_fn(|cx| body.poll_data(cx)).await {
            let bytes = bytes?;
            body.flow_control().release_capacity(bytes.len())?;
            if let Some(client) = self.clients.get(index) {
                client.bytes.fetch_add(bytes.len() as u64, Relaxed);
            }
            let scanned = scanner.feed(&bytes, |response| complete.push(response));
            scanned.map_err(|_| anyhow!("the server sent what is no discovery response"))?;
            for response in complete.drain(..) {
                self.count(index, &response);
                let subscription = orders
                    .subscriptions
                    .iter()
                    .find(|known| known.type_url == response.type_url)
                    .with_context(|| format!("nobody asked for {:?}", response.type_url))?;
                requests.send_data(subscription.ack(orders.mode, &response), false)?;
            }
        }
        match poll_fn(|cx| body.poll_trailers(cx)).await? {
            Some(trailers) => bail!("the server ended the stream: {trailers:?}"),
            None => bail!("the server ended the stream"),
        }
    }

    fn opening(&self) -> Result<http::Request<()>> {
        let method = match self.orders.mode {
            Mode::Delta => "DeltaAggregatedResources",
            Mode::Sotw => "StreamAggregatedResources",
        };
        let service = "envoy.service.discovery.v3.AggregatedDiscoveryService";
        Ok(
            http::Request::post(format!("http://{}/{service}/{method}", self.orders.server))
                .version(http::Version::HTTP_2)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())?,
        )
    }

    fn count(&self, index: usize, response: &Response) {
        let Some(client) = self.clients.get(index) else {
            return;
        };
        let before = client.resources.fetch_add(response.resources, Relaxed);
        let wanted = self.wanted.load(Relaxed);
        if before < wanted && before + response.resources >= wanted {
            let now = self.begin.elapsed().as_nanos();
            client
                .at
                .store(u64::try_from(now).unwrap_or(u64::MAX), Relaxed);
            if self.arrived.fetch_add(1, Relaxed) + 1 == self.clients.len() {
                self.wake();
            }
        }
    }

    fn fail(&self, why: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(why);
        drop(failure);
        self.wake();
    }

    fn wake(&self) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody listens any more when the fleet is being dropped.
        let _ = done.send(());
    }

    fn check(&self) -> Result<()> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }
}
