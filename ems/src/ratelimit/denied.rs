//! Budgets that were found used up, so that nobody is asked about them again in the same window.
//!
//! What was used is remembered, not that a request was refused: when the limit is raised meanwhile, the budget is asked for
//! again. A bounded cache: what it has no room for is asked for again, too.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::window::Window;

const SHARDS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Denied {
    shards: Vec<Mutex<HashMap<Box<str>, Window>>>,
    hasher: RandomState,
    /// Most keys of one shard.
    room: usize,
}

impl Denied {
    /// With room for about so many keys.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            room: keys.div_ceil(SHARDS),
        }
    }

    /// What was used of a budget, as far as that is known and counts.
    #[must_use]
    pub fn get(&self, key: &str, now: u64) -> Option<Window> {
        let shard = self.shard(key)?;
        shard.get(key).copied().filter(|w| !w.is_over(now))
    }

    /// Notes a budget that is used up.
    pub fn put(&self, key: &str, window: Window, now: u64) {
        let Some(mut shard) = self.shard(key) else {
            return;
        };
        if let Some(known) = shard.get_mut(key) {
            *known = window;
            return;
        }
        if shard.len() >= self.room {
            shard.retain(|_, window| !window.is_over(now));
        }
        // Rather one that is forgotten too early than a search for each that comes: the next may be of the same sort.
        if shard.len() >= self.room {
            shard.clear();
        }
        shard.insert(key.into(), window);
    }

    /// Forgets windows that are over.
    pub fn sweep(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, window| !window.is_over(now));
            let len = shard.len();
            shard.shrink_to(len * 2);
        }
    }

    fn shard(&self, key: &str) -> Option<MutexGuard<'_, HashMap<Box<str>, Window>>> {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).ok()?;
        let shard = self.shards.get(at)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(used: u64, ends: u64) -> Window {
        Window { used, ends }
    }

    #[test]
    fn known_while_the_window_lasts() {
        let denied = Denied::new(100);
        assert_eq!(denied.get("a", 0), None);
        denied.put("a", window(5, 10), 0);
        assert_eq!(denied.get("a", 9), Some(window(5, 10)));
        assert_eq!(denied.get("b", 9), None);
        assert_eq!(denied.get("a", 10), None);
        denied.put("a", window(6, 20), 12);
        assert_eq!(denied.get("a", 12), Some(window(6, 20)));
        denied.sweep(20);
        assert!(denied.shards.iter().all(|s| s.lock().unwrap().is_empty()));
    }

    #[test]
    fn there_is_a_bound() {
        let denied = Denied::new(SHARDS * 2);
        for at in 0..10_000 {
            denied.put(&at.to_string(), window(1, 10), 0);
        }
        let most = denied.shards.iter().map(|s| s.lock().unwrap().len()).max();
        assert_eq!(most, Some(2));
        assert_eq!(denied.get("9999", 0), Some(window(1, 10)));
    }
}
