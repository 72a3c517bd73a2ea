//! The shell of it all: questions and answers as Envoy has them, with a clock and a store.

use std::{sync::Arc, time::Instant};

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use isthmus_model::{Headers, limit::Question};
use tonic::Status;

use super::{
    Claim, DESCRIPTOR, DOMAIN, State,
    answer::{answer, passes},
    book::Book,
    memory::{Memory, Room},
    redis::Redis,
};

/// Answers questions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    book: Book,
    store: Store,
    headers: Headers,
    started: Instant,
}

/// Where budgets are kept.
#[derive(Debug)]
pub enum Store {
    /// Here, so this EMS must be the only one that answers the region's Envoys.
    Memory(Memory),
    /// There, for all EMS of the region.
    Redis(Box<Redis>),
}

impl Store {
    /// In memory, with the usual room.
    #[must_use]
    pub fn memory() -> Self {
        Self::Memory(Memory::new(Room::default()))
    }
}

impl Limiter {
    /// A limiter without limits yet. Refusals have the header names of `headers`.
    #[must_use]
    pub fn new(headers: Headers, store: Store) -> Self {
        Self(Arc::new(Inner {
            book: Book::default(),
            store,
            headers,
            started: Instant::now(),
        }))
    }

    /// The limits.
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.0.book
    }

    /// Forgets what counts no longer; to be called now and then.
    pub fn sweep(&self) {
        let now = self.now();
        match &self.0.store {
            Store::Memory(memory) => memory.sweep(now),
            Store::Redis(redis) => redis.sweep(now),
        }
    }

    /// The Redis, if that is where budgets are.
    #[must_use]
    pub fn redis(&self) -> Option<&Redis> {
        match &self.0.store {
            Store::Memory(_) => None,
            Store::Redis(redis) => Some(redis),
        }
    }

    /// Answers a request.
    pub(super) async fn should_rate_limit(
        &self,
        request: &RateLimitRequest,
    ) -> Result<RateLimitResponse, Status> {
        let text = question(request)
            .ok_or_else(|| Status::invalid_argument("wanted: one descriptor with a question"))?;
        let question = Question::parse(text)
            .ok_or_else(|| Status::invalid_argument("the question cannot be read"))?;
        // 0 stands for 1.
        let hits = u64::from(request.hits_addend.max(1));
        let answer = self.ask(&question, hits).await;
        answer.ok_or_else(|| Status::unavailable("Redis cannot be asked now"))
    }

    /// What was used of the budgets of claims, which are of one service. Charges nothing.
    pub(super) async fn look(&self, service: &str, claims: &mut [Claim<'_>]) {
        match &self.0.store {
            Store::Memory(memory) => memory.look(service, claims),
            Store::Redis(redis) => redis.look(service, claims, self.now()).await,
        }
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn ask(&self, question: &Question<'_>, hits: u64) -> Option<RateLimitResponse> {
        // A limit that is gone from the registry counts no longer.
        let Some(page) = self.0.book.page(question.service) else {
            return Some(passes());
        };
        let claims = question.asks().filter_map(|ask| {
            Some(Claim {
                entry: page.find(ask.token)?,
                key: ask.key,
                state: State::Unknown,
            })
        });
        let mut claims: Vec<_> = claims.collect();
        let now = self.now();
        let service = question.service;
        match &self.0.store {
            Store::Memory(memory) => memory.charge(service, &mut claims, hits, now),
            Store::Redis(redis) => redis.charge(service, &mut claims, hits, now).await,
        }
        for claim in &claims {
            claim.entry.note(claim.key, hits, now);
        }
        answer(&page, question.is_grpc, &claims, hits, now, &self.0.headers)
    }
}

/// The question of a request, which is all there is in it.
fn question(request: &RateLimitRequest) -> Option<&str> {
    let [descriptor] = request.descriptors.as_slice() else {
        return None;
    };
    let [entry] = descriptor.entries.as_slice() else {
        return None;
    };
    (request.domain == DOMAIN && entry.key == DESCRIPTOR).then_some(&entry.value)
}
