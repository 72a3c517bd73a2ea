//! What there is to send of one type, sorted by what it has to wait for.

use std::sync::Arc;

use crate::xds::Resource;

/// Why a name is looked at, and since which wave of changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) why: Why,
    pub(super) wave: u64,
}

/// Why a name is looked at; the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It may differ from what was sent.
    Changed,
    /// It is to be sent also if it does not differ.
    Again,
    /// The client asked: it is to be answered, and at once.
    Asked,
}

/// One name and what there is to say about it; `None`: it does not exist (any more).
pub(super) type Item = (Arc<str>, Option<Arc<Resource>>);

/// What there is to send, by how urgent it is.
#[derive(Debug, Default)]
pub(in crate::xds) struct Plan {
    /// Answers to what the client asked for: never wait for other types.
    pub(super) answers: Vec<Item>,
    /// New and changed resources: wait for the types that they may point at.
    pub(super) upserts: Vec<(Item, Due)>,
    /// Resources that are gone: wait for the types that may point at them.
    pub(super) removals: Vec<(Item, Due)>,
}

impl Plan {
    pub(in crate::xds) fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.upserts.is_empty() && self.removals.is_empty()
    }

    /// Whether it holds more than answers.
    pub(in crate::xds) fn changes(&self) -> bool {
        !self.upserts.is_empty() || !self.removals.is_empty()
    }

    /// The first wave that it holds changes of.
    pub(in crate::xds) fn since(&self) -> u64 {
        let all = self.upserts.iter().chain(&self.removals);
        all.map(|(_, due)| due.wave).min().unwrap_or(u64::MAX)
    }
}

/// What is sent by one response.
#[derive(Debug)]
pub(in crate::xds) struct Batch {
    pub(in crate::xds) resources: Vec<Arc<Resource>>,
    pub(in crate::xds) removed: Vec<Arc<str>>,
    /// Names whose content differs from what the client had.
    pub(in crate::xds) updated: Vec<Arc<str>>,
}
