//! Windows in the memory of one EMS.
//!
//! All budgets of a request are of one service, so a service's budgets lie behind one lock, and a request is charged to all
//! of its limits or to none, exactly. Memory is bounded, whatever the length of keys: who makes up keys finds no place for
//! further ones, and takes none of the places for identities. A key whose window is over gives its place away.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use isthmus_model::limit::cell::Origin;

use super::{
    Claim, State, Verdict,
    digest::{Digest, Digester},
    window::Window,
};

const SHARDS: usize = 64;

/// Pause between two searches for windows that are over in a table that is full, in milliseconds: each looks at every key.
const PAUSE: u64 = 1_000;

/// Most keys: for how many there is memory.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Of one service and one origin (see [`Origin`]).
    pub of_service: usize,
    /// Of one origin in all.
    pub of_origin: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            of_service: 131_072,
            of_origin: 1_048_576,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Memory {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    digester: Digester,
    room: Room,
    /// How many identities there are, and how many keys that were made up.
    keys: [AtomicUsize; 2],
}

type Shard = HashMap<Box<str>, Tables>;

/// The budgets of a service: of identities, and of what callers make up.
type Tables = [Table; 2];

#[derive(Debug, Default)]
struct Table {
    windows: HashMap<Digest, Window>,
    /// Until then there is no sense in looking for windows that are over.
    full_until: u64,
}

impl Memory {
    /// Nothing was used yet.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            digester: Digester::default(),
            room,
            keys: Default::default(),
        }
    }

    /// Looks at the budgets of all claims, which are of one service, and if none of them is against it charges those that
    /// fit.
    pub fn charge(&self, service: &str, claims: &mut [Claim<'_>], hits: u64, now: u64) {
        let Some(mut shard) = self.shard(service) else {
            return;
        };
        if !shard.contains_key(service) {
            shard.insert(service.into(), Tables::default());
        }
        let Some(tables) = shard.get_mut(service) else {
            return;
        };
        for claim in claims.iter_mut() {
            let (table, keys) = self.table(tables, claim);
            claim.state = match table.windows.get(&self.digester.digest(claim.key)).copied() {
                Some(window) => State::Known(window),
                None if self.has_place(table, keys, now) => State::Known(Window::default()),
                None => State::Unknown,
            };
        }
        if claims.iter().any(|claim| claim.refuses(hits, now)) {
            return;
        }
        for claim in claims.iter() {
            if claim.verdict(hits, now) != Verdict::Fits {
                continue;
            }
            let (table, keys) = self.table(tables, claim);
            let window = table.windows.entry(self.digester.digest(claim.key));
            if let Entry::Vacant(_) = window {
                keys.fetch_add(1, Ordering::Relaxed);
            }
            let window = window.or_default();
            window.charge(hits, claim.entry.window(), now);
        }
    }

    /// What was used of the budgets of claims, which are of one service. Charges nothing.
    pub fn look(&self, service: &str, claims: &mut [Claim<'_>]) {
        let Some(mut shard) = self.shard(service) else {
            return;
        };
        let mut tables = shard.get_mut(service);
        for claim in claims {
            let table = tables.as_mut().map(|tables| self.table(tables, claim).0);
            let digest = self.digester.digest(claim.key);
            let window = table.and_then(|table| table.windows.get(&digest).copied());
            claim.state = State::Known(window.unwrap_or_default());
        }
    }

    /// Forgets windows that are over.
    pub fn sweep(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, tables| {
                for (table, keys) in tables.iter_mut().zip(&self.keys) {
                    table.sweep(keys, now);
                    table.windows.shrink_to(table.windows.len() * 2);
                }
                tables.iter().any(|table| !table.windows.is_empty())
            });
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys
            .iter()
            .map(|keys| keys.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, service: &str) -> Option<MutexGuard<'_, Shard>> {
        let hash = usize::try_from(self.hasher.hash_one(service) % SHARDS as u64).ok()?;
        let shard = self.shards.get(hash)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The table of a claim's key, and how many such keys there are in all tables.
    fn table<'a>(
        &self,
        [identities, made_up]: &'a mut Tables,
        claim: &Claim<'_>,
    ) -> (&'a mut Table, &AtomicUsize) {
        let [of_identities, of_made_up] = &self.keys;
        match claim.entry.limit().origin() {
            Origin::Limit | Origin::Identity => (identities, of_identities),
            Origin::Caller => (made_up, of_made_up),
        }
    }

    fn has_place(&self, table: &mut Table, keys: &AtomicUsize, now: u64) -> bool {
        let is_full = |table: &Table| {
            table.windows.len() >= self.room.of_service
                || keys.load(Ordering::Relaxed) >= self.room.of_origin
        };
        if is_full(table) && table.full_until <= now {
            table.sweep(keys, now);
            table.full_until = now.saturating_add(PAUSE);
        }
        !is_full(table)
    }
}

impl Table {
    /// Forgets windows that are over, which are among so many keys.
    fn sweep(&mut self, keys: &AtomicUsize, now: u64) {
        let before = self.windows.len();
        self.windows.retain(|_, window| !window.is_over(now));
        keys.fetch_sub(before - self.windows.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
