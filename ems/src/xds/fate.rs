//! What clients said of one version of a resource, and for whom it is then.
//!
//! A version is bad once a client rejected it and none took it; one client that takes it is enough to make it good for
//! all time. Who has not answered yet does not count: a client that never answers must not decide. That is what people
//! are shown, at once.
//!
//! Whether a client that comes is sent it, if there is something else, is another question. One client that rejects may
//! be the odd one: an old program, a machine without a file. Were its word enough, nobody else would ever try the version,
//! and it would be held back for good. Were it nothing, a version that no client can use would be tried by each that comes.
//! So it takes the word of two: after one rejection the version is still for everybody but the one who said so, and
//! whoever comes next decides. That one risks little: rejecting costs it one answer more, by which it gets what was good
//! before. Once a client took it, it is for all who come, also for those who rejected it: whoever comes back may have been
//! mended. What one stream rejected it is not sent again; but that is for the stream to remember.
//!
//! Two streams of one node have one word. The state is part of the resource that all streams share, so nothing is kept per
//! client but the name of the first, and it ends with the version.
//!
//! Knows nothing of names, streams, or of what else there is to send.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire},
};

const UNTOLD: u8 = 0;
const REJECTED: u8 = 1;
const REJECTED_BY_SEVERAL: u8 = 2;
const TAKEN: u8 = 3;

/// Whose word it is: a hash of the id of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness(u64);

impl Witness {
    /// The node of this id.
    pub fn of(node_id: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(node_id.as_bytes()))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    state: AtomicU8,
    /// The first who rejected it, and its words.
    first: OnceLock<(Witness, Arc<str>)>,
}

impl Fate {
    /// A client took it. True: until now it was bad.
    pub(crate) fn take(&self) -> bool {
        // Nearly always somebody did before, and a read does not take the line from other processors.
        let before = || self.state.swap(TAKEN, AcqRel);
        self.state.load(Acquire) != TAKEN && matches!(before(), REJECTED | REJECTED_BY_SEVERAL)
    }

    /// A client rejected it. True: from now on it is bad.
    pub(crate) fn reject(&self, by: Witness, words: &Arc<str>) -> bool {
        if matches!(self.state.load(Acquire), TAKEN | REJECTED_BY_SEVERAL) {
            return false;
        }
        let (first, _) = self.first.get_or_init(|| (by, words.clone()));
        if self.moves(UNTOLD, REJECTED) {
            return true;
        }
        if *first != by {
            self.moves(REJECTED, REJECTED_BY_SEVERAL);
        }
        false
    }

    fn moves(&self, from: u8, to: u8) -> bool {
        let moved = self.state.compare_exchange(from, to, AcqRel, Acquire);
        moved.is_ok()
    }

    /// Whether somebody took it.
    pub(crate) fn is_taken(&self) -> bool {
        self.state.load(Acquire) == TAKEN
    }

    /// What was said of it, if it is bad.
    pub(crate) fn bad(&self) -> Option<&Arc<str>> {
        let bad = matches!(self.state.load(Acquire), REJECTED | REJECTED_BY_SEVERAL);
        self.first.get().filter(|_| bad).map(|(_, words)| words)
    }

    /// Whether it is for a client that comes, where something else was taken before.
    pub(crate) fn is_for(&self, who: Witness) -> bool {
        match self.state.load(Acquire) {
            REJECTED => self.first.get().is_some_and(|(first, _)| *first != who),
            state => state != REJECTED_BY_SEVERAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+`: somebody takes it; a letter: the node of this name rejects it with that word. After each: `b` when it became
    /// bad, `g` when it became good again, `.` when nothing changed; at the end what is said of it, if it is bad, and
    /// whether it is for the nodes `x` and `n`, the latter a new one.
    #[test]
    fn verdicts_and_what_follows() {
        for (verdicts, changes, bad, for_x, for_n) in [
            ("", "", None, true, true),
            ("+", ".", None, true, true),
            ("x", "b", Some("x"), false, true),
            ("xxx", "b..", Some("x"), false, true),
            ("xy", "b.", Some("x"), false, false),
            ("yxz", "b..", Some("y"), false, false),
            ("x+", "bg", None, true, true),
            ("x+y", "bg.", None, true, true),
            ("xy+", "b.g", None, true, true),
            ("y+x", "bg.", None, true, true),
            ("+x", "..", None, true, true),
            ("++x+", "....", None, true, true),
            ("xy+z+", "b.g..", None, true, true),
        ] {
            let fate = Fate::default();
            let found: String = verdicts
                .chars()
                .map(|verdict| {
                    let word = verdict.to_string();
                    match verdict {
                        '+' if fate.take() => 'g',
                        '+' => '.',
                        _ if fate.reject(Witness::of(&word), &word.clone().into()) => 'b',
                        _ => '.',
                    }
                })
                .collect();
            assert_eq!(found, changes, "{verdicts}");
            assert_eq!(fate.bad().map(|words| &**words), bad, "{verdicts}");
            assert_eq!(fate.is_taken(), verdicts.contains('+'), "{verdicts}");
            let is_for = ["x", "n"].map(|node| fate.is_for(Witness::of(node)));
            assert_eq!(is_for, [for_x, for_n], "{verdicts}");
        }
    }
}
