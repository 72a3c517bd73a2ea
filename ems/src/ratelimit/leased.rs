//! The leased limits of the registry, for those who lease them out: what their budgets are, and what Envoys counted of them.

use isthmus_model::{
    Limit, Outcome,
    limit::{Scope, lease},
};

use super::{book::Entry, server::Limiter};
use crate::lease::{Budget, By, Limits, Usage};

impl Limits for Limiter {
    fn budget(&self, bucket: &str) -> Option<Budget> {
        look_up(self, bucket, |entry| budget(entry.limit()))
    }

    fn count(&self, bucket: &str, usage: Usage, by: By) {
        look_up(self, bucket, |entry| match by {
            By::Lease => {
                entry.add(Outcome::Allowed, usage.allowed);
                entry.add(Outcome::Denied, usage.denied);
            }
            By::OnError => {
                let requests = usage.allowed.saturating_add(usage.denied);
                entry.add(Outcome::Unchecked, requests);
            }
        });
    }
}

fn look_up<T>(limiter: &Limiter, bucket: &str, what: impl FnOnce(&Entry) -> T) -> Option<T> {
    let (service, token) = lease::parse(bucket)?;
    let page = limiter.book().page(service)?;
    let entry = page.find(token)?;
    (entry.limit().scope() == Scope::Lease).then(|| what(entry))
}

/// What a leased limit lets pass.
pub(super) fn budget(limit: &Limit) -> Budget {
    Budget {
        requests: limit.requests(),
        unit: limit.unit().seconds(),
        burst: limit.burst(),
    }
}
