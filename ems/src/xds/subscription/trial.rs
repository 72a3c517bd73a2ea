//! The part of a subscription that finds out which resource of a rejected response is at fault.
//!
//! Where a client's words do not say, it took nothing of the response: Envoy (1.40) applies none of the clusters beside one
//! that it cannot read. What is good has to go again, or it would be lost until it changes. So the suspects go again in
//! halves, and the halves of what is rejected, until one alone is rejected, which is never sent again. In a full list what
//! the client took before stands for the other suspects, if anything does.

use std::sync::Arc;

use super::{
    InFlight, Subscription,
    due::{Due, Why},
    plan::{Item, Plan},
    refresh::dress,
};
use crate::xds::{View, stream::State};

/// Responses that one rejection may bring: a client that rejects everything is not sent everything one by one.
const MOST: u32 = 64;

/// Names that are tried apart.
#[derive(Debug, Default)]
pub(super) struct Trials {
    /// Those that go together; the last ones go next.
    groups: Vec<Vec<Arc<str>>>,
    /// How many may still go.
    left: u32,
    /// What is in flight is one of them.
    running: bool,
}

impl Trials {
    /// One or more of the resources is at fault, and none of the removals.
    fn doubt(&mut self, mut resources: Vec<Arc<str>>, removals: Vec<Arc<str>>) {
        if !std::mem::take(&mut self.running) {
            // Another rejection than those that the last one brought.
            self.left = MOST;
        }
        let second = resources.split_off(resources.len() / 2);
        let groups = [second, resources, removals];
        self.groups
            .extend(groups.into_iter().filter(|group| !group.is_empty()));
    }

    /// How many names there are in it.
    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }

    fn next(&mut self) -> Option<Vec<Arc<str>>> {
        self.left = self.left.checked_sub(1).or_else(|| {
            self.groups.clear();
            None
        })?;
        self.groups.pop()
    }
}

impl Subscription {
    /// Has what a client took nothing of tried apart, unless it said by name what is at fault.
    pub(super) fn doubt(&mut self, rejected: &InFlight, suspects: &[Arc<str>], named: bool) {
        let (mut resources, removals): (Vec<_>, Vec<_>) = suspects
            .iter()
            .cloned()
            .partition(|name| rejected.version(name).is_some());
        if named || resources.is_empty() {
            self.trials.running = false;
            return;
        }
        if resources.len() == 1 {
            resources.clear();
        }
        self.trials.doubt(resources, removals);
    }

    /// What was in flight was taken.
    pub(super) fn trusted(&mut self) {
        self.trials.running = false;
    }

    /// What goes next to find out, if anything has to.
    pub(super) fn trial(&mut self, view: &dyn View) -> Option<Plan> {
        while !self.trials.groups.is_empty() {
            let group = self.trials.next()?;
            let (mut answers, mut changed) = (Vec::new(), Vec::new());
            for name in group {
                let entry = self.entries.get(&name);
                let gone = entry.is_none_or(|entry| entry.state == State::Absent);
                let asked = entry.is_some_and(|entry| entry.asked);
                let wanted = asked || (self.wildcard && view.covers(self.kind, &name));
                if !(wanted || self.wildcard && gone) || self.dirty.is_sure(&name) {
                    continue;
                }
                // Only then: to ask for a resource is to use it.
                let resource = wanted.then(|| view.get(self.kind, &name)).flatten();
                let resource = resource.map(|resource| dress(self.expires, resource));
                let rejected = entry.filter(|entry| entry.state == State::Rejected);
                let sent = rejected.and_then(|entry| entry.sent());
                let same = match (&resource, sent) {
                    (Some(new), Some(old)) => new.version() == old.version(),
                    (None, None) => gone,
                    _ => false,
                };
                if !same {
                    // It goes its own way.
                    changed.push(name);
                    continue;
                }
                answers.push(Item {
                    name,
                    resource,
                    due: Due {
                        why: Why::Again,
                        wave: 0,
                    },
                    refresh: false,
                });
            }
            self.mark(changed, Why::Changed, 0);
            if !answers.is_empty() {
                self.trials.running = true;
                return Some(Plan {
                    answers,
                    ..Plan::default()
                });
            }
        }
        None
    }
}
