//! Leases of endpoints: who has been silent for too long, and when that is too many at once to be believed.
//!
//! Time is an argument. The guard: a lease that has run out is *held*, not lapsed, while more than half of its
//! service's leases are silent or lapsed within the last lease time. So many failing together is far more likely a
//! failure between them and EMS than of the endpoints, and an endpoint that is really dead is found by the outlier
//! detection of every Envoy. Silent is a lease without renewal for half of its time: a healthy client renews three
//! times in each, so those who fall silent together are seen together, however their heartbeats were spread.
//!
//! A lone lease is not guarded: it has no other one beside it that could tell a cut from a death, and held it would be
//! held for ever, so that a lease would mean nothing. A lease that is the last one because others lapsed just before is
//! none of these.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use isthmus_model::ServiceName;

use crate::record::EndpointId;

/// Fewest leases of a service for which the guard applies.
pub const GUARDED_FROM: usize = 2;

/// All leases.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    services: BTreeMap<ServiceName, ServiceLeases>,
}

/// The leases of one service.
#[derive(Clone, Debug, Default)]
struct ServiceLeases {
    held: BTreeMap<EndpointId, Lease>,
    /// When leases lapsed, and how long they were; old ones are dropped as new ones come.
    lapsed: Vec<(Instant, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: Duration,
    renewed: Instant,
    /// It was decided that it lapsed; only what is written to the store can save its endpoint now.
    ending: bool,
}

/// What is to be done about leases that have run out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Endpoints to remove.
    pub lapsed: BTreeMap<ServiceName, Vec<EndpointId>>,
    /// Endpoints that the guard keeps.
    pub held: BTreeMap<ServiceName, Vec<EndpointId>>,
}

impl Leases {
    /// Starts a lease, or starts it anew.
    pub(super) fn grant(
        &mut self,
        service: &ServiceName,
        id: &EndpointId,
        ttl: Duration,
        now: Instant,
    ) {
        let leases = self.services.entry(service.clone()).or_default();
        let lease = Lease {
            ttl,
            renewed: now,
            ending: false,
        };
        leases.held.insert(id.clone(), lease);
    }

    /// Renews a lease, if there is one.
    pub(super) fn renew(&mut self, service: &ServiceName, id: &EndpointId, now: Instant) {
        let leases = self.services.get_mut(service);
        if let Some(lease) = leases.and_then(|leases| leases.held.get_mut(id)) {
            lease.renewed = now;
            lease.ending = false;
        }
    }

    /// Marks what is about to be removed, and nothing else.
    pub(super) fn mark(&mut self, due: &Due) {
        for (ids, ending) in [(&due.lapsed, true), (&due.held, false)] {
            for (service, ids) in ids {
                let Some(leases) = self.services.get_mut(service) else {
                    continue;
                };
                for id in ids {
                    if let Some(lease) = leases.held.get_mut(id) {
                        lease.ending = ending;
                    }
                }
            }
        }
    }

    /// Whether it was decided that this lease lapsed, so that a renewal comes too late.
    pub(super) fn is_ending(&self, service: &ServiceName, id: &EndpointId) -> bool {
        let leases = self.services.get(service);
        let lease = leases.and_then(|leases| leases.held.get(id));
        lease.is_some_and(|lease| lease.ending)
    }

    /// Ends a lease with its endpoint. One that had run out counts as lapsed: whoever removed it, EMS here or another
    /// one, did so for that reason.
    pub(super) fn end(&mut self, service: &ServiceName, id: &EndpointId, now: Instant) {
        let Some(leases) = self.services.get_mut(service) else {
            return;
        };
        leases.lapsed.retain(|&(at, ttl)| now < at + ttl);
        if let Some(lease) = leases.held.remove(id).filter(|lease| lease.is_out(now)) {
            leases.lapsed.push((now, lease.ttl));
        }
        if leases.held.is_empty() && leases.lapsed.is_empty() {
            self.services.remove(service);
        }
    }

    /// Forgets a service.
    pub(super) fn forget(&mut self, service: &ServiceName) {
        self.services.remove(service);
    }

    /// The time that a lease has left; `None`: there is none.
    #[must_use]
    pub fn left(&self, service: &ServiceName, id: &EndpointId, now: Instant) -> Option<Duration> {
        let lease = self.services.get(service)?.held.get(id)?;
        Some(
            lease
                .ttl
                .saturating_sub(now.saturating_duration_since(lease.renewed)),
        )
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.services.values().map(|leases| leases.held.len()).sum()
    }

    /// Which leases have run out, and which of them the guard holds.
    #[must_use]
    pub fn due(&self, now: Instant) -> Due {
        let mut due = Due::default();
        for (service, leases) in &self.services {
            let out = |(id, lease): (&EndpointId, &Lease)| lease.is_out(now).then(|| id.clone());
            let ids: Vec<_> = leases.held.iter().filter_map(out).collect();
            if ids.is_empty() {
                continue;
            }
            let kept = if leases.too_many(now) {
                &mut due.held
            } else {
                &mut due.lapsed
            };
            kept.insert(service.clone(), ids);
        }
        due
    }
}

impl ServiceLeases {
    fn too_many(&self, now: Instant) -> bool {
        let lapsed = self
            .lapsed
            .iter()
            .filter(|&&(at, ttl)| now < at + ttl)
            .count();
        let silent = self
            .held
            .values()
            .filter(|lease| now > lease.renewed + lease.ttl / 2)
            .count();
        let all = self.held.len() + lapsed;
        all >= GUARDED_FROM && 2 * (silent + lapsed) > all
    }
}

impl Lease {
    fn is_out(&self, now: Instant) -> bool {
        now >= self.renewed + self.ttl
    }
}
