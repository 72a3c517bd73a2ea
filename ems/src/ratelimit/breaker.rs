//! A circuit breaker: while somebody does not answer, nobody waits for them.
//!
//! ```text
//! closed ──failures in a row──> open ──after a pause──> one call is let out ──it succeeds──> closed
//!                                 ^──────────────────────────it fails
//! ```
//!
//! Time is an argument, in milliseconds of any clock that does not go back. (The crates that there are for this ask the
//! clock themselves.)

/// After so many failures in a row it opens.
pub const FAILURES: u32 = 5;

/// So long it lets nothing out.
pub const PAUSE: u64 = 1_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Failures since the last success.
    Closed { failures: u32 },
    /// At that time one call is let out.
    Open { until: u64 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Whether a call may be made now. Where it is the one that finds out, others wait for what becomes of it, but no longer
    /// than a pause: nobody may ever say.
    pub fn lets_out(&mut self, now: u64) -> bool {
        match &mut self.0 {
            State::Closed { .. } => true,
            State::Open { until } if *until <= now => {
                *until = now.saturating_add(PAUSE);
                true
            }
            State::Open { .. } => false,
        }
    }

    /// A call succeeded; `true`: that closed it.
    pub fn succeeded(&mut self) -> bool {
        let before = std::mem::take(&mut self.0);
        matches!(before, State::Open { .. })
    }

    /// A call failed; `true`: that opened it.
    pub fn failed(&mut self, now: u64) -> bool {
        let State::Closed { failures } = &mut self.0 else {
            // The one that was to find out, or one that was made before it opened: the pause has begun.
            return false;
        };
        *failures += 1;
        if *failures < FAILURES {
            return false;
        }
        self.0 = State::Open {
            until: now.saturating_add(PAUSE),
        };
        true
    }

    /// Whether it holds calls back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.0, State::Open { .. })
    }
}

#[cfg(test)]
mod tests;
