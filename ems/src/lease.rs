//! Leases: shares of a limit of the region that Envoys hold for some time, so that no request has to ask.
//!
//! ```text
//! Envoy ──every 5 s: so many came, of each bucket──> server ──> Leases ──> Division::report ──> Grant, held for 15 s
//! ```
//!
//! Who asks for more gets more: a budget is divided by max-min fairness ([`share`]), among those that have reported
//! lately. What one has to give back is handed on only when it is known that it has been given back ([`division`]). So the
//! rates that are out at any time add up to no more than the limit, whoever is cut off and whenever.
//!
//! Pure but for [`server`]: the time is an argument, and counts from when this EMS began. What a bucket is, and how much its
//! limit lets pass, the caller says.

mod changes;
pub mod division;
pub mod server;
pub mod share;

use std::{
    collections::{BTreeMap, HashMap, hash_map},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use division::Division;

pub use division::{Grant, Usage};

/// How often an Envoy reports: up to 1.40 that is fixed, whatever its filter is told.
pub const REPORT: Duration = Duration::from_secs(5);

/// How long a lease is held if EMS says nothing more: three reports. An Envoy whose stream ended comes back with the next
/// one, so it gets over an EMS that is started anew.
pub const TTL: Duration = Duration::from_secs(15);

/// Within this time an answer has reached an Envoy, or never will.
pub const ARRIVAL: Duration = Duration::from_secs(1);

/// An Envoy may forget a bucket for which nothing came for so long.
pub const IDLE: Duration = Duration::from_secs(60);

/// Most buckets that are known, and most Envoys that share one. Those beyond get no lease: `onError` decides for them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Buckets.
    pub buckets: usize,
    /// Envoys for each.
    pub holders: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            buckets: 50_000,
            holders: 2_000,
        }
    }
}

/// What a limit lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// So many requests in a unit of time.
    pub requests: u32,
    /// The unit, in seconds.
    pub unit: u32,
    /// So many at once, after a pause.
    pub burst: u32,
}

/// The limits that leases are of.
pub trait Limits: Send + Sync + 'static {
    /// How much the limit of a bucket lets pass. `None`: there is no such limit.
    fn budget(&self, bucket: &str) -> Option<Budget>;

    /// Something came in an Envoy for a bucket.
    fn count(&self, bucket: &str, usage: Usage, by: By);
}

/// What decided about requests that an Envoy reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The Envoy's lease; or what did is not known.
    Lease,
    /// `onError`, for it had none.
    OnError,
}

/// What is leased out of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lent {
    /// How many Envoys hold something.
    pub envoys: usize,
    /// What they may go by together, in thousandths of requests in a unit of time.
    pub rate: u64,
}

/// Who holds leases: an Envoy, across its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(u64);

/// What a report is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A lease, in place of the one before.
    Lease(Grant),
    /// The bucket is of no use any more.
    Forget,
    /// There is no room for it.
    Nothing,
}

/// All leases.
#[derive(Debug, Default)]
pub struct Leases {
    bounds: Bounds,
    divisions: BTreeMap<Arc<str>, Division>,
    nodes: HashMap<String, Node>,
    next: u64,
}

#[derive(Debug)]
struct Node {
    holder: Holder,
    /// `None`: it has a stream.
    left: Option<Duration>,
}

impl Leases {
    /// None yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            ..Self::default()
        }
    }

    /// An Envoy opens a stream. One that comes back is who it was, and holds what it held. Of two that say they are the
    /// same one, at the same time, the second is somebody else.
    pub fn join(&mut self, node: &str) -> Holder {
        let fresh = Holder(self.next);
        self.next += 1;
        match self.nodes.entry(node.to_owned()) {
            hash_map::Entry::Occupied(mut known) => {
                let known = known.get_mut();
                if known.left.take().is_none() {
                    return fresh;
                }
                known.holder
            }
            hash_map::Entry::Vacant(place) => {
                place.insert(Node {
                    holder: fresh,
                    left: None,
                });
                fresh
            }
        }
    }

    /// Its stream ended. What it holds it may go on using until that lapses.
    pub fn leave(&mut self, node: &str, holder: Holder, now: Duration) {
        if let Some(known) = self.nodes.get_mut(node)
            && known.holder == holder
        {
            known.left = Some(now);
        }
    }

    /// Whether an Envoy can have a lease of a bucket.
    fn has_room(&self, division: Option<&Division>, holder: Holder) -> bool {
        match division {
            None => self.divisions.len() < self.bounds.buckets,
            Some(known) => known.has(holder) || known.holders() < self.bounds.holders,
        }
    }

    /// What is leased out of a bucket.
    #[must_use]
    pub fn lent(&self, bucket: &str, now: Duration) -> Lent {
        let division = self.divisions.get(bucket);
        division.map_or(Lent::default(), |division| division.lent(now))
    }

    /// An Envoy reports of a bucket. `budget`: what its limit lets pass; `None`: there is no such limit. Gives what decided
    /// about the requests, too: `onError` where the Envoy comes anew and holds nothing, or there is no room for it. That is
    /// as near as it gets: Envoys do not say what came before a lease was there, or after it had lapsed.
    pub fn report(
        &mut self,
        holder: Holder,
        bucket: &str,
        usage: Usage,
        budget: Option<Budget>,
        now: Duration,
    ) -> (By, Answer) {
        let division = self.divisions.get(bucket);
        let holds = division.is_some_and(|division| division.holds(holder, now));
        let has_room = self.has_room(division, holder);
        let by = if !holds && (usage.counted.is_zero() || !has_room) {
            By::OnError
        } else {
            By::Lease
        };
        let Some(budget) = budget else {
            return (by, Answer::Forget);
        };
        if !has_room {
            return (by, Answer::Nothing);
        }
        let answer = match self.divisions.get_mut(bucket) {
            Some(division) => division.report(holder, usage, budget, now),
            None => {
                let division = self.divisions.entry(bucket.into()).or_default();
                division.report(holder, usage, budget, now)
            }
        };
        (by, answer)
    }

    /// Limits became others: the leases that an Envoy holds of buckets whose names begin so, as they are from now on. Those
    /// of which there is no budget any more it gives back with its next report.
    pub fn again(
        &mut self,
        holder: Holder,
        begin: &str,
        budget: impl Fn(&str) -> Option<Budget>,
        now: Duration,
    ) -> Vec<(Arc<str>, Budget, Grant)> {
        self.divisions
            .range_mut::<str, _>((Bound::Included(begin), Bound::Unbounded))
            .take_while(|(bucket, _)| bucket.starts_with(begin))
            .filter_map(|(bucket, division)| {
                let budget = budget(bucket)?;
                let grant = division.again(holder, budget, now)?;
                Some((bucket.clone(), budget, grant))
            })
            .collect()
    }

    /// Forgets what is over.
    pub fn sweep(&mut self, now: Duration) {
        self.divisions.retain(|_, division| {
            division.sweep(now);
            division.holders() > 0
        });
        let over = TTL + ARRIVAL;
        self.nodes
            .retain(|_, node| node.left.is_none_or(|left| now < left + over));
    }

    /// Buckets of which somebody holds a lease, and leases.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let leases = self.divisions.values().map(Division::holders).sum();
        (self.divisions.len(), leases)
    }
}

#[cfg(test)]
mod tests;
