//! What a client said against a resource, and how long that stands.

use std::{collections::HashMap, sync::Arc};

use super::Waves;
use crate::xds::{ResourceType, View};

/// A client's word against a resource.
#[derive(Debug)]
pub(super) struct Rejection {
    /// The version that was rejected last. `None`: that it is gone.
    pub(super) version: Option<Arc<str>>,
    /// What the client said, until it is sent something else or takes what it has.
    pub(super) error: Option<Arc<str>>,
    /// The waves that it came with: until something else is taken, the client has what was there before them.
    pub(super) waves: Waves,
}

impl Rejection {
    /// The client goes on with what is gone, until that goes again.
    pub(super) fn clings(&self) -> bool {
        self.version.is_none() && self.error.is_some()
    }

    /// The client gets what was good before, because of this. It goes on with that, also once it took it.
    pub(super) fn stands(&self, kind: ResourceType, name: &str, view: &dyn View) -> bool {
        self.version.is_some() && view.withheld(kind, name) == self.version
    }
}

/// Notes that a client rejected something of a name. If that was only what was good before, what is kept from it for the first
/// rejection stays noted, with its words: they are what matters once it takes the other after all. True: it is news.
pub(super) fn note(
    rejected: &mut HashMap<Arc<str>, Rejection>,
    kind: ResourceType,
    name: Arc<str>,
    new: Rejection,
    view: &dyn View,
) -> bool {
    let known = rejected.get(&name);
    let same = known.is_some_and(|known| known.version == new.version);
    let first = known.filter(|known| !same && known.stands(kind, &name, view));
    let new = match first {
        Some(first) => Rejection {
            version: first.version.clone(),
            error: first.error.clone().or(new.error),
            waves: first.waves.and(new.waves),
        },
        None => new,
    };
    rejected.insert(name, new);
    !same
}

/// The client uses what it was sent of a name: what it said of it is over, unless it was sent that because of what it said.
pub(super) fn forgive(
    rejected: &mut HashMap<Arc<str>, Rejection>,
    kind: ResourceType,
    name: &str,
    view: &dyn View,
) {
    // Nearly always: not even a hash of the name.
    if rejected.is_empty() {
        return;
    }
    let known = rejected.get(name);
    if known.is_some_and(|known| !known.stands(kind, name, view)) {
        rejected.remove(name);
    }
}
