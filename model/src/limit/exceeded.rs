//! What a request is told that is too much for a limit: the same words whoever counted, the filter or EMS.

use super::{Limit, Limits};
use crate::refusal::{Code, Refusal};

/// A request that is too much for a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded<'a> {
    /// The limit; of several the one that needs the longest wait.
    pub limit: &'a Limit,
    /// All that were consulted, as far as receipts are concerned with them.
    pub limits: Limits<'a>,
    /// Seconds until it may be tried again, rounded up.
    pub retry_after: u64,
    /// The service that was asked for.
    pub service: &'a str,
}

impl Exceeded<'_> {
    /// The refusal.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let Self {
            limit,
            retry_after,
            service,
            ..
        } = self;
        Refusal::new(
            Code::RateLimited,
            format!("over the limit of {service} ({limit}): try again in {retry_after} s"),
        )
    }

    /// When to come again: in the header that everybody knows, and in those of draft-ietf-httpapi-ratelimit-headers (quota
    /// and window; nothing left, and until when).
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let Self {
            limit, retry_after, ..
        } = self;
        let (quota, window) = (limit.requests, limit.unit.seconds());
        [
            ("retry-after", retry_after.to_string()),
            (POLICY_HEADER, format!("\"{limit}\";q={quota};w={window}")),
            ("ratelimit", format!("\"{limit}\";r=0;t={retry_after}")),
        ]
    }
}

/// The header that names the limit which refused.
pub const POLICY_HEADER: &str = "ratelimit-policy";

/// The limit that such a header names. Limits have no quotes in their names.
#[must_use]
pub fn named_by_policy(value: &[u8]) -> Option<&str> {
    let (name, _) = str::from_utf8(value)
        .ok()?
        .strip_prefix('"')?
        .split_once('"')?;
    Some(name)
}
