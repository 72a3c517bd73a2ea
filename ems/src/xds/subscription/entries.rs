//! What one client was told of one type: a table sorted by name.
//!
//! Ten thousand streams of a thousand names each have ten million rows, so a row is two words, and everything in it that
//! is longer is shared with all other streams. Sorted, because changes come sorted as well: a table and a list of changes
//! are walked together, whether the list is long or short.

use std::sync::Arc;

use crate::xds::{Resource, stream::State};

/// Every name that the client asked for or was sent.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<Entry>);

/// What is known of one name.
#[derive(Debug)]
pub(super) struct Entry {
    /// What was sent last; while there is no such thing, a bare name.
    resource: Arc<Resource>,
    sent: bool,
    /// The client uses this version of it or one before.
    has: bool,
    /// While it has not answered: it uses what was sent last all the same.
    untaken: bool,
    /// Likewise: what was sent last came with something that it rejected by name, and is yet to be tried.
    doubted: bool,
    pub(super) asked: bool,
    pub(super) state: State,
}

impl Entry {
    /// Of a name of which the client knows nothing.
    pub(super) fn named(name: Arc<str>) -> Self {
        Self {
            resource: Arc::new(Resource::remembered(name, Arc::default())),
            sent: false,
            has: false,
            untaken: false,
            doubted: false,
            asked: false,
            state: State::Waiting,
        }
    }

    /// Of a resource that the client has.
    pub(super) fn of(resource: Arc<Resource>, state: State) -> Self {
        Self {
            resource,
            sent: true,
            has: state == State::Acked,
            untaken: false,
            doubted: false,
            asked: false,
            state,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        self.resource.name()
    }

    /// What was sent last. Changes are compared with this and not with what was acknowledged, so that a rejected
    /// resource is not sent again and again.
    pub(super) fn sent(&self) -> Option<&Arc<Resource>> {
        self.sent.then_some(&self.resource)
    }

    /// Notes a resource as sent. From here on its name is the one that all streams share.
    pub(super) fn send(&mut self, resource: Arc<Resource>) {
        self.resource = resource;
        self.sent = true;
        self.untaken = false;
        self.doubted = false;
        self.state = State::Sent;
    }

    /// Notes that there is no such thing. Until the client takes that, it goes on with what it has.
    pub(super) fn withdraw(&mut self) {
        if self.sent {
            self.resource = Arc::new(Resource::remembered(self.name().clone(), Arc::default()));
        }
        self.sent = false;
        self.state = State::Absent;
    }

    /// Whether the client uses it without having said that it took it. Of what is answered.
    pub(super) fn is_used_untaken(&self) -> bool {
        self.state == State::Sent && self.untaken
    }

    /// Whether the client uses what was sent last.
    pub(super) fn is_used(&self) -> bool {
        self.state == State::Acked || self.is_used_untaken()
    }

    /// Notes that nobody knows whether the client took what was sent.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// What a full list says of it, that is of what was sent or, where the client did not take that, of what it took before.
    pub(super) fn listed<'a>(
        &'a self,
        before: Option<&'a Arc<Resource>>,
    ) -> Option<&'a Arc<Resource>> {
        match self.state {
            State::Rejected => before,
            State::Sent if self.doubted => before,
            _ => self.sent(),
        }
    }

    /// Whether the client uses some version of it.
    pub(super) fn has(&self) -> bool {
        self.has
    }

    /// Notes that the client uses nothing of it any more.
    pub(super) fn lose(&mut self) {
        self.has = false;
    }

    /// Whether the client goes on with an older version of what was sent or withdrawn.
    pub(super) fn is_behind(&self) -> bool {
        self.has && matches!(self.state, State::Rejected | State::Absent)
    }

    /// Whether the client uses it, or may, although there is no such thing any more.
    pub(super) fn is_still_there(&self) -> bool {
        self.has && self.state == State::Absent
    }

    /// Notes that the client took what was sent.
    pub(super) fn take(&mut self) {
        self.has = true;
        self.state = State::Acked;
    }

    /// Notes that the client uses what was sent, although it did not say that it took it.
    pub(super) fn use_untaken(&mut self) {
        self.has = true;
        self.untaken = true;
    }

    /// Notes that the client rejected what was sent. True: it has nothing else.
    pub(super) fn reject(&mut self) -> bool {
        self.state = State::Rejected;
        !self.has
    }
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        let at = self.find(name).ok()?;
        self.0.get(at)
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Entry> {
        self.0.iter_mut()
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        let at = self.find(name).ok()?;
        self.0.get_mut(at)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| (**entry.name()).cmp(name))
    }

    /// Begins a walk by ascending names.
    pub(super) fn walk(&mut self) -> Walk<'_> {
        Walk { rest: &mut self.0 }
    }

    /// Adds entries of names that are not there; they need not be sorted.
    pub(super) fn add(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let before = self.0.len();
        self.0.extend(entries);
        let added = self.0.len() - before;
        match (added, self.0.pop()) {
            (1, Some(one)) => {
                let at = self.find(one.name()).unwrap_or_else(|at| at);
                self.0.insert(at, one);
            }
            (_, Some(last)) => {
                self.0.push(last);
                if added > 0 {
                    // Two sorted runs, most often, which this sort merges.
                    self.0.sort_by(|a, b| a.name().cmp(b.name()));
                }
            }
            (_, None) => {}
        }
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.0.retain(keep);
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to_fit();
        }
    }
}

