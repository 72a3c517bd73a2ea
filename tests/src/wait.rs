//! Waiting is polling with a deadline: never a sleep that hopes to be long enough.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

/// How long things may take on a busy machine. A success never waits for it.
pub const DEADLINE: Duration = Duration::from_secs(30);

const INTERVAL: Duration = Duration::from_millis(20);

/// What one look at the world can say: done (with a value), or not yet (with a reason).
pub trait Look {
    /// What is found in the end.
    type Found;
    /// The finding, or why there is none yet.
    fn found(self) -> Result<Self::Found>;
}

impl Look for bool {
    type Found = ();
    fn found(self) -> Result<()> {
        self.then_some(()).ok_or_else(|| anyhow!("not yet so"))
    }
}

impl<T> Look for Option<T> {
    type Found = T;
    fn found(self) -> Result<T> {
        self.ok_or_else(|| anyhow!("nothing there yet"))
    }
}

impl<T> Look for Result<T> {
    type Found = T;
    fn found(self) -> Result<T> {
        self
    }
}

/// Looks until there is a finding; after [`DEADLINE`], an error says what was waited for and what the last look saw.
pub fn eventually<L: Look>(what: &str, look: impl FnMut() -> L) -> Result<L::Found> {
    within(DEADLINE, what, look)
}

/// [`eventually`] with a limit of its own.
pub fn within<L: Look>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> L,
) -> Result<L::Found> {
    let begin = Instant::now();
    loop {
        match look().found() {
            Ok(found) => return Ok(found),
            Err(last) if begin.elapsed() >= limit => {
                return Err(last.context(format!("waited {limit:?} for: {what}")));
            }
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}
