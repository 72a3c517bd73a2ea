//! Who follows what: an index from names to streams, so that a change wakes only those whom it concerns.
//!
//! A stream gets the whole [`Changed`] by reference and looks for itself which of it matters; what piles up while it is
//! busy or its client reads slowly is bounded, because beyond the bound it is told to look at everything instead.
//!
//! Sets of streams are compressed bitmaps: ten thousand streams that follow a thousand names each take a bit for each pair,
//! and whom several changes concern is a union of a few words.
//!
//! The order that makes this safe: data is visible first, then [`Hub::publish`] is called; a stream first follows a
//! name and then looks whether [`Hub::epoch`] moved since before it read the data.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use roaring::RoaringBitmap;

use super::{Changed, ResourceType, stream::Action};

/// Batches waiting for one stream beyond which it looks at everything instead.
const BACKLOG: usize = 32;

/// Number of a stream among those connected now.
pub type StreamId = u32;

/// The index. Cheap to clone by `Arc`.
#[derive(Debug, Default)]
pub struct Hub {
    index: Mutex<Index>,
    epoch: AtomicU64,
}

#[derive(Debug, Default)]
struct Index {
    names: HashMap<ResourceType, HashMap<Arc<str>, RoaringBitmap>>,
    all: HashMap<ResourceType, RoaringBitmap>,
    inboxes: Vec<Option<Arc<Inbox>>>,
    free: Vec<StreamId>,
}

/// What waits for one stream.
#[derive(Debug, Default)]
pub struct Inbox(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    news: News,
    waker: Option<Waker>,
}

/// What happened since a stream looked last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Changes, in order.
    pub changes: Vec<Arc<Changed>>,
    /// Changes were left out: anything may differ.
    pub missed: bool,
    /// The stream is to end.
    pub closing: bool,
}

impl News {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.missed && !self.closing
    }
}

impl Hub {
    /// Takes up a stream, unless there are `limit` already.
    pub fn join(&self, limit: usize) -> Option<(StreamId, Arc<Inbox>)> {
        let mut index = self.lock();
        if index.len() >= limit {
            return None;
        }
        let inbox = Arc::new(Inbox::default());
        let id = match index.free.pop() {
            Some(id) => id,
            None => {
                index.inboxes.push(None);
                u32::try_from(index.inboxes.len() - 1).ok()?
            }
        };
        *index.inboxes.get_mut(id as usize)? = Some(inbox.clone());
        Some((id, inbox))
    }

    /// Lets a stream go, with everything that it followed.
    pub fn leave(&self, id: StreamId, followed: impl Iterator<Item = (ResourceType, Arc<str>)>) {
        let mut index = self.lock();
        for (kind, name) in followed {
            index.unfollow(id, kind, &name);
        }
        for streams in index.all.values_mut() {
            streams.remove(id);
        }
        if let Some(inbox) = index.inboxes.get_mut(id as usize)
            && inbox.take().is_some()
        {
            index.free.push(id);
        }
    }

    /// How many changes were published so far.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Streams connected now.
    pub fn streams(&self) -> usize {
        self.lock().len()
    }

    /// Does those of the actions that concern the index, and gives the epoch after.
    pub fn follow(&self, id: StreamId, actions: &[Action]) -> u64 {
        let mut index = self.lock();
        for action in actions {
            match action {
                Action::Follow(kind, name) => {
                    let names = index.names.entry(*kind).or_default();
                    names.entry(name.clone()).or_default().insert(id);
                }
                Action::Unfollow(kind, name) => index.unfollow(id, *kind, name),
                Action::FollowAll(kind) => {
                    index.all.entry(*kind).or_default().insert(id);
                }
                Action::UnfollowAll(kind) => {
                    index.all.entry(*kind).or_default().remove(id);
                }
                Action::Send(_)
                | Action::Acked { .. }
                | Action::Rejected { .. }
                | Action::Ruled(..) => {}
            }
        }
        self.epoch.load(Ordering::Acquire)
    }

    /// Wakes those whom a change concerns, once each. The change must be visible to every view already.
    pub fn publish(&self, changed: Changed) {
        if changed.is_empty() {
            return;
        }
        let changed = Arc::new(changed);
        let inboxes: Vec<_> = {
            let index = self.lock();
            self.epoch.fetch_add(1, Ordering::AcqRel);
            let followers = index.followers(&changed).into_iter();
            let inboxes = followers.map(|id| index.inboxes.get(id as usize).cloned().flatten());
            inboxes.flatten().collect()
        };
        // Without the lock: waking takes its time.
        for inbox in inboxes {
            inbox.push(&changed);
        }
    }

    /// Tells streams to end.
    pub fn close(&self, whom: impl Fn(StreamId) -> bool) {
        let index = self.lock();
        for (id, inbox) in (0..).zip(&index.inboxes) {
            if let Some(inbox) = inbox
                && whom(id)
            {
                inbox.close();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Nothing panics while it holds the lock; if something did, the index is still whole.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn len(&self) -> usize {
        self.inboxes.len() - self.free.len()
    }

    /// Whom a change concerns.
    fn followers(&self, changed: &Changed) -> RoaringBitmap {
        let mut followers = RoaringBitmap::new();
        for kind in ResourceType::ALL {
            let mut names = changed.of_type(kind).peekable();
            if names.peek().is_some()
                && let Some(streams) = self.all.get(&kind)
            {
                followers |= streams;
            }
            if let Some(index) = self.names.get(&kind) {
                for streams in names.filter_map(|name| index.get(name)) {
                    followers |= streams;
                }
            }
        }
        followers
    }

    fn unfollow(&mut self, id: StreamId, kind: ResourceType, name: &Arc<str>) {
        let Some(names) = self.names.get_mut(&kind) else {
            return;
        };
        if let Some(streams) = names.get_mut(name) {
            streams.remove(id);
            if streams.is_empty() {
                names.remove(name);
            }
        }
    }
}

impl Inbox {
    /// Takes what happened, or leaves a waker to be called when something does.
    pub fn take(&self, waker: &Waker) -> News {
        let mut pending = self.lock();
        if pending.news.is_empty() && !pending.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            pending.waker = Some(waker.clone());
        }
        std::mem::take(&mut pending.news)
    }

    fn push(&self, changed: &Arc<Changed>) {
        self.tell(|news| {
            if news.changes.len() >= BACKLOG {
                news.changes = Vec::new();
                news.missed = true;
            }
            if !news.missed {
                news.changes.push(changed.clone());
            }
        });
    }

    fn close(&self) {
        self.tell(|news| news.closing = true);
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        let mut pending = self.lock();
        change(&mut pending.news);
        let waker = pending.waker.take();
        drop(pending);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
