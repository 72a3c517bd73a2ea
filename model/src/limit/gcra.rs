//! The arithmetic of one limit: the generic cell rate algorithm, whose whole state is one number, the theoretical arrival
//! time (TAT): when the budget will be full again.
//!
//! A request moves that time on by the interval between two requests, and passes if it is then no further away than the
//! whole burst takes. So the budget refills evenly, not in steps, and in any window of time no more pass than the burst
//! and what the window refills. All times are nanoseconds of one clock that never goes back; zero is a full budget.

/// How much passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two requests. Rounded up, so that never more pass than was said.
    interval: u64,
    /// From an empty budget to a full one.
    window: u64,
}

/// A request that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Until one would pass.
    pub wait: u64,
    /// What the state should be, where it is further away than this rate ever puts it: it was written under another rate,
    /// and would keep a limit closed that was opened wider.
    pub mend: Option<u64>,
}

impl Rate {
    /// The longest that a budget may take to refill.
    pub const LONGEST: u64 = 366 * 24 * 3600 * 1_000_000_000;

    /// So many requests in so many nanoseconds, and so many at once. `None`: one of them is zero, or the burst takes longer
    /// than [`Self::LONGEST`] to refill.
    #[must_use]
    pub fn new(requests: u32, nanoseconds: u64, burst: u32) -> Option<Self> {
        if requests == 0 || nanoseconds == 0 || burst == 0 {
            return None;
        }
        let interval = nanoseconds.div_ceil(u64::from(requests));
        let window = interval.checked_mul(u64::from(burst))?;
        (window <= Self::LONGEST).then_some(Self { interval, window })
    }

    /// The state after one more request.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn take(self, tat: u64, now: u64) -> Result<u64, Wait> {
        let owed = tat.saturating_sub(now);
        // Both are at most a year; what is owed is cut to that.
        let after = owed.min(self.window) + self.interval;
        if after <= self.window {
            return Ok(now.saturating_add(after));
        }
        Err(Wait {
            wait: after - self.window,
            mend: (owed > self.window).then(|| now.saturating_add(self.window)),
        })
    }

    /// The state without one request that was taken and not made.
    #[must_use]
    pub fn give_back(self, tat: u64) -> u64 {
        tat.saturating_sub(self.interval)
    }

    /// Nanoseconds between two requests, in the long run.
    #[must_use]
    pub fn interval(self) -> u64 {
        self.interval
    }

    /// Whether everything that passes `self` passes `other` too.
    #[must_use]
    pub fn is_within(self, other: Self) -> bool {
        let burst = |rate: Self| rate.window / rate.interval;
        self.interval >= other.interval && burst(self) <= burst(other)
    }
}

#[cfg(test)]
mod tests;
