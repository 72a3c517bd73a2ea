//! Which keys are asked about most, in bounded memory: the space-saving algorithm (Metwally, Agrawal, El Abbadi, 2005).
//!
//! A table has a few slots. A key that has none takes that of the least busy one, and its count with it, which is noted as
//! its possible error. So a count is never too low, and too high by at most that error, which is at most all requests
//! divided by the slots; and every key with more requests than that is in the table.
//!
//! What counts is the present and the period before it, so that who was busy yesterday is forgotten. Time is an argument,
//! in milliseconds.

use std::hash::{BuildHasher, RandomState};

/// Slots of a table.
pub const SLOTS: usize = 32;

/// Most bytes that are kept of a key; longer ones are told apart all the same.
pub const LONGEST: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Busiest {
    hasher: RandomState,
    period: u64,
    /// When the present period ends.
    ends: u64,
    present: Table,
    before: Table,
}

/// A key and how busy it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The key, or the beginning of it.
    pub key: String,
    /// Whether that is all of it.
    pub is_whole: bool,
    /// At most so many requests.
    pub requests: u64,
    /// So many fewer at most.
    pub error: u64,
}

/// Slots are found by looking at all: there are few, and their hashes lie side by side.
#[derive(Debug, Default)]
struct Table {
    hashes: Vec<u64>,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    key: String,
    is_whole: bool,
    count: u64,
    error: u64,
}

impl Busiest {
    /// Nobody was busy yet.
    #[must_use]
    pub fn new(period: u64) -> Self {
        Self {
            hasher: RandomState::new(),
            period,
            ends: 0,
            present: Table::default(),
            before: Table::default(),
        }
    }

    /// Notes requests for a key.
    pub fn note(&mut self, key: &str, requests: u64, now: u64) {
        self.turn(now);
        self.present.note(self.hasher.hash_one(key), key, requests);
    }

    /// The busiest keys, the busiest first.
    pub fn list(&mut self, most: usize, now: u64) -> Vec<Busy> {
        self.turn(now);
        let (present, before) = (&self.present, &self.before);
        let mut all: Vec<_> = present.merged(before).collect();
        all.extend(
            before
                .merged(present)
                .filter(|(hash, _)| !present.has(*hash)),
        );
        let mut all: Vec<_> = all.into_iter().map(|(_, busy)| busy).collect();
        all.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.key.cmp(&b.key)));
        all.truncate(most);
        all
    }

    fn turn(&mut self, now: u64) {
        if now < self.ends {
            return;
        }
        let present = std::mem::take(&mut self.present);
        let is_recent = now < self.ends.saturating_add(self.period);
        self.before = if is_recent { present } else { Table::default() };
        self.ends = now.saturating_add(self.period);
    }
}

impl Table {
    fn note(&mut self, hash: u64, key: &str, requests: u64) {
        if let Some(slot) = self.at(hash).and_then(|at| self.slots.get_mut(at)) {
            slot.count = slot.count.saturating_add(requests);
            return;
        }
        if self.slots.len() < SLOTS {
            let mut slot = Slot {
                key: String::new(),
                is_whole: true,
                count: requests,
                error: 0,
            };
            slot.name(key);
            self.hashes.push(hash);
            self.slots.push(slot);
            return;
        }
        let least = self.slots.iter_mut().zip(&mut self.hashes);
        if let Some((slot, place)) = least.min_by_key(|(slot, _)| slot.count) {
            *place = hash;
            slot.error = slot.count;
            slot.count = slot.count.saturating_add(requests);
            slot.name(key);
        }
    }

    fn at(&self, hash: u64) -> Option<usize> {
        self.hashes.iter().position(|known| *known == hash)
    }

    fn has(&self, hash: u64) -> bool {
        self.at(hash).is_some()
    }

    /// How many requests a key may have had that is not in the table.
    fn missed(&self) -> u64 {
        let least = self.slots.iter().map(|slot| slot.count).min();
        least.filter(|_| self.slots.len() == SLOTS).unwrap_or(0)
    }

    /// The keys of this table, with what another one has of them.
    fn merged<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (u64, Busy)> + 'a {
        let missed = other.missed();
        self.hashes
            .iter()
            .zip(&self.slots)
            .map(move |(hash, slot)| {
                let there = other.at(*hash).and_then(|at| other.slots.get(at));
                let (count, error) =
                    there.map_or((missed, missed), |slot| (slot.count, slot.error));
                let busy = Busy {
                    key: slot.key.clone(),
                    is_whole: slot.is_whole,
                    requests: slot.count.saturating_add(count),
                    error: slot.error.saturating_add(error),
                };
                (*hash, busy)
            })
    }
}

impl Slot {
    fn name(&mut self, key: &str) {
        let mut end = key.len().min(LONGEST);
        while !key.is_char_boundary(end) {
            end -= 1;
        }
        let kept = key.get(..end).unwrap_or(key);
        self.is_whole = kept.len() == key.len();
        self.key.clear();
        self.key.push_str(kept);
    }
}

#[cfg(test)]
mod tests;
