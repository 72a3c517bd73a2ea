//! Which limits became others, for streams that each look when it is their turn.
//!
//! Pure. What came while a stream was busy with something else it finds all the same: the last ones are kept by name, and who
//! has missed more than those takes everything for changed.

use std::collections::VecDeque;

/// So many are kept by name.
const KEPT: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// How the names of the buckets begin that they concern, the last one last.
    last: VecDeque<String>,
    /// How many there were.
    count: u64,
}

/// What there was since a stream looked last: how the names of the buckets begin that it concerns, none of them contained in
/// another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Begins(Vec<String>);

impl Changes {
    /// Limits became others.
    pub(super) fn note(&mut self, begin: String) {
        if self.last.len() >= KEPT {
            self.last.pop_front();
        }
        self.last.push_back(begin);
        self.count += 1;
    }

    /// How many there were, for who comes.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What came since there were so many.
    pub(super) fn since(&self, count: u64) -> Begins {
        let new = usize::try_from(self.count.saturating_sub(count)).unwrap_or(usize::MAX);
        match self.last.len().checked_sub(new) {
            Some(known) => Begins::of(self.last.iter().skip(known).cloned()),
            // Every name begins with nothing.
            None => Begins::of([String::new()]),
        }
    }
}

impl Begins {
    /// Of those, each once.
    fn of(all: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = all.into_iter().collect();
        all.sort();
        // What begins with another one comes right behind those that do so too.
        all.dedup_by(|later, before| later.starts_with(&**before));
        Self(all)
    }

    /// One by one.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(changes: &Changes, count: u64) -> String {
        changes.since(count).iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_came_since() {
        let mut changes = Changes::default();
        assert_eq!((since(&changes, 0), changes.count()), (String::new(), 0));
        for begin in ["b;", "a;", "b;", "b;x", "c;"] {
            changes.note(begin.to_owned());
        }
        for (count, names) in [
            (0, "a; b; c;"),
            (1, "a; b; c;"),
            (3, "b;x c;"),
            (4, "c;"),
            (5, ""),
        ] {
            assert_eq!(since(&changes, count), names, "{count}");
        }
        assert_eq!(changes.count(), 5);
    }

    #[test]
    fn who_missed_too_many_takes_all_for_changed() {
        let mut changes = Changes::default();
        for at in 0..=KEPT {
            changes.note(format!("{at};"));
        }
        assert_eq!(changes.since(1).iter().count(), KEPT);
        assert_eq!(changes.since(0), Begins(vec![String::new()]));
        assert_eq!(changes.last.len(), KEPT);
    }
}
