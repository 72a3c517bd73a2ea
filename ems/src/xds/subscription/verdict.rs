//! What a client says of the response in flight, and what that makes of the resources in it.
//!
//! A rejection is of a whole response. Where Envoy (1.40) lists clusters or listeners that are at fault, it applied the others
//! but notes neither their versions nor their TTLs, so it would not know a heartbeat of one: they stay as they were sent,
//! neither taken nor rejected. When it connects again it does not name them among what it has, and gets them. Where other
//! words say what is at fault, what came with that [goes again](super::trial). Where none do, all of it is rejected and tried
//! apart. What was to go by a rejected response is still there at the client, until it takes that.

use std::{collections::HashSet, sync::Arc};

use super::{
    BACKLOG, Entry, InFlight, Rejection, Subscription, Waves,
    blame::{mentions, took_the_rest},
    due::{Due, Why},
};
use crate::xds::{Resource, View, Witness, stream::State};

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
        view: &dyn View,
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
            self.gone(&in_flight.removed, view);
            return Some(Verdict {
                ruled: self.accept(&in_flight.resources),
                ..Verdict::default()
            });
        };
        let (refused, gone) = self.not_gone(&in_flight);
        let blame = blame(&in_flight, self.is_full(), &gone, error);
        self.doubt(&in_flight, &blame);
        let Blame {
            names: blamed,
            named,
            ..
        } = blame;
        // What is not certain is shown as rejected, and not ruled upon.
        let certain = named || blamed.len() <= 1 && refused.is_empty();
        let exists = |name: &Arc<str>| in_flight.version(name).is_some();
        let tried_apart = !named && blamed.iter().any(exists);
        if named && took_the_rest(error) {
            self.use_beside(&in_flight.resources, &blamed);
            self.gone(&in_flight.removed, view);
        }
        if let Some(beats) = &mut self.beats {
            beats.reject();
        }
        let mut fresh = false;
        let mut ruled = Vec::new();
        let mut left_with_nothing = Vec::new();
        let waves = in_flight.waves.and(in_flight.mends);
        for name in &blamed {
            let Some(entry) = self.entries.get_mut(name) else {
                continue;
            };
            let Some(sent) = entry.sent().cloned() else {
                if !tried_apart {
                    fresh |= self.refuse_removal(name, error, waves);
                }
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
            let rejection = Rejection {
                version: Some(sent.version().clone()),
                error: Some(error.clone()),
                waves,
            };
            let version = rejection.version.clone();
            let known = self.rejected.insert(name.clone(), rejection);
            fresh |= known.is_none_or(|known| known.version != version);
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

    /// Notes that the client took it that there are no such things; of a full list, that there is nothing but what is in it.
    fn gone(&mut self, names: &[Arc<str>], view: &dyn View) {
        let full = self.is_full();
        let mut unasked = false;
        let mut lose = |entry: &mut Entry| {
            entry.lose();
            if entry.state == State::Absent {
                unasked |= !entry.asked;
                self.rejected.remove(entry.name());
            }
        };
        if full {
            let kept = &self.kept;
            let unlisted = |entry: &&mut Entry| {
                let behind = entry.is_behind() && kept.get(entry.name()).is_none();
                entry.is_still_there() || behind
            };
            let entries = self.entries.iter_mut();
            entries.filter(unlisted).for_each(lose);
        } else {
            let mut walk = self.entries.walk();
            let entries = names.iter().filter_map(|name| walk.to(name));
            let gone = |entry: &&mut Entry| entry.state == State::Absent;
            entries.filter(gone).for_each(&mut lose);
        }
        if unasked {
            self.forget_gone(view);
        }
    }

    /// What the client goes on with unless it took the response in flight, by which it is gone: what it refused to part with
    /// before, and what not. Of a full list, all that is left out.
    fn not_gone(&self, in_flight: &InFlight) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        if !self.is_full() {
            return (Vec::new(), in_flight.removed.to_vec());
        }
        let left = self.entries.iter().filter(|entry| entry.is_still_there());
        let left = left.map(|entry| entry.name().clone());
        left.partition(|name| {
            let rejection = self.rejected.get(name);
            rejection.is_some_and(Rejection::is_of_removal)
        })
    }

    /// Notes that the client goes on with something that is gone, because it rejected that. True: that is news.
    pub(super) fn refuse_removal(
        &mut self,
        name: &Arc<str>,
        error: &Arc<str>,
        waves: Waves,
    ) -> bool {
        let entry = self.entries.get_mut(name);
        let Some(entry) = entry.filter(|entry| entry.is_still_there()) else {
            return false;
        };
        let rejection = Rejection {
            version: None,
            error: Some(error.clone()),
            waves,
        };
        if self.rejected.len() < BACKLOG {
            let known = self.rejected.insert(name.clone(), rejection);
            known.is_none_or(|known| !known.is_of_removal())
        } else {
            // A client is not to collect what is gone without end.
            entry.lose();
            false
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
            // Nearly always: not even a hash of the name.
            if !self.rejected.is_empty() {
                self.rejected.remove(name);
            }
        }
        ruled
    }
}

/// What a rejection is about. `full`: of a full list; `gone`: what goes by it.
fn blame(sent: &InFlight, full: bool, gone: &[Arc<str>], error: &str) -> Blame {
    let resources = sent.resources.iter();
    let names = resources.clone().map(|resource| resource.name());
    let all = || names.clone().chain(gone).cloned();
    let (named, mut beside): (Vec<_>, Vec<_>) = all().partition(|name| mentions(error, name));
    if !named.is_empty() {
        if took_the_rest(error) {
            beside.clear();
        } else if full {
            // In a full list what is not new was taken before.
            beside.retain(|name| {
                sent.updated.binary_search(name).is_ok() || sent.version(name).is_none()
            });
        }
        return Blame {
            names: named,
            named: true,
            beside,
        };
    }
    let mut suspects: Vec<_> = if full {
        // What was taken before is not at fault that something else was left out.
        sent.updated.clone()
    } else {
        // A heartbeat has nothing in it that could be wrong.
        let whole = resources.filter(|resource| !resource.is_heartbeat());
        whole.map(|resource| resource.name().clone()).collect()
    };
    suspects.extend_from_slice(gone);
    if suspects.is_empty() && !full {
        suspects.extend(all());
    }
    Blame {
        names: suspects,
        named: false,
        beside: Vec::new(),
    }
}
