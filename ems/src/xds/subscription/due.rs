//! Names that have to be looked at, sorted, with the reason for each.

use std::sync::Arc;

use super::Waves;

/// Why a name is looked at, and by which waves of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) why: Why,
    pub(super) waves: Waves,
    /// The client asked when this wave was the last, so what comes with it or later may point at it. The greatest: it did
    /// not ask.
    pub(super) asked_since: u64,
    /// It was found to be gone, and waits until nothing points at it any more. It is looked at again only once there is news
    /// of it, with which it is no longer known to be gone.
    pub(super) gone: bool,
}

impl Due {
    pub(super) fn new(why: Why, waves: Waves) -> Self {
        Self {
            why,
            waves,
            asked_since: u64::MAX,
            gone: false,
        }
    }

    /// The client asks, when there was this wave last.
    pub(super) fn asked(wave: u64) -> Self {
        Self {
            asked_since: wave,
            ..Self::new(Why::Asked, Waves::NONE)
        }
    }
}

/// Why a name is looked at; the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It may differ from what was sent.
    Changed,
    /// It is to be sent also if it does not differ.
    Again,
    /// The client asked: it is to be answered, and at once.
    Asked,
}

/// Names with their reasons, each once.
#[derive(Debug, Default)]
pub(super) struct Dues(Vec<(Arc<str>, Due)>);

impl Dues {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a name is to be answered in any case.
    pub(super) fn is_asked(&self, name: &str) -> bool {
        let due = self.find(name).and_then(|at| self.0.get(at));
        due.is_some_and(|(_, due)| due.why == Why::Asked)
    }

    /// Adds waves to those of a name, and leaves all else of it as it is. False: it is not there.
    pub(super) fn widen(&mut self, name: &str, waves: Waves) -> bool {
        let due = self.find(name).and_then(|at| self.0.get_mut(at));
        due.is_some_and(|(_, due)| {
            due.waves = due.waves.and(waves);
            true
        })
    }

    fn find(&self, name: &str) -> Option<usize> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(name));
        at.ok()
    }

    /// All their waves.
    pub(super) fn waves(&self) -> Waves {
        let waves = self.0.iter().map(|(_, due)| due.waves);
        waves.fold(Waves::NONE, Waves::and)
    }

    /// The first wave of what others may point at: of what is not known to be gone.
    pub(super) fn first_present(&self) -> u64 {
        let present = self.0.iter().filter(|(_, due)| !due.gone);
        let first = present.map(|(_, due)| due.waves.first.min(due.asked_since));
        let first = first.min();
        first.unwrap_or(u64::MAX)
    }

    /// Adds names. One that is there already keeps the stronger reason and the waves of both.
    pub(super) fn add(&mut self, names: impl IntoIterator<Item = (Arc<str>, Due)>) {
        let before = self.0.len();
        self.0.extend(names);
        if self.0.len() == before {
            return;
        }
        // Sorted already, or two sorted runs, most often, which this sort merges.
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.0.dedup_by(|(name, due), (kept, known)| {
            let same = name == kept;
            if same {
                known.why = known.why.max(due.why);
                known.waves = known.waves.and(due.waves);
                known.asked_since = known.asked_since.min(due.asked_since);
                known.gone &= due.gone;
            }
            same
        });
    }

    /// The same for names that are sorted, each once, as they are most often: without a look at each.
    pub(super) fn add_sorted(&mut self, names: impl IntoIterator<Item = (Arc<str>, Due)>) {
        if self.0.is_empty() {
            self.0.extend(names);
        } else {
            self.add(names);
        }
    }

    /// How many are known to be gone.
    pub(super) fn gone(&self) -> usize {
        self.0.iter().filter(|(_, due)| due.gone).count()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Arc<str>, Due) -> bool) {
        self.0.retain(|(name, due)| keep(name, *due));
    }

    /// Those that the client asked for, sorted; the others are left.
    pub(super) fn take_asked(&mut self) -> Vec<(Arc<str>, Due)> {
        let asked = self.0.extract_if(.., |(_, due)| due.why == Why::Asked);
        asked.collect()
    }

    /// All of them, sorted; none is left.
    pub(super) fn take(&mut self) -> Vec<(Arc<str>, Due)> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_once() {
        let due = |why, wave| Due::new(why, Waves::of(wave));
        let gone = |wave| Due {
            gone: true,
            ..due(Why::Changed, wave)
        };
        let mut dues = Dues::default();
        dues.add([
            ("b".into(), due(Why::Changed, 3)),
            ("d".into(), due(Why::Asked, 3)),
            ("e".into(), gone(1)),
            ("f".into(), gone(2)),
        ]);
        dues.add([("a".into(), due(Why::Again, 4))]);
        dues.add([
            ("d".into(), due(Why::Changed, 2)),
            ("b".into(), due(Why::Again, 5)),
            ("f".into(), due(Why::Changed, 6)),
        ]);
        assert_eq!((dues.len(), dues.gone()), (5, 1));
        assert!(dues.widen("e", Waves::NONE) && !dues.widen("c", Waves::NONE));
        assert_eq!(dues.waves(), Waves { first: 1, last: 6 });
        assert_eq!(dues.first_present(), 2, "f came back");
        assert_eq!(dues.take_asked().len(), 1);
        assert_eq!((dues.take_asked().len(), dues.len()), (0, 4));
        dues.add([(
            "d".into(),
            Due {
                why: Why::Asked,
                ..due(Why::Asked, 2)
            },
        )]);
        dues.add([("d".into(), due(Why::Changed, 3))]);
        dues.retain(|name, _| &**name != "a");
        let both = |why, first, last| Due::new(why, Waves { first, last });
        assert_eq!(
            dues.take(),
            [
                ("b".into(), both(Why::Again, 3, 5)),
                ("d".into(), both(Why::Asked, 2, 3)),
                ("e".into(), gone(1)),
                ("f".into(), both(Why::Changed, 2, 6)),
            ]
        );
        assert_eq!(dues.len(), 0);
        assert_eq!(
            (dues.waves(), dues.first_present()),
            (Waves::NONE, u64::MAX)
        );
    }
}
