//! What the xDS server did so far, as plain numbers for whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ResourceType;

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    secret: PerType,
    cluster: PerType,
    endpoints: PerType,
    extension_config: PerType,
    listener: PerType,
    route: PerType,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct PerType {
    pushes: AtomicU64,
    resources: AtomicU64,
    bytes: AtomicU64,
    acks: AtomicU64,
    nacks: AtomicU64,
}

/// The counts of one type at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Responses sent.
    pub pushes: u64,
    /// Resources in them, removals too.
    pub resources: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Responses that a client took.
    pub acks: u64,
    /// Responses that a client rejected.
    pub nacks: u64,
}

impl Counters {
    /// The counts of a type.
    pub fn totals(&self, kind: ResourceType) -> Totals {
        let counts = self.of(kind);
        Totals {
            pushes: counts.pushes.load(Relaxed),
            resources: counts.resources.load(Relaxed),
            bytes: counts.bytes.load(Relaxed),
            acks: counts.acks.load(Relaxed),
            nacks: counts.nacks.load(Relaxed),
        }
    }

    /// Streams that were not let in or were ended for what they asked.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    pub(super) fn sent(&self, kind: ResourceType, resources: usize, bytes: usize) {
        let counts = self.of(kind);
        counts.pushes.fetch_add(1, Relaxed);
        counts.resources.fetch_add(resources as u64, Relaxed);
        counts.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn acked(&self, kind: ResourceType) {
        self.of(kind).acks.fetch_add(1, Relaxed);
    }

    pub(super) fn rejected(&self, kind: ResourceType) {
        self.of(kind).nacks.fetch_add(1, Relaxed);
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    fn of(&self, kind: ResourceType) -> &PerType {
        match kind {
            ResourceType::Secret => &self.secret,
            ResourceType::Cluster => &self.cluster,
            ResourceType::Endpoints => &self.endpoints,
            ResourceType::ExtensionConfig => &self.extension_config,
            ResourceType::Listener => &self.listener,
            ResourceType::Route => &self.route,
        }
    }
}
