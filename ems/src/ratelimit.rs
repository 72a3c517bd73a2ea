//! Limits of the whole region, counted here for all its Envoys.
//!
//! ```text
//! Envoy ──Question──> front, server ──Claims──> a store (memory, Redis) ──States──> answer ──> passes, or refused and why
//!                              │ book: the limits of the registry, and what was counted of each
//! ```
//!
//! A question names limits by what they are about; what they let pass is looked up here, so a changed number holds from the
//! next request on and resets nothing. A store counts in fixed windows ([`Window`]): it looks at all claims of a request
//! together, and charges all or none. What follows from what it found, [`Claim`] says, for every store alike.

pub mod answer;
pub mod book;
pub mod breaker;
pub mod busiest;
pub mod denied;
pub mod digest;
pub mod front;
pub mod leased;
pub mod memory;
pub mod redis;
pub mod report;
pub mod server;
pub mod window;

use isthmus_model::{
    Outcome,
    limit::{LimitMode, OnError},
};

use book::Entry;
use window::Window;

/// What Envoy's rate limit filter calls whom it asks for.
pub const DOMAIN: &str = "isthmus";

/// The descriptor's key; its value is the question.
pub const DESCRIPTOR: &str = "question";

/// A budget that a request needs.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Of which limit.
    pub entry: &'a Entry,
    /// Its name among the budgets of the service.
    pub key: &'a str,
    /// What the store found, before it charged.
    pub state: State,
}

/// What is known of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The store cannot say.
    #[default]
    Unknown,
    /// So much was used.
    Known(Window),
}

/// What a claim means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is enough left.
    Fits,
    /// There is not, and it must wait so many milliseconds.
    Full(u64),
    /// That is not known.
    Unknown,
}

impl Claim<'_> {
    /// What is to be said of the claim.
    #[must_use]
    pub fn verdict(&self, hits: u64, now: u64) -> Verdict {
        match self.state {
            State::Unknown => Verdict::Unknown,
            State::Known(window) => match window.wait(hits, self.entry.requests(), now) {
                None => Verdict::Fits,
                Some(wait) => Verdict::Full(wait),
            },
        }
    }

    /// Whether the claim alone is against the request.
    #[must_use]
    pub fn refuses(&self, hits: u64, now: u64) -> bool {
        let limit = self.entry.limit();
        match (self.verdict(hits, now), limit.mode()) {
            (Verdict::Fits, _) | (_, LimitMode::Shadow) => false,
            (Verdict::Full(_), LimitMode::Enforce) => true,
            (Verdict::Unknown, LimitMode::Enforce) => limit.on_error() == OnError::Deny,
        }
    }

    /// What is counted of it. `None`: it has nothing against a request that another one refuses.
    #[must_use]
    pub fn outcome(&self, hits: u64, now: u64, refused: bool) -> Option<Outcome> {
        match (self.verdict(hits, now), self.entry.limit().mode()) {
            (Verdict::Fits, _) if refused => None,
            (Verdict::Fits, _) => Some(Outcome::Allowed),
            (Verdict::Full(_), LimitMode::Enforce) => Some(Outcome::Denied),
            (Verdict::Full(_), LimitMode::Shadow) => Some(Outcome::ShadowDenied),
            (Verdict::Unknown, _) => Some(Outcome::Unchecked),
        }
    }
}

#[cfg(test)]
mod tests;
