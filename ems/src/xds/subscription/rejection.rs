//! What a client said against a resource, and how long that stands.

use std::{collections::HashMap, sync::Arc};

use super::Waves;
use crate::xds::Resource;

/// A client's word against a resource.
#[derive(Debug)]
pub(super) struct Rejection {
    /// The version that was rejected last. `None`: that it is gone.
    pub(super) version: Option<Arc<str>>,
    /// The version there is instead, for a client that rejects that one: what it said stands beside it.
    pub(super) instead: Option<Arc<str>>,
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

    /// This is sent because of it, and does not mend it.
    pub(super) fn brings(&self, resource: &Resource) -> bool {
        self.instead.as_ref() == Some(resource.version())
    }
}

/// The client uses this: what it said of the name is over, unless this came because of it.
pub(super) fn forgive(rejected: &mut HashMap<Arc<str>, Rejection>, resource: &Resource) {
    // Nearly always: not even a hash of the name.
    if rejected.is_empty() {
        return;
    }
    let name = resource.name();
    if rejected
        .get(name)
        .is_some_and(|known| !known.brings(resource))
    {
        rejected.remove(name);
    }
}
