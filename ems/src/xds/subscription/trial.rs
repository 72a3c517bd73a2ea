//! The part of a subscription that finds out which resource of a rejected response is at fault.
//!
//! Where a client's words do not say, it took nothing of the response: Envoy (1.40) applies none of the clusters beside one
//! that it cannot read. What is good has to go again, or it would be lost until it changes. So the suspects go again in
//! halves, and the halves of what is rejected, until one alone is rejected, which is never sent again. In a full list what
//! the client took before stands for the other suspects, if anything does.

use std::{collections::HashSet, sync::Arc};

use super::{
    InFlight, Subscription,
    due::{Due, Waves, Why},
    plan::{Item, Plan},
    refresh::dress,
};
use crate::xds::{Resource, View, stream::State};

/// Responses that one rejection may bring: a client that rejects everything is not sent everything one by one.
const MOST: u32 = 64;

/// Names that are tried apart.
#[derive(Debug)]
pub(super) struct Trials {
    /// Those that go together; the last ones go next.
    groups: Vec<Group>,
    /// What was rejected had changes of these: until all of it was tried, the client may not have them.
    waves: Waves,
    /// How many may still go.
    left: u32,
    /// What is in flight is one of them.
    running: bool,
}

/// Names that go together.
type Group = Vec<(Arc<str>, Tried)>;

/// What goes of a name.
#[derive(Clone, Debug)]
enum Tried {
    /// This version, which may be at fault.
    Version(Arc<str>),
    /// That it is gone, of which the client did not take note.
    Removal,
}

impl Default for Trials {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            waves: Waves::NONE,
            left: 0,
            running: false,
        }
    }
}

impl Trials {
    /// One or more of the resources is at fault, and none of the removals.
    fn doubt(&mut self, mut resources: Group, removals: Group, waves: Waves) {
        if self.groups.is_empty() {
            self.waves = Waves::NONE;
        }
        self.waves = self.waves.and(waves);
        if !std::mem::take(&mut self.running) {
            // Another rejection than those that the last one brought.
            self.left = MOST;
        }
        let second = resources.split_off(resources.len() / 2);
        let groups = [second, resources, removals];
        let groups = groups.into_iter().filter(|group| !group.is_empty());
        self.groups.extend(groups);
    }

    /// What was said of these names is said anew: a name is tried in one group only.
    fn forget(&mut self, names: &[Arc<str>]) {
        let names: HashSet<_> = names.iter().collect();
        for group in &mut self.groups {
            group.retain(|(name, _)| !names.contains(name));
        }
        self.groups.retain(|group| !group.is_empty());
    }

    /// How many names there are in it.
    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }
}

/// What becomes of a name that is to be tried.
enum Standing {
    /// It goes as it was sent.
    Same(Option<Arc<Resource>>),
    /// There is another version, which goes its own way; if the old one comes back before, that has to be tried.
    Other,
    /// It went its own way, or is wanted no more.
    Over,
}

impl Subscription {
    /// Has what a client took nothing of tried apart, unless it said by name what is at fault.
    pub(super) fn doubt(&mut self, rejected: &InFlight, suspects: &[Arc<str>], named: bool) {
        self.trials.forget(suspects);
        let tried = |name: &Arc<str>| match rejected.version(name) {
            Some(version) => Tried::Version(version.clone()),
            None => Tried::Removal,
        };
        let suspects = suspects.iter().map(|name| (name.clone(), tried(name)));
        let (mut resources, removals): (Group, Group) =
            suspects.partition(|(_, tried)| matches!(tried, Tried::Version(_)));
        if named || resources.is_empty() {
            self.trials.running = false;
            return;
        }
        // Alone it is at fault for certain.
        if resources.len() == 1 {
            resources.clear();
        }
        self.trials.doubt(resources, removals, rejected.waves);
    }

    /// What was in flight was taken.
    pub(super) fn trusted(&mut self) {
        self.trials.running = false;
    }

    /// What goes next to find out, if anything has to.
    pub(super) fn trial(&mut self, view: &dyn View) -> Option<Plan> {
        let mut others = Vec::new();
        let mut plan = None;
        if self.trials.left == 0 {
            self.trials.groups.clear();
        }
        while plan.is_none()
            && let Some(group) = self.trials.groups.pop()
        {
            let mut answers = Vec::new();
            for (name, tried) in group {
                match self.standing(&name, &tried, view) {
                    Standing::Same(resource) => answers.push(Item {
                        name,
                        resource,
                        due: Due::new(Why::Again, self.trials.waves),
                        refresh: false,
                    }),
                    Standing::Other => others.push((name, tried)),
                    Standing::Over => {}
                }
            }
            if !answers.is_empty() {
                self.trials.left = self.trials.left.saturating_sub(1);
                self.trials.running = true;
                plan = Some(Plan {
                    answers,
                    ..Plan::default()
                });
            }
        }
        if !others.is_empty() {
            let names: Vec<_> = others.iter().map(|(name, _)| name.clone()).collect();
            self.mark(names, Due::new(Why::Changed, Waves::NONE));
            // They come from several groups, and what goes together is sorted.
            others.sort_by(|(a, _), (b, _)| a.cmp(b));
            // Not before all else: they may be going already.
            self.trials.groups.insert(0, others);
        }
        plan
    }

    fn standing(&self, name: &Arc<str>, tried: &Tried, view: &dyn View) -> Standing {
        let entry = self.entries.get(name);
        let asked = entry.is_some_and(|entry| entry.asked);
        let wanted = asked || (self.wildcard && view.covers(self.kind, name));
        if self.dirty.is_sure(name) || !(wanted || self.wildcard) {
            return Standing::Over;
        }
        // Only then: to ask for a resource is to use it.
        let resource = wanted.then(|| view.get(self.kind, name)).flatten();
        let resource = resource.map(|resource| dress(self.expires, resource));
        match tried {
            Tried::Version(version) => {
                let rejected = entry.filter(|entry| entry.state == State::Rejected);
                let sent = rejected.and_then(|entry| entry.sent());
                match &resource {
                    _ if sent.is_none_or(|sent| sent.version() != version) => Standing::Over,
                    Some(new) if new.version() == version => Standing::Same(resource),
                    _ => Standing::Other,
                }
            }
            Tried::Removal => {
                let gone = entry.is_none_or(|entry| entry.state == State::Absent);
                if gone && resource.is_none() {
                    Standing::Same(None)
                } else {
                    Standing::Over
                }
            }
        }
    }
}