/// What is left of a table for a walk through it.
pub(super) struct Walk<'a> {
    rest: &'a mut [Entry],
}

impl<'a> Walk<'a> {
    /// The entry of this name, which is greater than all that were asked for before. Costs by how far away it is, so that
    /// one name in a large table is found as fast as many in a small one.
    pub(super) fn to(&mut self, name: &Arc<str>) -> Option<&'a mut Entry> {
        let rest = std::mem::take(&mut self.rest);
        let at = position(rest, name);
        let (Ok(skip) | Err(skip)) = at;
        let (_, from) = rest.split_at_mut_checked(skip)?;
        if at.is_err() {
            self.rest = from;
            return None;
        }
        let (found, after) = from.split_first_mut()?;
        self.rest = after;
        Some(found)
    }
}

/// Where a name is, or would be.
fn position(rest: &[Entry], name: &Arc<str>) -> Result<usize, usize> {
    // A list of everything meets what it looks for at each step, and it is the very same name.
    if rest.first().is_some_and(|e| Arc::ptr_eq(e.name(), name)) {
        return Ok(0);
    }
    let mut end = 1;
    while rest.get(end).is_some_and(|entry| entry.name() < name) {
        end *= 2;
    }
    let start = end / 2;
    let end = rest.len().min(end + 1);
    let part = rest.get(start..end).unwrap_or_default();
    match part.binary_search_by(|entry| entry.name().cmp(name)) {
        Ok(at) => Ok(start + at),
        Err(at) => Err(start + at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::ResourceType;

    #[test]
    fn a_row_is_two_words() {
        assert_eq!(size_of::<Entry>(), 2 * size_of::<usize>());
    }

    fn table(names: &[&str]) -> Entries {
        let mut entries = Entries::default();
        entries.add(names.iter().map(|name| Entry::named(Arc::from(*name))));
        entries
    }

    fn names(entries: &Entries) -> String {
        let names: Vec<_> = entries.iter().map(|e| &**e.name()).collect();
        names.join(" ")
    }

    #[test]
    fn stays_sorted() {
        let mut entries = table(&["d", "b"]);
        entries.add([Entry::named("c".into())]);
        entries.add([Entry::named("a".into())]);
        entries.add([]);
        entries.add(["f", "e"].map(|name| Entry::named(name.into())));
        assert_eq!(names(&entries), "a b c d e f");
        entries.retain(|entry| !matches!(&**entry.name(), "c" | "f"));
        assert_eq!(names(&entries), "a b d e");
        assert_eq!(table(&[]).len(), 0);
    }

    /// Every list of names finds in a walk what it finds one by one.
    #[test]
    fn walks() {
        let all: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
        let mut entries = Entries::default();
        entries.add(
            all.iter()
                .step_by(2)
                .map(|name| Entry::named(name.as_str().into())),
        );
        for step in 1..20 {
            for start in 0..all.len() {
                let list = all.iter().skip(start).step_by(step);
                let found: Vec<bool> = {
                    let mut walk = entries.walk();
                    list.clone()
                        .map(|name| {
                            let name: Arc<str> = name.as_str().into();
                            walk.to(&name).is_some_and(|entry| *entry.name() == name)
                        })
                        .collect()
                };
                let expected: Vec<bool> = list.map(|name| entries.get(name).is_some()).collect();
                assert_eq!(found, expected, "from {start} by {step}");
            }
        }
    }

    #[test]
    fn what_is_withdrawn_gives_its_bytes_back() {
        let resource = Arc::new(Resource::new(ResourceType::Cluster, "a", b"content"));
        let mut entry = Entry::of(resource.clone(), State::Acked);
        assert_eq!(entry.sent(), Some(&resource));
        entry.withdraw();
        assert_eq!(entry.sent(), None);
        assert_eq!(&**entry.name(), "a");
        assert_eq!(Arc::strong_count(&resource), 1);
    }
}
