//! What one client rejected last: as long as that is what a name stands for, it gets what was good before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::xds::{Resource, ResourceType};

/// By type and name: the version.
type Versions = HashMap<(ResourceType, Arc<str>), Arc<str>>;

/// See the module. Never more than the names that the client uses.
#[derive(Default)]
pub(super) struct Refused(Mutex<Versions>);

impl Refused {
    fn lock(&self) -> MutexGuard<'_, Versions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, kind: ResourceType, resource: &Resource) {
        let (name, version) = (resource.name().clone(), resource.version().clone());
        self.lock().insert((kind, name), version);
    }

    pub(super) fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<str>> {
        let all = self.lock();
        // Nearly always: no copy of the name.
        if all.is_empty() {
            return None;
        }
        all.get(&(kind, name.into())).cloned()
    }

    pub(super) fn forget(&self, kind: ResourceType, name: &str) {
        let mut all = self.lock();
        if !all.is_empty() {
            all.remove(&(kind, name.into()));
        }
    }
}
