//! What a client goes on using while it has not taken something newer.
//!
//! Two things are sent again although newer ones were sent: what would expire at the client, and what a full list has to
//! name because leaving it out would remove it. Nothing else has a need of the version before, so nothing else is kept.

use std::{collections::HashMap, sync::Arc};

use super::entries::Entry;
use crate::xds::{Resource, stream::State};

/// The last versions that a client took, by name, of what it was sent something else of.
#[derive(Debug, Default)]
pub(super) struct Kept(HashMap<Arc<str>, Arc<Resource>>);

impl Kept {
    /// Notes that something else is about to be sent in place of what an entry says. `always`: also of what does not expire.
    pub(super) fn replace(&mut self, entry: &Entry, always: bool) {
        // What came in a list beside something that was rejected by name is used, and not refreshed.
        let used = entry.state == State::Acked || always && entry.is_used_untaken();
        let used = entry.sent().filter(|_| used);
        if let Some(old) = used.filter(|old| always || old.ttl().is_some()) {
            self.0.insert(entry.name().clone(), old.clone());
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.0.get(name)
    }

    pub(super) fn forget(&mut self, name: &str) {
        // Nearly always: not even a hash of the name.
        if !self.0.is_empty() {
            self.0.remove(name);
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Arc<str>) -> bool) {
        self.0.retain(|name, _| keep(name));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
