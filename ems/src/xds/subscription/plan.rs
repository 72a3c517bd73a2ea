//! What there is to send of one type, sorted by what it has to wait for.

use std::sync::Arc;

use super::{Waves, due::Due};
use crate::xds::{Bundle, Resource};

/// One name and what there is to say about it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: Arc<str>,
    /// `None`: it does not exist (any more).
    pub(super) resource: Option<Arc<Resource>>,
    pub(super) due: Due,
    /// The waves of what the client rejected, if it is mended by this.
    pub(super) mends: Waves,
    /// It only goes again what the client has, which says nothing new of it.
    pub(super) refresh: bool,
}

impl Item {
    /// To be looked at once more.
    pub(super) fn into_due(self) -> (Arc<str>, Due) {
        (self.name, self.due)
    }
}

/// What there is to send, by how urgent it is.
#[derive(Debug, Default)]
pub(in crate::xds) struct Plan {
    /// Answers to what the client asked for: never wait for other types.
    pub(super) answers: Vec<Item>,
    /// New and changed resources: wait for the types that they may point at.
    pub(super) upserts: Vec<Item>,
    /// Resources that are gone: wait for the types that may point at them.
    pub(super) removals: Vec<Item>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.upserts.is_empty() && self.removals.is_empty()
    }

    /// Everything, sorted.
    pub(super) fn into_items(self) -> Vec<Item> {
        let Self {
            mut answers,
            upserts,
            removals,
        } = self;
        // Each is sorted.
        for more in [upserts, removals] {
            if answers.is_empty() {
                answers = more;
            } else if !more.is_empty() {
                answers.extend(more);
                answers.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        answers
    }

    /// Leaves one resource in it, or only what is gone, and gives back the names of the others.
    pub(super) fn keep_one(&mut self) -> Vec<(Arc<str>, Due)> {
        let mut first = true;
        let mut surplus = |item: &mut Item| item.resource.is_some() && !std::mem::take(&mut first);
        let mut later: Vec<Item> = self.answers.extract_if(.., &mut surplus).collect();
        later.extend(self.upserts.extract_if(.., &mut surplus));
        if !first {
            later.extend(self.answers.extract_if(.., |item| item.resource.is_none()));
            later.append(&mut self.removals);
        }
        later.into_iter().map(Item::into_due).collect()
    }

    /// How many resources are new or changed.
    pub(in crate::xds) fn upserts(&self) -> usize {
        self.upserts.len()
    }

    /// How many are gone.
    pub(in crate::xds) fn removals(&self) -> usize {
        self.removals.len()
    }

    /// The waves of all of it, and of what it mends. An answer may have a change in it.
    pub(in crate::xds) fn waves(&self) -> (Waves, Waves) {
        let all = self.answers.iter().chain(&self.upserts);
        let all = all.chain(&self.removals);
        all.fold((Waves::NONE, Waves::NONE), |(waves, mends), item| {
            (waves.and(item.due.waves), mends.and(item.mends))
        })
    }

    /// The first wave of all that.
    pub(in crate::xds) fn first(&self) -> u64 {
        let (waves, mends) = self.waves();
        waves.and(mends).first
    }
}

/// What is sent by one response.
#[derive(Debug)]
pub(in crate::xds) struct Batch {
    pub(in crate::xds) resources: Arc<Bundle>,
    pub(in crate::xds) removed: Arc<[Arc<str>]>,
    /// Of clusters, and in a full list: the names whose content differs from what the client had.
    pub(in crate::xds) updated: Vec<Arc<str>>,
    /// More is in it than what is gone, or goes once more.
    pub(in crate::xds) makes: bool,
}
