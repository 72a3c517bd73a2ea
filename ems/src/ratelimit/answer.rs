//! What Envoy is told: that a request passes, or how it is to be refused. The words are those of the filter.

use envoy_types::pb::envoy::{
    config::core::v3::HeaderValue,
    service::ratelimit::v3::{
        RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus},
    },
};
use isthmus_model::{Exceeded, Headers, Limits};

use super::{Claim, Verdict, book::Page};

/// Counts what the claims of a request had to say, and makes the answer. The error header is called as `headers` say. `None`:
/// nobody can say whether the request is over a limit, and one of those denies then; Envoy has the words for that.
#[must_use]
pub fn answer(
    page: &Page,
    is_grpc: bool,
    claims: &[Claim<'_>],
    hits: u64,
    now: u64,
    headers: &Headers,
) -> Option<RateLimitResponse> {
    let refused = claims.iter().any(|claim| claim.refuses(hits, now));
    for claim in claims {
        if let Some(outcome) = claim.outcome(hits, now, refused) {
            claim.entry.count(outcome);
        }
    }
    let against = claims.iter().filter(|claim| claim.refuses(hits, now));
    let full = against.filter_map(|claim| match claim.verdict(hits, now) {
        Verdict::Full(wait) => Some((wait, claim)),
        Verdict::Fits | Verdict::Unknown => None,
    });
    // Of several the one that needs the longest wait, and of these the first.
    match full.reduce(|a, b| if b.0 > a.0 { b } else { a }) {
        Some((wait, claim)) => Some(refusal(page, is_grpc, claim, wait, headers)),
        None => (!refused).then(passes),
    }
}

/// Nothing is against the request.
#[must_use]
pub fn passes() -> RateLimitResponse {
    of(Code::Ok)
}

fn refusal(
    page: &Page,
    is_grpc: bool,
    claim: &Claim<'_>,
    wait: u64,
    headers: &Headers,
) -> RateLimitResponse {
    let exceeded = Exceeded {
        limit: claim.entry.limit(),
        limits: Limits::NONE,
        retry_after: wait.div_ceil(1_000).max(1),
        service: page.service().as_str(),
    };
    let refusal = exceeded.refusal();
    let mut all = vec![header(&headers.error, refusal.code().as_str().to_owned())];
    if !is_grpc {
        all.push(header("content-type", "application/json".to_owned()));
    }
    let wait = exceeded.headers();
    all.extend(wait.into_iter().map(|(name, value)| header(name, value)));
    RateLimitResponse {
        response_headers_to_add: all,
        raw_body: refusal.body(is_grpc).into_bytes(),
        ..of(Code::OverLimit)
    }
}

fn of(code: Code) -> RateLimitResponse {
    RateLimitResponse {
        overall_code: code.into(),
        // One, as there is one descriptor.
        statuses: vec![DescriptorStatus {
            code: code.into(),
            ..DescriptorStatus::default()
        }],
        ..RateLimitResponse::default()
    }
}

fn header(key: &str, value: String) -> HeaderValue {
    HeaderValue {
        key: key.to_owned(),
        value,
        ..HeaderValue::default()
    }
}
