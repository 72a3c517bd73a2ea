//! Leases over gRPC: Envoy's quota service, `envoy.service.rate_limit_quota.v3.RateLimitQuotaService`.
//!
//! An Envoy has one stream, on which it reports; each report is answered once, by the stream itself, so there is no task, no
//! queue and nothing that could grow. Its bucket ids have one key, whose value names the budget.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use envoy_types::pb::{
    envoy::{
        service::rate_limit_quota::v3::{
            BucketId, RateLimitQuotaResponse, RateLimitQuotaUsageReports,
            rate_limit_quota_response::{
                BucketAction,
                bucket_action::{AbandonAction, BucketAction as Action, QuotaAssignmentAction},
            },
            rate_limit_quota_service_server::{RateLimitQuotaService, RateLimitQuotaServiceServer},
            rate_limit_quota_usage_reports::BucketQuotaUsage,
        },
        r#type::v3::{RateLimitStrategy, TokenBucket, rate_limit_strategy::Strategy},
    },
    google::protobuf::{self, UInt32Value},
};
use futures::{Stream, stream};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    Answer, Bounds, Budget, Holder, Leases, Lent, Limits, TTL, Usage,
    changes::Changes,
    division::{Grant, PARTS},
};

/// What Envoy's filter calls whom it asks for.
pub const DOMAIN: &str = "isthmus";

/// The only key of a bucket.
pub const KEY: &str = "limit";

/// The header of a stream by which an Envoy is known again.
pub const NODE: &str = "x-isthmus-node";

/// Most bytes of what an Envoy calls itself, of a bucket's name, and of a message.
const NODE_BYTES: usize = 1_024;
const BUCKET_BYTES: usize = 4_096;
const MESSAGE_BYTES: usize = 4 << 20;

/// Most buckets of a message. What goes beyond is not answered.
const BUCKETS: usize = 10_000;

/// An Envoy reports every five seconds. One that does not is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// The quota service. Clones are the same one.
#[derive(Clone)]
pub struct Lessor(Arc<Inner>);

struct Inner {
    limits: Arc<dyn Limits>,
    leases: Mutex<Leases>,
    /// Streams that are there, and that may be.
    streams: AtomicUsize,
    most_streams: usize,
    closing: watch::Sender<bool>,
    changed: watch::Sender<Changes>,
    started: Instant,
}

impl fmt::Debug for Lessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lessor").finish_non_exhaustive()
    }
}

impl Lessor {
    /// A service for so many streams.
    pub fn new(limits: Arc<dyn Limits>, bounds: Bounds, most_streams: usize) -> Self {
        Self(Arc::new(Inner {
            limits,
            leases: Mutex::new(Leases::new(bounds)),
            streams: AtomicUsize::new(0),
            most_streams,
            closing: watch::Sender::new(false),
            changed: watch::Sender::default(),
            started: Instant::now(),
        }))
    }

    /// The gRPC service.
    #[must_use]
    pub fn service(&self) -> RateLimitQuotaServiceServer<Self> {
        RateLimitQuotaServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    /// Tells Envoys at once that limits became others: those of buckets whose names begin so.
    pub fn changed(&self, begin: String) {
        self.0.changed.send_modify(|changes| changes.note(begin));
    }

    /// Forgets what is over.
    pub fn sweep(&self) {
        self.0.leases().sweep(self.0.now());
    }

    /// Buckets of which somebody holds a lease, and leases.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        self.0.leases().count()
    }

    /// What is leased out of a bucket.
    #[must_use]
    pub fn lent(&self, bucket: &str) -> Lent {
        self.0.leases().lent(bucket, self.0.now())
    }

    /// Streams that are there.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.0.streams.load(Ordering::Relaxed)
    }

    /// Ends all streams, and lets no new ones in.
    pub fn close(&self) {
        self.0.closing.send_replace(true);
    }
}

