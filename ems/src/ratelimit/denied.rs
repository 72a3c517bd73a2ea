//! Budgets that were found used up, so that nobody is asked about them again in the same window: those of limits that only
//! count as well, so that what they would have refused is counted all the same.
//!
//! What was used is remembered, not that a request was refused: when the limit is raised meanwhile, the budget is asked for
//! again. A bounded cache: what it has no room for is asked for again, too.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Claim, State, Verdict,
    digest::{Digest, Digester},
    window::Window,
};

const SHARDS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Denied {
    shards: Vec<Mutex<HashMap<Digest, Window>>>,
    digester: Digester,
    /// Most keys of one shard.
    room: usize,
}

impl Denied {
    /// With room for about so many keys.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            digester: Digester::default(),
            room: keys.div_ceil(SHARDS),
        }
    }

    /// What was used of a budget, as far as that is known and counts.
    #[must_use]
    pub fn get(&self, key: &str, now: u64) -> Option<Window> {
        let digest = self.digester.digest(key);
        let shard = self.shard(digest)?;
        shard.get(&digest).copied().filter(|w| !w.is_over(now))
    }

    /// Whether a request is refused by what is known, so that nothing has to be asked for. What is known goes into its
    /// claims, whose keys these are; if it does not suffice, nothing does.
    #[must_use]
    pub fn refuse(&self, keys: &[String], claims: &mut [Claim<'_>], hits: u64, now: u64) -> bool {
        for (key, claim) in keys.iter().zip(claims.iter_mut()) {
            claim.state = self.get(key, now).map_or(State::Unknown, State::Known);
        }
        let known = |claim: &&Claim<'_>| matches!(claim.state, State::Known(_));
        let refused = claims
            .iter()
            .filter(known)
            .any(|claim| claim.refuses(hits, now));
        for claim in claims {
            match claim.state {
                // Of the others nothing is to be said when the request is refused in any case.
                State::Unknown if refused => claim.state = State::Known(Window::default()),
                State::Known(_) if !refused => claim.state = State::Unknown,
                _ => {}
            }
        }
        refused
    }

    /// Notes which of the budgets that were asked for are used up.
    pub fn note(&self, keys: &[String], claims: &[Claim<'_>], hits: u64, now: u64) {
        for (key, claim) in keys.iter().zip(claims) {
            if let (State::Known(window), Verdict::Full(_)) =
                (claim.state, claim.verdict(hits, now))
            {
                self.put(key, window, now);
            }
        }
    }

    /// Notes a budget that is used up.
    pub fn put(&self, key: &str, window: Window, now: u64) {
        let digest = self.digester.digest(key);
        let Some(mut shard) = self.shard(digest) else {
            return;
        };
        if let Some(known) = shard.get_mut(&digest) {
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
        shard.insert(digest, window);
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

    fn shard(&self, digest: Digest) -> Option<MutexGuard<'_, HashMap<Digest, Window>>> {
        let at = usize::try_from(digest % SHARDS as Digest).ok()?;
        let shard = self.shards.get(at)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ratelimit::tests::page;

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

    /// States of claims as `used/ends`, `-` where nothing is known.
    #[test]
    fn what_is_known_suffices_or_says_nothing() {
        let page = page(
            r#"[{"per": "caller", "requests": 2, "unit": "minute", "scope": "region", "onError": "deny"},
                {"per": "service", "requests": 9, "unit": "minute", "scope": "region"},
                {"per": "service", "requests": 1, "unit": "minute", "scope": "region", "mode": "shadow"}]"#,
        );
        for (known, hits, refused, states) in [
            ("", 1, false, "- - -"),
            ("0:2", 1, true, "2/10 0/0 0/0"),
            // It was raised meanwhile, or is asked for less.
            ("0:1", 1, false, "- - -"),
            ("0:1", 2, true, "1/10 0/0 0/0"),
            // What only counts refuses nothing, and is counted where another one does.
            ("2:1", 1, false, "- - -"),
            ("0:2 2:1", 1, true, "2/10 0/0 1/10"),
            ("1:9 2:4", 1, true, "0/0 9/10 4/10"),
        ] {
            let denied = Denied::new(100);
            let keys = ["0", "1", "2"].map(str::to_owned);
            for (key, used) in known
                .split_whitespace()
                .filter_map(|one| one.split_once(':'))
            {
                denied.put(key, window(used.parse().unwrap(), 10), 0);
            }
            let claim = |(key, entry)| Claim {
                entry,
                key,
                state: State::Unknown,
            };
            let mut claims: Vec<_> = keys
                .iter()
                .map(|key| &**key)
                .zip(page.entries())
                .map(claim)
                .collect();
            assert_eq!(
                denied.refuse(&keys, &mut claims, hits, 5),
                refused,
                "{known}"
            );
            let text = claims.iter().map(|claim| match claim.state {
                State::Known(Window { used, ends }) => format!("{used}/{ends}"),
                State::Unknown => "-".to_owned(),
            });
            assert_eq!(text.collect::<Vec<_>>().join(" "), states, "{known}");
        }
    }

    #[test]
    fn what_is_used_up_is_noted() {
        let page = page(
            r#"[{"per": "caller", "requests": 2, "unit": "minute", "scope": "region"},
                {"per": "service", "requests": 3, "unit": "minute", "scope": "region", "mode": "shadow"}]"#,
        );
        let denied = Denied::new(100);
        let keys = ["a", "b"].map(str::to_owned);
        for (used, noted) in [
            (1, [None, None]),
            (2, [Some(2), None]),
            (3, [Some(3), Some(3)]),
        ] {
            let state = State::Known(window(used, 10));
            let claim = |(key, entry)| Claim { entry, key, state };
            let claims: Vec<_> = keys
                .iter()
                .map(|key| &**key)
                .zip(page.entries())
                .map(claim)
                .collect();
            denied.note(&keys, &claims, 1, 0);
            let found = ["a", "b"].map(|key| denied.get(key, 0).map(|window| window.used));
            assert_eq!(found, noted, "{used}");
        }
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
