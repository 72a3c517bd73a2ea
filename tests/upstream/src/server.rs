//! The upstream itself.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, Method, StatusCode, Uri, Version},
    response::IntoResponse,
    serve::ListenerExt,
};
use serde_json::json;
use tokio::{net::TcpListener, runtime, sync::oneshot};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming, metadata::KeyAndValueRef, service::Routes};

use crate::v1::{
    EchoRequest, EchoResponse,
    echo_server::{Echo, EchoServer},
};

/// A running upstream. Dropped, it ends, and so do its connections.
#[derive(Debug)]
pub struct Upstream {
    id: String,
    port: u16,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<Stop>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How to end.
#[derive(Debug)]
enum Stop {
    /// Answer what is under way first.
    Gracefully,
    /// Break it off.
    AtOnce,
}

#[derive(Debug, Default)]
struct Seen {
    requests: AtomicU64,
    in_flight: AtomicU64,
    delay_ms: AtomicU64,
}

#[derive(Clone, Debug)]
struct Service {
    id: String,
    seen: Arc<Seen>,
}

impl Upstream {
    /// Starts an upstream on a free port of loopback.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(id: &str) -> Result<Upstream> {
        let seen = Arc::new(Seen::default());
        let service = Service {
            id: id.to_owned(),
            seen: Arc::clone(&seen),
        };
        let (stop, stopped) = oneshot::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0")
            .with_context(|| format!("upstream {id} cannot listen"))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new()
            .name(format!("upstream {id}"))
            .spawn(move || runtime.block_on(serve(listener, service, stopped)))?;
        Ok(Upstream {
            id: id.to_owned(),
            port,
            seen,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Its id, which is in every answer.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Requests that came so far.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Requests not answered yet.
    pub fn in_flight(&self) -> u64 {
        self.seen.in_flight.load(Ordering::SeqCst)
    }

    /// Makes every answer take so long.
    pub fn set_delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.seen.delay_ms.store(delay, Ordering::SeqCst);
    }

    /// Takes no new connections, answers what is under way, ends.
    ///
    /// # Errors
    /// When it ended before.
    pub fn finish(mut self) -> Result<()> {
        self.end(Stop::Gracefully)
    }

    fn end(&mut self, how: Stop) -> Result<()> {
        let ended = || anyhow!("the upstream ended by itself");
        self.stop
            .take()
            .and_then(|stop| stop.send(how).ok())
            .ok_or_else(ended)?;
        match self.thread.take().map(thread::JoinHandle::join) {
            Some(Ok(())) => Ok(()),
            _ => Err(ended()),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // After `finish` there is nothing left to end.
        let _ = self.end(Stop::AtOnce);
    }
}

async fn serve(
    listener: std::net::TcpListener,
    service: Service,
    stopped: oneshot::Receiver<Stop>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let listener = listener.tap_io(|connection| {
        // Only latency suffers without it.
        let _ = connection.set_nodelay(true);
    });
    let plain: Router = Router::new().fallback(echo).with_state(service.clone());
    let router = Routes::new(EchoServer::new(service))
        .into_axum_router()
        .fallback_service(plain);
    let (drain, draining) = oneshot::channel::<()>();
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(async {
            let _ = draining.await;
        })
        .into_future();
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = &mut serving => {}
        how = stopped => if let Ok(Stop::Gracefully) = how {
            let _ = drain.send(());
            let _ = serving.await;
        }
    }
}

impl Service {
    /// Counts a request until what it returns is dropped, and takes as long as asked for.
    async fn begin(&self, delay_ms: u64) -> InFlight {
        self.seen.requests.fetch_add(1, Ordering::SeqCst);
        self.seen.in_flight.fetch_add(1, Ordering::SeqCst);
        let guard = InFlight(Arc::clone(&self.seen));
        let delay = delay_ms.max(self.seen.delay_ms.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_millis(delay)).await;
        guard
    }
}

struct InFlight(Arc<Seen>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Plain HTTP: `?delay_ms=` and `?status=` say how to answer.
async fn echo(
    State(service): State<Service>,
    Query(wish): Query<HashMap<String, u64>>,
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let wish = |name: &str| wish.get(name).copied();
    let _guard = service.begin(wish("delay_ms").unwrap_or_default()).await;
    let status = wish("status")
        .and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok())
        .unwrap_or(StatusCode::OK);
    let headers: BTreeMap<&str, String> = headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str(), value)
        })
        .collect();
    let seen = json!({
        "upstream": service.id,
        "protocol": format!("{version:?}"),
        "method": method.as_str(),
        "path": uri.path(),
        "host": uri.host(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    (status, Json(seen))
}

#[tonic::async_trait]
impl Echo for Service {
    async fn say(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let headers = metadata(&request);
        let request = request.into_inner();
        let _guard = self.begin(u64::from(request.delay_ms)).await;
        Ok(Response::new(self.answer(request.text, headers)))
    }

    type ChatStream = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

    async fn chat(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        let headers = metadata(&request);
        let service = self.clone();
        let guard = self.begin(0).await;
        let answers = request.into_inner().then(move |request| {
            // The request is in flight for as long as the stream is.
            let _ = &guard;
            let (service, headers) = (service.clone(), headers.clone());
            async move {
                let request = request?;
                tokio::time::sleep(Duration::from_millis(u64::from(request.delay_ms))).await;
                Ok(service.answer(request.text, headers))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Service {
    fn answer(&self, text: String, headers: HashMap<String, String>) -> EchoResponse {
        EchoResponse {
            text,
            upstream: self.id.clone(),
            headers,
        }
    }
}

fn metadata<T>(request: &Request<T>) -> HashMap<String, String> {
    let ascii = |entry| match entry {
        KeyAndValueRef::Ascii(name, value) => {
            Some((name.to_string(), value.to_str().ok()?.to_owned()))
        }
        KeyAndValueRef::Binary(..) => None,
    };
    request.metadata().iter().filter_map(ascii).collect()
}
