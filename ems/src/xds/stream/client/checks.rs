//! What must be true of a stream at any time, and in the end.

use std::collections::BTreeMap;

use super::{BACKLOG, Client, KINDS, Known, Mode, ResourceType, TTL, View, With};

impl Client {
    /// What a stream remembers is bounded by what there is and what was asked for.
    pub(super) fn check_notes(&self) {
        let known = || self.known.iter().zip(KINDS);
        // There is nothing that anything could wait for: neither an answer, nor something to be mended.
        let quiet = |known: &Known| {
            known.open.is_none() && known.refused.is_empty() && known.clings.is_empty()
        };
        let quiet = self.known.iter().all(quiet);
        let all: usize = known()
            .map(|(known, kind)| {
                let told = if quiet { 0 } else { known.sent.len() };
                let open = known.open.as_ref();
                let open = open.map_or(0, |sent| sent.resources.len() + sent.removed.len());
                let open = open + known.gone.len();
                // What is in no list any more because it was rejected; gone, it is kept until it is looked at.
                let refused = if quiet {
                    0
                } else {
                    known.refused.len() + known.clings.len()
                };
                let names = known.names.len() + self.memory.wildcard(kind).len();
                // Of each: what was sent, what was said to that, what was taken before, and when it expires.
                4 * (names + told + refused + open) + open
            })
            .sum();
        let backlog = self.stream.backlog();
        // What is gone is kept until it is looked at.
        let all = all + 4 * backlog;
        let kept = self.stream.kept();
        assert!(kept <= all, "{kept} notes, at most {all}");
        let most = known().map(|(known, _)| BACKLOG + 2 * (known.names.len() + known.sent.len()));
        let most = if quiet { 0 } else { most.sum() };
        assert!(
            backlog <= most,
            "{backlog} names to look at, at most {most}"
        );
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            if self.known.iter().all(|known| known.open.is_none()) {
                return;
            }
            for at in 0..KINDS.len() {
                self.answer(at, With::Ack);
            }
        }
        panic!("responses without end");
    }

    /// What the client should have: what it subscribed to and what exists.
    fn expected(&self, at: usize) -> BTreeMap<String, String> {
        let known = &self.known[at];
        let exists = self.memory.wildcard(KINDS[at]);
        exists
            .iter()
            .filter(|name| known.asked && (known.wildcard || known.names.contains(&***name)))
            .map(|name| {
                let resource = self.memory.get(KINDS[at], name).unwrap();
                (name.to_string(), resource.version().to_string())
            })
            .collect()
    }

    pub(super) fn finish(&mut self) {
        self.held = 0;
        self.flush();
        self.settle();
        // However long it waits, nothing is lost that has a TTL.
        for _ in 0..4 {
            self.wait(TTL / 2);
            self.settle();
        }
        // What is gone stays where the client may point at it by something older than what it rejected.
        let withheld = KINDS.map(|kind| {
            let mut users = self.known.iter().zip(KINDS);
            users.any(|(known, user)| {
                let points = user != ResourceType::Endpoints && kind.outlives(user);
                let behind = !known.refused.is_disjoint(&known.behind);
                points && (behind || !known.clings.is_empty())
            })
        });
        for (at, kind) in KINDS.into_iter().enumerate() {
            let mut expected = self.expected(at);
            let partial = self.mode == Mode::Sotw && !self.is_full(kind);
            let known = &mut self.known[at];
            if partial {
                // Removals cannot be said.
                known.has.retain(|name, _| expected.contains_key(name));
            }
            for name in known.refused.intersection(&known.keeps) {
                if let (Some(took), true) = (known.took.get(name), expected.contains_key(name)) {
                    assert_eq!(known.has.get(name), Some(took), "{kind}: {name} was kept");
                }
            }
            for name in &known.refused {
                expected.remove(name);
                known.has.remove(name);
            }
            let there = |name: &String| expected.contains_key(name);
            let unknown = std::mem::take(&mut known.unknown);
            known
                .has
                .retain(|name, _| there(name) || !unknown.contains(name));
            // What was written again since it has taken, or not.
            for name in known
                .clings
                .iter()
                .filter(|name| !expected.contains_key(*name))
            {
                known.has.remove(name);
            }
            if withheld[at] {
                known.has.retain(|name, _| expected.contains_key(name));
            }
            assert_eq!(known.has, expected, "{kind}");
        }
    }
}
