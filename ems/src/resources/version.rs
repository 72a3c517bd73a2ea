//! A resource as it is now, and as it was when a client last took it, for those whom the present one is not for.
//!
//! What clients said is in the resource itself, and so is for whom of those who come it is then; what one of them rejected
//! is in its [`Reader`].

use std::sync::Arc;

use isthmus_proto::v1;

use super::reader::{Reader, Served};
use crate::xds::{Resource, ResourceType};

/// See the module.
pub(super) struct Version {
    now: Arc<Resource>,
    taken: Option<Arc<Resource>>,
}

impl Version {
    pub(super) fn new(now: Arc<Resource>) -> Self {
        Self { now, taken: None }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        self.now.name()
    }

    /// Whether it differs from before.
    pub(super) fn replace(&mut self, new: Arc<Resource>) -> bool {
        if self.now == new {
            return false;
        }
        let new = match &self.taken {
            Some(taken) if *taken == new => taken.clone(),
            _ => new,
        };
        let old = std::mem::replace(&mut self.now, new);
        if old.fate().is_taken() {
            self.taken = Some(old);
        }
        true
    }

    /// What a client is sent.
    pub(super) fn served(&self, kind: ResourceType, to: &Reader) -> Served {
        match &self.taken {
            Some(taken) if !to.may_have(kind, &self.now) => Served {
                resource: taken.clone(),
                withheld: Some(self.now.version().clone()),
            },
            _ => Served::now(self.now.clone()),
        }
    }

    /// Whether this is what the name stands for now.
    pub(super) fn is(&self, resource: &Arc<Resource>) -> bool {
        Arc::ptr_eq(&self.now, resource)
    }

    pub(super) fn is_bad(&self) -> bool {
        self.now.fate().bad().is_some()
    }

    /// What every client rejected that answered.
    pub(super) fn rejection(&self, kind: ResourceType) -> Option<v1::Rejection> {
        let now = &self.now;
        Some(v1::Rejection {
            type_url: kind.type_url().to_owned(),
            name: now.name().to_string(),
            version: now.version().to_string(),
            error: now.fate().bad()?.to_string(),
            former_served: self.taken.is_some(),
        })
    }
}
