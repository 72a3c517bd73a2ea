//! One client, for whom a resource as it is now may not be: then it gets what was good before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::xds::{Resource, ResourceType, Witness};

/// By type and name: the version.
type Versions = HashMap<(ResourceType, Arc<str>), Arc<str>>;

/// See the module.
pub(super) struct Reader {
    witness: Witness,
    /// What it rejected, as long as that is what the name stands for. Never more than the names that it uses.
    refused: Mutex<Versions>,
}

/// What a client is sent.
pub(super) struct Served {
    pub(super) resource: Arc<Resource>,
    /// The version that there is now, where that is not for it.
    pub(super) withheld: Option<Arc<str>>,
}

impl Served {
    /// The same for all.
    pub(super) fn now(resource: Arc<Resource>) -> Self {
        let withheld = None;
        Self { resource, withheld }
    }
}

impl Reader {
    pub(super) fn new(witness: Witness) -> Self {
        Self {
            witness,
            refused: Mutex::default(),
        }
    }

    /// Whether this is for the client, where something else was good before.
    pub(super) fn may_have(&self, kind: ResourceType, now: &Resource) -> bool {
        !self.refuses(kind, now) && now.fate().is_for(self.witness)
    }

    fn refuses(&self, kind: ResourceType, now: &Resource) -> bool {
        let mut refused = self.lock();
        // Nearly always: no copy of the name.
        if refused.is_empty() {
            return false;
        }
        let key = (kind, now.name().clone());
        let same = refused.get(&key).map(|version| version == now.version());
        if same == Some(false) {
            // There was something else since: if it comes back, it may have been mended.
            refused.remove(&key);
        }
        same == Some(true)
    }

    /// It rejected a resource. Of what it was sent in place of another nothing is kept: it has that already, or nothing.
    pub(super) fn refuse(&self, kind: ResourceType, resource: &Resource, served: &Served) {
        let now = served.withheld.as_ref();
        if now.unwrap_or_else(|| served.resource.version()) == resource.version() {
            let (name, version) = (resource.name().clone(), resource.version().clone());
            self.lock().insert((kind, name), version);
        }
    }

    pub(super) fn forget(&self, kind: ResourceType, name: &str) {
        let mut refused = self.lock();
        if !refused.is_empty() {
            refused.remove(&(kind, name.into()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Versions> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
