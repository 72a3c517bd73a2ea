//! Names that have to be looked at, sorted, with the reason for each.

use std::sync::Arc;

/// Why a name is looked at, and since which wave of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) why: Why,
    pub(super) wave: u64,
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
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a name is to be sent in any case.
    pub(super) fn is_sure(&self, name: &str) -> bool {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(name));
        let due = at.ok().and_then(|at| self.0.get(at));
        due.is_some_and(|(_, due)| due.why > Why::Changed)
    }

    /// The oldest wave among them.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.iter().map(|(_, due)| due.wave).min()
    }

    /// Adds names. One that is there already keeps the stronger reason and the older wave.
    pub(super) fn add(&mut self, names: impl IntoIterator<Item = (Arc<str>, Due)>) {
        self.0.extend(names);
        // Sorted already, or two sorted runs, most often, which this sort merges.
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.0.dedup_by(|(name, due), (kept, known)| {
            let same = name == kept;
            if same {
                known.why = known.why.max(due.why);
                known.wave = known.wave.min(due.wave);
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

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Arc<str>, Due) -> bool) {
        self.0.retain(|(name, due)| keep(name, *due));
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
        let due = |why, wave| Due { why, wave };
        let mut dues = Dues::default();
        dues.add([
            ("b".into(), due(Why::Changed, 3)),
            ("d".into(), due(Why::Asked, 3)),
        ]);
        dues.add([("a".into(), due(Why::Again, 4))]);
        dues.add([
            ("d".into(), due(Why::Changed, 2)),
            ("b".into(), due(Why::Again, 5)),
        ]);
        assert_eq!((dues.len(), dues.oldest()), (3, Some(2)));
        dues.retain(|name, _| &**name != "a");
        assert_eq!(
            dues.take(),
            [
                ("b".into(), due(Why::Again, 3)),
                ("d".into(), due(Why::Asked, 2))
            ]
        );
        assert!(dues.is_empty());
    }
}
