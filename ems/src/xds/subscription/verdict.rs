//! What a client says of the response in flight, and what that makes of the resources in it.
//!
//! A rejection is of a whole response, and its words may name what is wrong. What becomes of the rest is the client's
//! business, and differs: Envoy applies the other clusters and listeners, of other types perhaps some, and of a response
//! that it cannot read nothing; and whatever it applied, it notes neither version nor TTL. So the rest is sent once more,
//! without what was named, and the answer to that is certain. Each round names something, so there are few.
//!
//! If nothing is named, as when Envoy cannot read a response, all of it is sent once more in responses of half as many, and
//! so on, until one is alone. What was taken lets the next response have twice as many.
//!
//! A full list cannot be sent without a part of it. There the rest counts as taken if the words are those of a client that
//! lists all that it did not take.

use std::sync::Arc;

use super::{
    Entry, InFlight, Rejection, Subscription,
    blame::{lists_all, mentions},
    due::Why,
};
use crate::xds::{Resource, Witness, stream::Mode};

/// A client's word on the response in flight.
#[derive(Debug, Default)]
pub(in crate::xds) struct Verdict {
    /// What it rejected, as far as that is known yet.
    pub(in crate::xds) blamed: Vec<Arc<str>>,
    /// Something of that it had not rejected before in this version.
    pub(in crate::xds) fresh: bool,
    /// What has become bad by it, or good again.
    pub(in crate::xds) ruled: Vec<Arc<Resource>>,
}

/// What a rejection is about.
struct Blame {
    names: Vec<Arc<str>>,
    /// The words name them; then they are sorted.
    named: bool,
    /// What is not certain is shown as rejected, and not ruled upon.
    certain: bool,
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
            self.widen();
            return Some(Verdict {
                ruled: self.accept(&in_flight.resources, &[]),
                ..Verdict::default()
            });
        };
        let all = in_flight.resources.len() + in_flight.removed.len();
        let Blame {
            names: blamed,
            named,
            certain,
        } = self.blame(&in_flight, error);
        if blamed.len() > 1 && !named && !self.is_full() {
            self.most = Some(all / 2);
            self.repeat_rest(&in_flight, &[]);
            return Some(Verdict::default());
        }
        self.widen();
        let mut fresh = false;
        let mut left_with_nothing = Vec::new();
        let mut ruled = if named {
            self.spare(&in_flight, &blamed, error)
        } else {
            Vec::new()
        };
        for name in &blamed {
            let Some(entry) = self.entries.get_mut(name) else {
                continue;
            };
            let Some(sent) = entry.sent().cloned() else {
                continue;
            };
            if entry.reject() {
                left_with_nothing.push(name.clone());
            }
            let known = self.rejected.get(name);
            fresh |= known.is_none_or(|known| known.version != *sent.version());
            let rejection = Rejection {
                version: sent.version().clone(),
                error: Some(error.clone()),
            };
            self.rejected.insert(name.clone(), rejection);
            if certain && sent.fate().reject(by, error) {
                ruled.push(sent);
            }
        }
        // By what it said there may be something else for it.
        self.mark(left_with_nothing, Why::Changed, in_flight.wave);
        Some(Verdict {
            blamed,
            fresh,
            ruled,
        })
    }

    fn blame(&self, sent: &InFlight, error: &str) -> Blame {
        let resources = sent.resources.iter().map(|resource| resource.name());
        let all = || resources.clone().chain(sent.removed.iter());
        let mut names: Vec<_> = all()
            .filter(|name| mentions(error, name))
            .cloned()
            .collect();
        if !names.is_empty() {
            names.sort();
            return Blame {
                names,
                named: true,
                certain: true,
            };
        }
        // In a full list what is not new was taken before, unless it was rejected: then it may be that again.
        let again = self.is_full() && self.rejected.values().any(|known| known.error.is_some());
        let names = match &*sent.updated {
            [] => all().cloned().collect(),
            updated => updated.to_vec(),
        };
        Blame {
            certain: names.len() == 1 && !again,
            names,
            named: false,
        }
    }

    /// Does with the rest of a rejected response what has to be done. Gives what has become good again by it.
    fn spare(&mut self, sent: &InFlight, blamed: &[Arc<str>], error: &str) -> Vec<Arc<Resource>> {
        if self.is_full() {
            return if lists_all(error) {
                self.accept(&sent.resources, blamed)
            } else {
                Vec::new()
            };
        }
        self.repeat_rest(sent, blamed);
        Vec::new()
    }

    /// Has a rejected response sent again, without what is blamed, whose names are sorted.
    fn repeat_rest(&mut self, sent: &InFlight, blamed: &[Arc<str>]) {
        let spared = |name: &&Arc<str>| blamed.binary_search(name).is_err();
        let names = sent.resources.iter().map(|resource| resource.name());
        let names: Vec<_> = names.filter(spared).cloned().collect();
        // It had its turn in the order of types.
        self.mark(names, Why::Again, sent.wave);
        if self.mode == Mode::Delta {
            let wanted = |name: &&Arc<str>| {
                self.wildcard || self.entries.get(name).is_some_and(|entry| entry.asked)
            };
            let names = sent.removed.iter().filter(spared).filter(wanted);
            let names: Vec<_> = names.cloned().collect();
            self.mark(names, Why::Asked, 0);
        }
    }

    /// Lets responses have more again, now that it is certain of one what the client says to it.
    fn widen(&mut self) {
        let searching = self.most.filter(|_| !self.dirty.is_empty());
        self.most = searching.map(|most| most.saturating_mul(2));
    }

    /// Takes all but what is blamed, whose names are sorted, as taken. Gives what has become good again by it.
    fn accept(&mut self, resources: &[Arc<Resource>], blamed: &[Arc<str>]) -> Vec<Arc<Resource>> {
        let spared = |name: &Arc<str>| blamed.binary_search(name).is_err();
        let mut ruled = Vec::new();
        let mut take = |entry: &mut Entry| {
            let sent = entry.sent()?;
            if sent.fate().take() {
                ruled.push(sent.clone());
            }
            entry.take();
            Some(())
        };
        if self.is_full() {
            for entry in self.entries.iter_mut().filter(|e| spared(e.name())) {
                take(entry);
            }
            let rejected = self.rejected.iter_mut();
            for (_, rejection) in rejected.filter(|(name, _)| spared(name)) {
                rejection.error = None;
            }
            return ruled;
        }
        let mut walk = self.entries.walk();
        for resource in resources {
            if let Some(entry) = walk.to(resource.name())
                && take(entry).is_some()
                && let Some(rejection) = self.rejected.get_mut(resource.name())
            {
                rejection.error = None;
            }
        }
        ruled
    }
}
