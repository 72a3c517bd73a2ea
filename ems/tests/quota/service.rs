//! A quota service that does what a test says, and remembers what Envoys reported.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Instant,
};

use envoy_types::pb::{
    envoy::{
        service::rate_limit_quota::v3::{
            BucketId, RateLimitQuotaResponse, RateLimitQuotaUsageReports,
            rate_limit_quota_response::{
                BucketAction,
                bucket_action::{self, AbandonAction, QuotaAssignmentAction},
            },
            rate_limit_quota_service_server::{RateLimitQuotaService, RateLimitQuotaServiceServer},
        },
        r#type::v3::{
            RateLimitStrategy, TokenBucket,
            rate_limit_strategy::{BlanketRule, Strategy},
        },
    },
    google::protobuf::{Duration, UInt32Value},
};
use futures::{Stream, StreamExt};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// What an Envoy reported of one bucket.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Which stream it came on, counted from 0.
    pub(crate) stream: usize,
    /// Who said on opening the stream that it is that node.
    pub(crate) node: String,
    /// When.
    pub(crate) at: Instant,
    /// The value of the bucket's only key.
    pub(crate) bucket: String,
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
}

#[derive(Default)]
struct State {
    reports: Vec<Report>,
    /// Streams so far.
    begun: usize,
    streams: Vec<mpsc::UnboundedSender<Result<RateLimitQuotaResponse, Status>>>,
}

/// The service. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Quotas(Arc<Mutex<State>>);

/// An answer for one bucket.
pub(crate) type Action = bucket_action::BucketAction;

/// The key of every bucket in these tests.
pub(crate) const KEY: &str = "limit";

/// So many tokens at most, and so many more in so many seconds.
pub(crate) fn tokens(max: u32, fill: u32, seconds: i64, ttl: i64) -> Action {
    assign(
        Strategy::TokenBucket(TokenBucket {
            max_tokens: max,
            tokens_per_fill: Some(UInt32Value { value: fill }),
            fill_interval: Some(Duration { seconds, nanos: 0 }),
        }),
        ttl,
    )
}

pub(crate) fn blanket(rule: BlanketRule, ttl: i64) -> Action {
    assign(Strategy::BlanketRule(rule.into()), ttl)
}

pub(crate) fn assign(strategy: Strategy, ttl: i64) -> Action {
    Action::QuotaAssignmentAction(QuotaAssignmentAction {
        assignment_time_to_live: Some(Duration {
            seconds: ttl,
            nanos: 0,
        }),
        rate_limit_strategy: Some(RateLimitStrategy {
            strategy: Some(strategy),
        }),
    })
}

pub(crate) fn abandon() -> Action {
    Action::AbandonAction(AbandonAction {})
}

fn response(bucket: &str, action: Action) -> RateLimitQuotaResponse {
    RateLimitQuotaResponse {
        bucket_action: vec![BucketAction {
            bucket_id: Some(BucketId {
                bucket: [(KEY.to_owned(), bucket.to_owned())].into(),
            }),
            bucket_action: Some(action),
        }],
    }
}

impl Quotas {
    /// Serves on a free port, for as long as the test runs.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = RateLimitQuotaServiceServer::new(self.clone());
        let served = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(served);
        address
    }

    /// Says something of a bucket to all Envoys.
    pub(crate) fn push(&self, bucket: &str, action: Action) {
        let state = self.0.lock().unwrap();
        for stream in &state.streams {
            let _ = stream.send(Ok(response(bucket, action)));
        }
    }

    /// Ends all streams.
    pub(crate) fn end_streams(&self) {
        for stream in self.0.lock().unwrap().streams.drain(..) {
            let _ = stream.send(Err(Status::unavailable("later")));
        }
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        self.0.lock().unwrap().reports.clone()
    }
}

#[tonic::async_trait]
impl RateLimitQuotaService for Quotas {
    type StreamRateLimitQuotasStream =
        Pin<Box<dyn Stream<Item = Result<RateLimitQuotaResponse, Status>> + Send>>;

    async fn stream_rate_limit_quotas(
        &self,
        request: Request<Streaming<RateLimitQuotaUsageReports>>,
    ) -> Result<Response<Self::StreamRateLimitQuotasStream>, Status> {
        let node = request.metadata().get("x-node").unwrap();
        let node = node.to_str().unwrap().to_owned();
        let mut reports = request.into_inner();
        let (sender, receiver) = mpsc::unbounded_channel();
        let state = self.0.clone();
        let stream = {
            let mut state = state.lock().unwrap();
            state.streams.push(sender);
            state.begun += 1;
            state.begun - 1
        };
        tokio::spawn(async move {
            while let Some(Ok(message)) = reports.next().await {
                let mut state = state.lock().unwrap();
                for usage in message.bucket_quota_usages {
                    let mut id = usage.bucket_id.unwrap().bucket;
                    let bucket = id.remove(KEY).unwrap();
                    state.reports.push(Report {
                        stream,
                        node: node.clone(),
                        at: Instant::now(),
                        bucket,
                        allowed: usage.num_requests_allowed,
                        denied: usage.num_requests_denied,
                    });
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            receiver,
        ))))
    }
}
