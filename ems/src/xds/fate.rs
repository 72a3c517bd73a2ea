//! What clients said of one version of a resource.
//!
//! A version is bad once somebody rejected it and nobody took it; one client that takes it is enough to make it good for
//! all time. Who has not answered yet does not count: a client that never answers must not decide. The state is part of
//! the resource that all streams share, so nothing is kept per client, and it ends with the version.
//!
//! Knows nothing of names, streams, or of what follows from it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire},
};

const UNTOLD: u8 = 0;
const REJECTED: u8 = 1;
const TAKEN: u8 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    state: AtomicU8,
    /// Of the first who rejected it.
    words: OnceLock<Arc<str>>,
}

impl Fate {
    /// A client took it. True: until now it was bad.
    pub(crate) fn take(&self) -> bool {
        // Nearly always somebody did before, and a read does not take the line from other processors.
        self.state.load(Acquire) != TAKEN && self.state.swap(TAKEN, AcqRel) == REJECTED
    }

    /// A client rejected it. True: from now on it is bad.
    pub(crate) fn reject(&self, words: &Arc<str>) -> bool {
        if self.state.load(Acquire) != UNTOLD {
            return false;
        }
        self.words.get_or_init(|| words.clone());
        let moved = self
            .state
            .compare_exchange(UNTOLD, REJECTED, AcqRel, Acquire);
        moved.is_ok()
    }

    /// Whether somebody took it.
    pub(crate) fn is_taken(&self) -> bool {
        self.state.load(Acquire) == TAKEN
    }

    /// What was said of it, if it is bad.
    pub(crate) fn bad(&self) -> Option<&Arc<str>> {
        self.words
            .get()
            .filter(|_| self.state.load(Acquire) == REJECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+`: somebody takes it; a letter: somebody rejects it with that word. After each: `b` when it became bad, `g`
    /// when it became good again, `.` when nothing changed; at the end what is said of it, if it is bad.
    #[test]
    fn verdicts_and_what_follows() {
        for (verdicts, changes, bad) in [
            ("", "", None),
            ("+", ".", None),
            ("x", "b", Some("x")),
            ("xy", "b.", Some("x")),
            ("x+", "bg", None),
            ("x+y", "bg.", None),
            ("+x", "..", None),
            ("++x+", "....", None),
            ("xy+z+", "b.g..", None),
        ] {
            let fate = Fate::default();
            let found: String = verdicts
                .chars()
                .map(|verdict| match verdict {
                    '+' if fate.take() => 'g',
                    '+' => '.',
                    word if fate.reject(&word.to_string().into()) => 'b',
                    _ => '.',
                })
                .collect();
            assert_eq!(found, changes, "{verdicts}");
            assert_eq!(fate.bad().map(|words| &**words), bad, "{verdicts}");
            assert_eq!(fate.is_taken(), verdicts.contains('+'), "{verdicts}");
        }
    }
}
