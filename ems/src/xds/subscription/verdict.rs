//! What a client says of the response in flight, and what that makes of the resources in it.
//!
//! A rejection is of a whole response. Where Envoy (1.40) lists clusters or listeners that are at fault, it applied the others
//! but notes neither their versions nor their TTLs, so it would not know a heartbeat of one: they stay as they were sent,
//! neither taken nor rejected. When it connects again it does not name them among what it has, and gets them. Where other
//! words say what is at fault, what came with that [goes again](super::trial). Where none do, all of it is rejected and tried
//! apart.

use std::{collections::HashSet, sync::Arc};

use super::{
    InFlight, Rejection, Subscription, Waves,
    blame::{mentions, took_the_rest},
    due::{Due, Why},
};
use crate::xds::{Resource, Witness, stream::State};

/// A client's word on the response in flight.
#[derive(Debug, Default)]
pub(in crate::xds) struct Verdict {
    /// What it rejected.
    pub(in crate::xds) blamed: Vec<Arc<str>>,
    /// Something of that it had not rejected before in this version.
    pub(in crate::xds) fresh: bool,
    /// What has become bad by it, or good again.
    pub(in crate::xds) ruled: Vec<Arc<Resource>>,
}

/// What a rejection is about.
pub(super) struct Blame {
    pub(super) names: Vec<Arc<str>>,
    /// The client says so.
    pub(super) named: bool,
    /// That is certain. What is not is shown as rejected, and not ruled upon.
    certain: bool,
    /// What else the client may have taken nothing of.
    pub(super) beside: Vec<Arc<str>>,
}

impl Subscription {
    /// Takes the client's word on the response with this nonce. `None`: it is not the one in flight.
    pub(in crate::xds) fn verdict(
        &mut self,
        nonce: u64,
        error: Option<&Arc<str>>,
        by: Witness,
    ) -> Option<Verdict> {
        if self.in_flight.as_ref()?.nonce != nonce {
            return None;
        }
        let in_flight = self.in_flight.take()?;
        let Some(error) = error else {
            self.trusted();
            if let Some(beats) = &mut self.beats {
                beats.accept();
            }
            self.gone(&in_flight.removed);
            return Some(Verdict {
                ruled: self.accept(&in_flight.resources),
                ..Verdict::default()
            });
        };
        let blame = blame(&in_flight, self.is_full(), error);
        self.doubt(&in_flight, &blame);
        let Blame {
            names: blamed,
            certain,
            named,
            ..
        } = blame;
        if named && took_the_rest(error) {
            self.use_beside(&in_flight.resources, &blamed);
            self.gone(&in_flight.removed);
        }
        if let Some(beats) = &mut self.beats {
            beats.reject();
        }
        let mut fresh = false;
        let mut ruled = Vec::new();
        let mut left_with_nothing = Vec::new();
        for name in &blamed {
            let Some(entry) = self.entries.get_mut(name) else {
                continue;
            };
            let Some(sent) = entry.sent().cloned() else {
                continue;
            };
            if in_flight.version(name) != Some(sent.version()) {
                // It was the version before that went again.
                self.kept.forget(name);
                continue;
            }
            if entry.reject() {
                left_with_nothing.push(name.clone());
            }
            let known = self.rejected.get(name);
            fresh |= known.is_none_or(|known| known.version != *sent.version());
            let rejection = Rejection {
                version: sent.version().clone(),
                error: Some(error.clone()),
                waves: in_flight.waves.and(in_flight.mends),
            };
            self.rejected.insert(name.clone(), rejection);
            if certain && sent.fate().reject(by, error) {
                ruled.push(sent);
            }
        }
        // By what it said there may be another version for it. The same one is not sent again.
        self.mark(left_with_nothing, Due::new(Why::Changed, in_flight.waves));
        Some(Verdict {
            blamed,
            fresh,
            ruled,
        })
    }

    /// Notes that the client took it that there are no such things.
    fn gone(&mut self, names: &[Arc<str>]) {
        let mut walk = self.entries.walk();
        for name in names {
            let entry = walk.to(name);
            if let Some(entry) = entry.filter(|entry| entry.state == State::Absent) {
                entry.lose();
            }
        }
    }

    /// Notes that the client uses all of a response but for some.
    fn use_beside(&mut self, resources: &[Arc<Resource>], blamed: &[Arc<str>]) {
        let blamed: HashSet<_> = blamed.iter().collect();
        let mut walk = self.entries.walk();
        for resource in resources {
            let entry = walk.to(resource.name());
            if let Some(entry) = entry.filter(|entry| !blamed.contains(entry.name())) {
                entry.use_untaken();
            }
        }
    }

    /// Gives what has become good again by it.
    fn accept(&mut self, resources: &[Arc<Resource>]) -> Vec<Arc<Resource>> {
        let mut ruled = Vec::new();
        let mut walk = self.entries.walk();
        for resource in resources {
            let name = resource.name();
            let Some(entry) = walk.to(name) else { continue };
            // It may be the version before that went again, beside which the last one stays rejected.
            let last = |sent: &&Arc<Resource>| {
                Arc::ptr_eq(sent, resource) || sent.version() == resource.version()
            };
            let Some(sent) = entry.sent().filter(last) else {
                continue;
            };
            if sent.fate().take() {
                ruled.push(sent.clone());
            }
            entry.take();
            self.kept.forget(name);
            if let Some(rejection) = self.rejected.get_mut(name) {
                rejection.error = None;
                rejection.waves = Waves::NONE;
            }
        }
        ruled
    }
}

/// What a rejection is about. `full`: of a full list.
fn blame(sent: &InFlight, full: bool, error: &str) -> Blame {
    let resources = sent.resources.iter();
    let names = resources.clone().map(|resource| resource.name());
    let all = || names.clone().chain(sent.removed.iter()).cloned();
    let (named, mut beside): (Vec<_>, Vec<_>) = all().partition(|name| mentions(error, name));
    if !named.is_empty() {
        if took_the_rest(error) {
            beside.clear();
        } else if full {
            // In a full list what is not new was taken before.
            beside.retain(|name| sent.updated.binary_search(name).is_ok());
        }
        return Blame {
            names: named,
            named: true,
            certain: true,
            beside,
        };
    }
    let suspects = match &*sent.updated {
        // What was taken before is not at fault that something else was left out.
        [] if full => Vec::new(),
        [] => {
            // A heartbeat has nothing in it that could be wrong.
            let whole = resources.filter(|resource| !resource.is_heartbeat());
            let whole = whole.map(|resource| resource.name());
            let mut suspects: Vec<_> = whole.chain(sent.removed.iter()).cloned().collect();
            if suspects.is_empty() {
                suspects.extend(all());
            }
            suspects
        }
        updated => updated.to_vec(),
    };
    let could = suspects.iter().filter(|name| sent.version(name).is_some());
    let certain = could.count() <= 1;
    Blame {
        names: suspects,
        named: false,
        certain,
        beside: Vec::new(),
    }
}
