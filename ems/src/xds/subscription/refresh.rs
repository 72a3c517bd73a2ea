//! The part of a subscription that keeps resources with a TTL alive at the client.
//!
//! What is refreshed is what the client took, and not what there is now: a change goes its own way, in its own order. What
//! it did not take is not refreshed, for it does not have it; what it had before that is.

use std::{sync::Arc, time::Duration};

use super::{
    Entry, Item, Kept, Subscription, Waves,
    due::{Due, Why},
};
use crate::xds::{
    Resource,
    stream::{Mode, State},
};

impl Subscription {
    /// When something has to be refreshed. While a response is in flight nothing can be sent; afterwards it may be due.
    pub(in crate::xds) fn wake_at(&mut self, now: Duration) -> Option<Duration> {
        let next = self.beats.as_mut()?.next(now);
        if self.in_flight() { None } else { next }
    }

    /// Has what is due sent with the next response, which can go at once.
    pub(in crate::xds) fn tick(&mut self, now: Duration) {
        if self.in_flight() {
            return;
        }
        let Some(beats) = &mut self.beats else { return };
        for (name, late) in beats.take_due(now) {
            let entry = self.entries.get(&name);
            let Some(has) = entry.and_then(|entry| has(&self.kept, self.mode, entry)) else {
                beats.forget(&name);
                continue;
            };
            let refresh = match has.heartbeat() {
                Some(heartbeat) if !late && self.mode == Mode::Delta => heartbeat,
                _ => has,
            };
            self.refresh.push(refresh.clone());
        }
    }

    /// Adds what is to be refreshed, unless it is sent anyway or the client wants it no more.
    pub(super) fn add_refreshed(&mut self, items: &mut Vec<Item>) {
        let refresh = std::mem::take(&mut self.refresh);
        if refresh.is_empty() {
            return;
        }
        let before = items.len();
        for resource in refresh {
            let name = resource.name();
            let sent = items
                .get(..before)
                .is_some_and(|items| items.binary_search_by(|item| item.name.cmp(name)).is_ok());
            if !sent && self.entries.get(name).is_some() {
                items.push(Item {
                    name: name.clone(),
                    resource: Some(resource),
                    due: Due::new(Why::Again, Waves::NONE),
                    mends: Waves::NONE,
                    refresh: true,
                });
            }
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Notes that a resource was sent.
    pub(super) fn note_ttl(&mut self, resource: &Resource) {
        let expires = resource.ttl().is_some() || resource.is_heartbeat();
        if self.beats.is_none() && !expires {
            return;
        }
        // A heartbeat does not say how long: what it is of does.
        let sent = self.entries.get(resource.name()).and_then(Entry::sent);
        let kept = self.kept.get(resource.name());
        let mut whole = sent.into_iter().chain(kept);
        let whole = whole.find(|whole| whole.version() == resource.version());
        let ttl = whole.and_then(|whole| whole.ttl());
        self.beats.get_or_insert_default().sent(resource, ttl);
    }

    /// What a full list says of an entry. Of a rejected version, the one before: that the client takes, with all the rest,
    /// and does not remove.
    pub(super) fn listed<'a>(&'a self, entry: &'a Entry) -> Option<&'a Arc<Resource>> {
        entry.listed(self.kept.get(entry.name()))
    }

    /// How many notes it keeps of names, but for those that it has yet to look at.
    pub(in crate::xds) fn kept(&self) -> usize {
        let in_flight = self.in_flight.as_ref();
        let in_flight = in_flight.map_or(0, |sent| sent.resources.len() + sent.removed.len());
        let beats = self.beats.as_ref().map_or(0, |beats| beats.len());
        self.entries.len()
            + self.rejected.len()
            + self.kept.len()
            + self.trials.len()
            + in_flight
            + beats
    }

    /// How many names it has yet to look at.
    pub(in crate::xds) fn backlog(&self) -> usize {
        self.dirty.len()
    }
}

/// What a client has of an entry, as far as it is known. What came beside something that was rejected may have been applied
/// all the same; but the version and the TTL that it goes by are those of before, so in a delta stream these are kept alive.
fn has<'a>(kept: &'a Kept, mode: Mode, entry: &'a Entry) -> Option<&'a Arc<Resource>> {
    let before = kept.get(entry.name());
    match entry.state {
        State::Acked => entry.sent(),
        State::Rejected => before,
        State::Sent if mode == Mode::Delta => before,
        State::Sent => before.and(entry.sent()),
        State::Waiting | State::Absent => None,
    }
}

/// The form of a resource that a client understands which knows of TTLs, or does not.
pub(super) fn dress(expires: bool, resource: Arc<Resource>) -> Arc<Resource> {
    if expires {
        resource
    } else {
        resource.endless()
    }
}
