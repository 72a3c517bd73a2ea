//! Fixed windows: a budget is full when its first request comes, and full again one unit of time later.
//!
//! One number and a time, which several EMS can share in a Redis. At the border of two windows twice as much may pass at
//! once; what passes in a window is exact. Times are milliseconds of the store's own clock.

/// What was used of a budget, and until when that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Requests that passed.
    pub used: u64,
    /// When it ends.
    pub ends: u64,
}

impl Window {
    /// How long so many requests have to wait; `None`: they fit.
    #[must_use]
    pub fn wait(&self, hits: u64, requests: u64, now: u64) -> Option<u64> {
        let used = if self.is_over(now) { 0 } else { self.used };
        (used.saturating_add(hits) > requests).then(|| self.ends.saturating_sub(now))
    }

    /// Charges requests; after its end another window begins with them.
    pub fn charge(&mut self, hits: u64, length: u64, now: u64) {
        if self.is_over(now) {
            *self = Self {
                used: 0,
                ends: now.saturating_add(length),
            };
        }
        self.used = self.used.saturating_add(hits);
    }

    /// Whether it counts no longer.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        self.ends <= now
    }
}
