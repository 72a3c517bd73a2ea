//! The leased limits of the registry, for those who lease them out: what their budgets are, and what Envoys counted of them.

use isthmus_model::{
    Outcome,
    limit::{Scope, lease},
};

use super::server::Limiter;
use crate::lease::{Budget, Limits, Usage};

impl Limits for Limiter {
    fn came(&self, bucket: &str, usage: Usage) -> Option<Budget> {
        let (service, token) = lease::parse(bucket)?;
        let page = self.book().page(service)?;
        let entry = page.find(token)?;
        let limit = entry.limit();
        if limit.scope() != Scope::Lease {
            return None;
        }
        entry.add(Outcome::Allowed, usage.allowed);
        entry.add(Outcome::Denied, usage.denied);
        Some(Budget {
            requests: limit.requests(),
            unit: limit.unit().seconds(),
            burst: limit.burst(),
        })
    }
}
