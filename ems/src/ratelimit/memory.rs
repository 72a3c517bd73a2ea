//! Windows in the memory of one EMS.
//!
//! All budgets of a request are of one service, so a service's budgets lie behind one lock, and a request is charged to all
//! of its limits or to none, exactly. Memory is bounded: who makes up keys finds no place for further ones, and crowds out
//! nobody else's. A key whose window is over gives its place away.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use isthmus_model::limit::cell::Origin;

use super::{Claim, State, Verdict, window::Window};

const SHARDS: usize = 64;

/// Pause between two searches for windows that are over in a table that is full, in milliseconds: each looks at every key.
const PAUSE: u64 = 1_000;

/// Most keys: for how many there is memory.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Of one service and one origin (see [`Origin`]).
    pub of_service: usize,
    /// In all.
    pub in_all: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            of_service: 131_072,
            in_all: 1_048_576,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Memory {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    room: Room,
    keys: AtomicUsize,
}

type Shard = HashMap<Box<str>, Tables>;

/// The budgets of a service.
#[derive(Debug, Default)]
struct Tables {
    identities: Table,
    made_up: Table,
}

#[derive(Debug, Default)]
struct Table {
    windows: HashMap<Box<str>, Window>,
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
            room,
            keys: AtomicUsize::new(0),
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
            let table = tables.of(claim);
            claim.state = match table.windows.get(claim.key).copied() {
                Some(window) => State::Known(window),
                None if self.has_place(table, now) => State::Known(Window::default()),
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
            let (table, length) = (tables.of(claim), claim.entry.window());
            match table.windows.get_mut(claim.key) {
                Some(window) => window.charge(hits, length, now),
                None => {
                    let mut window = Window::default();
                    window.charge(hits, length, now);
                    table.windows.insert(claim.key.into(), window);
                    self.keys.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// What was used of the budgets of claims, which are of one service. Charges nothing.
    pub fn look(&self, service: &str, claims: &mut [Claim<'_>]) {
        let Some(mut shard) = self.shard(service) else {
            return;
        };
        let mut tables = shard.get_mut(service);
        for claim in claims {
            let table = tables.as_mut().map(|tables| tables.of(claim));
            let window = table.and_then(|table| table.windows.get(claim.key).copied());
            claim.state = State::Known(window.unwrap_or_default());
        }
    }

    /// Forgets windows that are over.
    pub fn sweep(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, tables| {
                for table in [&mut tables.identities, &mut tables.made_up] {
                    self.sweep_table(table, now);
                    table.windows.shrink_to(table.windows.len() * 2);
                }
                !(tables.identities.windows.is_empty() && tables.made_up.windows.is_empty())
            });
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
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

    fn has_place(&self, table: &mut Table, now: u64) -> bool {
        let is_full = |table: &Table| {
            table.windows.len() >= self.room.of_service || self.len() >= self.room.in_all
        };
        if is_full(table) && table.full_until <= now {
            self.sweep_table(table, now);
            table.full_until = now.saturating_add(PAUSE);
        }
        !is_full(table)
    }

    fn sweep_table(&self, table: &mut Table, now: u64) {
        let before = table.windows.len();
        table.windows.retain(|_, window| !window.is_over(now));
        let gone = before - table.windows.len();
        self.keys.fetch_sub(gone, Ordering::Relaxed);
    }
}

impl Tables {
    fn of(&mut self, claim: &Claim<'_>) -> &mut Table {
        match claim.entry.limit().origin() {
            Origin::Limit | Origin::Identity => &mut self.identities,
            Origin::Caller => &mut self.made_up,
        }
    }
}

#[cfg(test)]
mod tests;