impl Inner {
    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// One of the streams that may be there.
struct Place(Arc<Inner>);

impl Place {
    fn take(inner: &Arc<Inner>) -> Option<Self> {
        let before = inner.streams.fetch_add(1, Ordering::Relaxed);
        // Dropped if it is one too many.
        let place = Self(inner.clone());
        (before < inner.most_streams).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One stream.
struct Session {
    place: Place,
    node: String,
    holder: Holder,
    closing: watch::Receiver<bool>,
    changed: watch::Receiver<Changes>,
    /// How many changes it has heard of.
    heard: u64,
    ended: bool,
}

/// What a stream may have to deal with.
enum Event {
    Message(Result<Option<RateLimitQuotaUsageReports>, Status>),
    Changed,
    Closing,
    Silence,
}

impl Session {
    fn open(inner: &Arc<Inner>, metadata: &MetadataMap) -> Result<Self, Status> {
        let node = metadata
            .get(NODE)
            .and_then(|node| node.to_str().ok())
            .filter(|node| (1..=NODE_BYTES).contains(&node.len()))
            .ok_or_else(|| {
                Status::invalid_argument(format!("the header {NODE} must say which node this is"))
            })?;
        let closing = inner.closing.subscribe();
        if *closing.borrow() {
            return Err(Status::unavailable("going away: come back later"));
        }
        let place = Place::take(inner)
            .ok_or_else(|| Status::resource_exhausted("too many streams: come back later"))?;
        let changed = inner.changed.subscribe();
        let heard = changed.borrow().count();
        Ok(Self {
            changed,
            heard,
            holder: inner.leases().join(node),
            place,
            node: node.to_owned(),
            closing,
            ended: false,
        })
    }

    /// The next answer; `None` is the end.
    async fn next(
        &mut self,
        reports: &mut Streaming<RateLimitQuotaUsageReports>,
    ) -> Option<Result<RateLimitQuotaResponse, Status>> {
        while !self.ended {
            let event = tokio::select! {
                // Neither can fail: the senders are in `place`.
                _ = self.closing.wait_for(|closing| *closing) => Event::Closing,
                _ = self.changed.changed() => Event::Changed,
                message = timeout(SILENCE, reports.message()) => match message {
                    Ok(message) => Event::Message(message),
                    Err(_) => Event::Silence,
                },
            };
            let answer = match event {
                Event::Message(Ok(Some(message))) => self.answer(message).map(Ok),
                Event::Message(Ok(None)) => return None,
                Event::Message(Err(status)) => Some(Err(status)),
                Event::Changed => self.again().map(Ok),
                Event::Closing => Some(Err(Status::unavailable("going away: come back later"))),
                Event::Silence => Some(Err(Status::deadline_exceeded("no report came"))),
            };
            if answer.is_some() {
                self.ended = answer.as_ref().is_some_and(Result::is_err);
                return answer;
            }
        }
        None
    }

    /// What there is to say of limits that became others.
    fn again(&mut self) -> Option<RateLimitQuotaResponse> {
        let begins = {
            let changes = self.changed.borrow();
            let begins = changes.since(self.heard);
            self.heard = changes.count();
            begins
        };
        let inner = &self.place.0;
        let now = inner.now();
        let budget = |bucket: &str| inner.limits.budget(bucket);
        let again = |begin| inner.leases().again(self.holder, begin, budget, now);
        response(
            begins
                .iter()
                .flat_map(again)
                .map(|(bucket, budget, grant)| {
                    let id = BucketId {
                        bucket: [(KEY.to_owned(), bucket.to_string())].into(),
                    };
                    action(id, Action::QuotaAssignmentAction(assignment(grant, budget)))
                }),
        )
    }

    fn answer(&self, message: RateLimitQuotaUsageReports) -> Option<RateLimitQuotaResponse> {
        let usages = message.bucket_quota_usages.into_iter().take(BUCKETS);
        response(usages.filter_map(|usage| self.report(usage)))
    }

    fn report(&self, usage: BucketQuotaUsage) -> Option<BucketAction> {
        let id = usage.bucket_id?;
        let bucket = name(&id)?;
        let counted = usage
            .time_elapsed
            .and_then(|time| u64::try_from(time.seconds).ok())
            .map(Duration::from_secs);
        let usage = Usage {
            allowed: usage.num_requests_allowed,
            denied: usage.num_requests_denied,
            counted: counted.unwrap_or_default(),
        };
        let inner = &self.place.0;
        let budget = inner.limits.budget(bucket);
        let now = inner.now();
        let (by, answer) = inner
            .leases()
            .report(self.holder, bucket, usage, budget, now);
        inner.limits.count(bucket, usage, by);
        let said = match (answer, budget) {
            (Answer::Lease(grant), Some(budget)) => {
                Action::QuotaAssignmentAction(assignment(grant, budget))
            }
            (Answer::Nothing, _) => return None,
            (Answer::Forget | Answer::Lease(_), _) => Action::AbandonAction(AbandonAction {}),
        };
        Some(action(id, said))
    }
}

fn action(id: BucketId, action: Action) -> BucketAction {
    BucketAction {
        bucket_id: Some(id),
        bucket_action: Some(action),
    }
}

/// A message, if there is anything to say.
fn response(actions: impl Iterator<Item = BucketAction>) -> Option<RateLimitQuotaResponse> {
    let actions: Vec<_> = actions.collect();
    (!actions.is_empty()).then_some(RateLimitQuotaResponse {
        bucket_action: actions,
    })
}

impl Drop for Session {
    fn drop(&mut self) {
        let inner = &self.place.0;
        inner.leases().leave(&self.node, self.holder, inner.now());
    }
}

/// The name of a bucket: the value of its only key.
fn name(id: &BucketId) -> Option<&str> {
    let value = id.bucket.get(KEY)?;
    let fits = id.bucket.len() == 1 && (1..=BUCKET_BYTES).contains(&value.len());
    fits.then_some(value)
}

/// A lease in Envoy's words. Its filter knows token buckets only, fills them evenly, and reads whole seconds. It takes a new
/// assignment for the old one if only the seconds differ, so those must depend on nothing but the bucket.
fn assignment(grant: Grant, budget: Budget) -> QuotaAssignmentAction {
    let seconds = i64::from(budget.unit).saturating_mul(PARTS.cast_signed());
    let bucket = TokenBucket {
        max_tokens: grant.burst,
        tokens_per_fill: Some(UInt32Value { value: grant.rate }),
        fill_interval: Some(protobuf::Duration { seconds, nanos: 0 }),
    };
    QuotaAssignmentAction {
        assignment_time_to_live: Some(protobuf::Duration {
            seconds: TTL.as_secs().cast_signed(),
            nanos: 0,
        }),
        rate_limit_strategy: Some(RateLimitStrategy {
            strategy: Some(Strategy::TokenBucket(bucket)),
        }),
    }
}

#[tonic::async_trait]
impl RateLimitQuotaService for Lessor {
    type StreamRateLimitQuotasStream =
        Pin<Box<dyn Stream<Item = Result<RateLimitQuotaResponse, Status>> + Send>>;

    async fn stream_rate_limit_quotas(
        &self,
        request: Request<Streaming<RateLimitQuotaUsageReports>>,
    ) -> Result<Response<Self::StreamRateLimitQuotasStream>, Status> {
        let session = Session::open(&self.0, request.metadata())?;
        let both = (session, request.into_inner());
        let answers = stream::unfold(both, |(mut session, mut reports)| async move {
            let answer = session.next(&mut reports).await?;
            Some((answer, (session, reports)))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
