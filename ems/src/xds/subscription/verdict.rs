//! What a client says of the response in flight, and what that makes of the resources in it.
//!
//! A rejection is of a whole response. Where Envoy (1.40) lists clusters or listeners that are at fault, it applied the others
//! but notes neither their versions nor their TTLs, so it would not know a heartbeat of one: they stay as they were sent,
//! neither taken nor rejected. When it connects again it does not name them among what it has, and gets them. Where other
//! words say what is at fault, what came with that [goes again](super::trial). Where none do, all of it is rejected and tried
//! apart. What was to go by a rejected response is still there at the client, until it takes that.

use std::{collections::HashSet, sync::Arc};

use super::{
    BACKLOG, Entry, InFlight, Kept, Rejection, Subscription, Waves,
    blame::{mentions, took_the_rest},
    due::{Due, Why},
    forgive, note,
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
    /// Nothing is new, so it can only be wrong that the names are gone.
    of_gone: bool,
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
            self.parted_with(&in_flight.removed, view);
            return Some(Verdict {
                ruled: self.accept(&in_flight.resources, view),
                ..Verdict::default()
            });
        };
        let gone = self.gone_by(&in_flight);
        let blame = blame(&in_flight, self.is_full(), &gone, error);
        let waves = in_flight.waves.and(in_flight.mends);
        // What is not certain is shown as rejected, and not ruled upon.
        let alone = || blame.names.len() <= 1 && gone.is_empty();
        let certain = blame.named || alone() && !self.leaves_out();
        let mut fresh = false;
        let rest_taken = blame.named && took_the_rest(error);
        let again = !rest_taken && !blame.of_gone && !gone.is_empty();
        self.doubt(&in_flight, &blame, again);
        if rest_taken {
            self.use_beside(&in_flight.resources, &blame.names, view);
            self.parted_with(&in_flight.removed, view);
        } else if blame.of_gone {
            fresh = self.refuse_removals(&gone, error, waves, view);
        } else {
            let mut walk = self.entries.walk();
            let beside = blame.beside.iter().filter_map(|name| walk.to(name));
            beside.for_each(Entry::doubt);
            if !self.is_full() {
                self.remove_again(gone, &in_flight);
            }
        }
        let blamed = blame.names;
        if let Some(beats) = &mut self.beats {
            beats.reject();
        }
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
            let rejection = Rejection {
                version: Some(sent.version().clone()),
                error: Some(error.clone()),
                waves,
            };
            fresh |= note(&mut self.rejected, self.kind, name.clone(), rejection, view);
            if certain {
                view.refused(self.kind, &sent);
            }
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
    fn parted_with(&mut self, names: &[Arc<str>], view: &dyn View) {
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
            let entries = self.entries.iter_mut();
            let unlisted = entries.filter(|entry| is_unlisted(entry, kept));
            unlisted.for_each(lose);
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

    /// What goes by the response in flight, if it is taken. Of a full list, what it leaves out and was not refused before.
    fn gone_by(&self, in_flight: &InFlight) -> Vec<Arc<str>> {
        if !self.is_full() {
            return in_flight.removed.to_vec();
        }
        self.untold()
    }

    /// Whether full lists leave out something that the client has, also what it refused to part with.
    fn leaves_out(&self) -> bool {
        let mut entries = self.entries.iter();
        self.is_full() && entries.any(|entry| is_unlisted(entry, &self.kept))
    }

    /// What is gone and still with the client, which has not refused just that.
    pub(super) fn untold(&self) -> Vec<Arc<str>> {
        let there = self.entries.iter().filter(|entry| entry.is_still_there());
        let names = there.map(Entry::name);
        let clings = |name: &&Arc<str>| self.rejected.get(*name).is_some_and(Rejection::clings);
        names.filter(|name| !clings(name)).cloned().collect()
    }

    /// Has it said once more that things are gone. If there is news of them, they are looked at instead.
    fn remove_again(&mut self, names: Vec<Arc<str>>, rejected: &InFlight) {
        let mut walk = self.entries.walk();
        let dues = names.into_iter().filter_map(|name| {
            let entry = walk.to(&name)?;
            let due = Due {
                gone: true,
                ..Due::new(Why::Again, rejected.waves.and(rejected.mends))
            };
            (entry.is_still_there() || entry.asked).then_some((name, due))
        });
        self.dirty.add(dues);
    }

    /// Notes that the client goes on with things that are gone, because it rejected that. True: that is news.
    pub(super) fn refuse_removals(
        &mut self,
        names: &[Arc<str>],
        error: &Arc<str>,
        waves: Waves,
        view: &dyn View,
    ) -> bool {
        let (mut fresh, mut lost) = (false, false);
        let mut walk = self.entries.walk();
        for name in names {
            let Some(entry) = walk.to(name).filter(|entry| entry.is_still_there()) else {
                continue;
            };
            let rejection = Rejection {
                version: None,
                error: Some(error.clone()),
                waves,
            };
            if self.rejected.len() < BACKLOG || self.rejected.contains_key(name) {
                let known = self.rejected.insert(name.clone(), rejection);
                fresh |= known.is_none_or(|known| known.version.is_some());
            } else {
                // A client is not to collect what is gone without end.
                entry.lose();
                lost = true;
            }
        }
        if lost {
            self.forget_gone(view);
        }
        fresh
    }

    /// Notes that the client uses all of a response but for some.
    fn use_beside(&mut self, resources: &[Arc<Resource>], blamed: &[Arc<str>], view: &dyn View) {
        let blamed: HashSet<_> = blamed.iter().collect();
        let mut walk = self.entries.walk();
        for resource in resources {
            let entry = walk.to(resource.name());
            // Not of a version before, which only went again.
            let used = |entry: &&mut Entry| {
                let last = entry.sent().map(|sent| sent.version()) == Some(resource.version());
                last && entry.state == State::Sent && !blamed.contains(entry.name())
            };
            if let Some(entry) = entry.filter(used) {
                entry.use_untaken();
                forgive(&mut self.rejected, self.kind, resource.name(), view);
            }
        }
    }

    /// Gives what has become good again by it.
    fn accept(&mut self, resources: &[Arc<Resource>], view: &dyn View) -> Vec<Arc<Resource>> {
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
            forgive(&mut self.rejected, self.kind, resource.name(), view);
        }
        ruled
    }
}

