//! The limits of the region, by service, how often each allowed and refused, and whom: what requests look up.
//!
//! It follows the registry. A limit that changes its numbers keeps its counts; one that goes takes them along, so there are
//! never more than limits in the registry.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use isthmus_model::{Limit, Outcome, ServiceName, limit::Scope};

use super::{
    busiest::{Busiest, Busy},
    leased::budget,
};
use crate::record::Service;

/// Over less time nobody could see who is busy, in milliseconds.
const SHORTEST_PERIOD: u64 = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Book(RwLock<HashMap<ServiceName, Arc<Page>>>);

/// The limits of a service.
#[derive(Debug)]
pub struct Page {
    service: ServiceName,
    entries: Vec<Entry>,
}

/// A limit.
#[derive(Debug)]
pub struct Entry {
    limit: Limit,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    busiest: Mutex<Busiest>,
}

/// What became of the leased limits of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// One lets pass more or less than before.
    pub changed: bool,
    /// There is one, and there was none.
    pub begins: bool,
}

impl Book {
    /// Takes note of a service as it is now.
    pub fn note(&self, name: &ServiceName, service: Option<&Service>) -> Noted {
        let limits = service.into_iter().flat_map(|service| &service.rate_limits);
        let limits: Vec<_> = limits
            .filter(|limit| limit.scope() != Scope::Local)
            .collect();
        let before = self.page(name.as_str());
        if limits.is_empty() && before.is_none() {
            return Noted::default();
        }
        let mut pages = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if limits.is_empty() {
            pages.remove(name);
            return Noted::default();
        }
        let is_leased = |limit: &Limit| limit.scope() == Scope::Lease;
        let leased = || limits.iter().filter(|limit| is_leased(limit));
        let noted = Noted {
            changed: leased().any(|limit| {
                let old = before.as_ref().and_then(|page| page.find(limit.token()));
                old.is_some_and(|old| budget(old.limit()) != budget(limit))
            }),
            begins: leased().next().is_some()
                && !before
                    .iter()
                    .flat_map(|page| &page.entries)
                    .any(|entry| is_leased(&entry.limit)),
        };
        let entries = limits
            .into_iter()
            .map(|limit| {
                let old = before.as_ref().and_then(|page| page.find(limit.token()));
                let counts = old.map(|entry| entry.counts.clone());
                Entry {
                    limit: limit.clone(),
                    counts: counts.unwrap_or_else(|| Arc::new(Counts::new(limit))),
                }
            })
            .collect();
        let page = Page {
            service: name.clone(),
            entries,
        };
        pages.insert(name.clone(), Arc::new(page));
        noted
    }

    /// The limits of a service, if it has any.
    #[must_use]
    pub fn page(&self, service: &str) -> Option<Arc<Page>> {
        let pages = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pages.get(service).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn pages(&self) -> Vec<Arc<Page>> {
        let pages = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut pages: Vec<_> = pages.values().cloned().collect();
        pages.sort_by(|a, b| a.service.cmp(&b.service));
        pages
    }
}

impl Page {
    /// Whose they are.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The limits.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The limit of a token.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.limit.token() == token)
    }
}

impl Entry {
    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// How much it lets pass in a window.
    #[must_use]
    pub fn requests(&self) -> u64 {
        u64::from(self.limit.requests())
    }

    /// The length of a window, in milliseconds.
    #[must_use]
    pub fn window(&self) -> u64 {
        u64::from(self.limit.unit().seconds()) * 1_000
    }

    /// Counts what it had to say.
    pub fn count(&self, outcome: Outcome) {
        self.add(outcome, 1);
    }

    /// Counts what it had to say of several requests.
    pub fn add(&self, outcome: Outcome, requests: u64) {
        if let Some(count) = self.counts.outcomes.get(outcome as usize) {
            count.fetch_add(requests, Ordering::Relaxed);
        }
    }

    /// Notes that requests needed a budget.
    pub fn note(&self, key: &str, hits: u64, now: u64) {
        self.counts.busiest().note(key, hits, now);
    }

    /// The budgets that were needed most, the busiest first.
    #[must_use]
    pub fn busiest(&self, most: usize, now: u64) -> Vec<Busy> {
        self.counts.busiest().list(most, now)
    }

    /// What was counted.
    #[must_use]
    pub fn counted(&self, outcome: Outcome) -> u64 {
        let count = self.counts.outcomes.get(outcome as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Counts {
    fn new(limit: &Limit) -> Self {
        let window = u64::from(limit.unit().seconds()) * 1_000;
        Self {
            outcomes: Default::default(),
            busiest: Mutex::new(Busiest::new(window.max(SHORTEST_PERIOD))),
        }
    }

    fn busiest(&self) -> MutexGuard<'_, Busiest> {
        self.busiest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