/// Whether the client has something of it, and full lists nothing.
fn is_unlisted(entry: &Entry, kept: &Kept) -> bool {
    entry.has() && entry.listed(kept.get(entry.name())).is_none()
}

/// What a rejection is about. `full`: of a full list; `gone`: what goes by it.
fn blame(sent: &InFlight, full: bool, gone: &[Arc<str>], error: &str) -> Blame {
    let resources = sent.resources.iter();
    let names = resources.clone().map(|resource| resource.name().clone());
    let (mut named, mut beside): (Vec<_>, Vec<_>) = names.partition(|name| mentions(error, name));
    let is_new = |name: &Arc<str>| sent.updated.binary_search(name).is_ok();
    // Words about what is new may speak of the rest of a full list, too.
    if full && named.iter().any(is_new) {
        named.retain(is_new);
    }
    if !named.is_empty() {
        if took_the_rest(error) {
            beside.clear();
        } else if full {
            // In a full list what is not new was taken before.
            beside.retain(is_new);
        }
        return Blame {
            names: named,
            named: true,
            of_gone: false,
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
    let of_gone = suspects.is_empty() && !gone.is_empty();
    if of_gone {
        suspects = gone.to_vec();
    } else if suspects.is_empty() && !full {
        suspects = beside;
    }
    Blame {
        names: suspects,
        named: false,
        of_gone,
        beside: Vec::new(),
    }
}
