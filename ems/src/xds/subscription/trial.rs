//! The part of a subscription that finds out which resource of a rejected response is at fault.
//!
//! Where a client's words do not say, it took nothing of the response: Envoy (1.40) applies none of the clusters beside one
//! that it cannot read. What is good has to go again, or it would be lost until it changes. So the suspects go again in
//! halves, and the halves of what is rejected, until one alone is rejected, which is never sent again. In a full list what
//! the client took before stands for the other suspects, if anything does.
//!
//! Where its words say what is at fault, the rest may still be lost: Envoy (1.40) applies clusters and listeners beside those
//! that it lists as wrong, but of the other types it hands out what came together name by name and stops at the first that
//! fails, and of a response that it cannot read it applies nothing. Such a rest goes once more.

use std::{collections::HashSet, sync::Arc};

use super::{
    Entry, InFlight, Rejection, Subscription, Waves,
    due::{Due, Why},
    plan::{Item, Plan},
    refresh::dress,
    verdict::Blame,
};
use crate::xds::{Resource, View, stream::State};

/// Responses that one rejection may bring: a client that rejects everything is not sent everything one by one.
const MOST: u32 = 64;

/// What is shown of resources that were not tried any more.
const UNTRIED: &str = "came with others that were rejected, too many to try each apart";

/// Names that are tried apart.
#[derive(Debug, Default)]
pub(super) struct Trials {
    /// Those that go together; the last ones go next.
    groups: Vec<Group>,
    /// How many may still go.
    left: u32,
    /// What is in flight is one of them.
    running: bool,
}

/// Names that go together.
#[derive(Debug)]
struct Group {
    names: Vec<(Arc<str>, Tried)>,
    /// What was rejected had changes of these: until all of it was tried, the client may not have them.
    waves: Waves,
    /// Those of what it was to mend: likewise, the client still has what was there before them.
    mends: Waves,
}

/// What goes of a name.
#[derive(Clone, Debug)]
enum Tried {
    /// This version, which may be at fault.
    Version(Arc<str>),
    /// That it is gone, of which the client did not take note.
    Removal,
}

impl Trials {
    /// Has groups tried, the last one first.
    fn add<const N: usize>(&mut self, groups: [Vec<(Arc<str>, Tried)>; N], of: &InFlight) {
        if !std::mem::take(&mut self.running) {
            // Another rejection than those that the last one brought.
            self.left = MOST;
        }
        let groups = groups.into_iter().filter(|names| !names.is_empty());
        self.groups.extend(groups.map(|names| Group {
            names,
            waves: of.waves,
            mends: of.mends,
        }));
    }

    /// What was said of these names is said anew: a name is tried in one group only.
    fn forget(&mut self, names: &[Arc<str>]) {
        let names: HashSet<_> = names.iter().collect();
        for group in &mut self.groups {
            group.names.retain(|(name, _)| !names.contains(name));
        }
        self.groups.retain(|group| !group.names.is_empty());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The waves since which the client may not have what is yet to be tried.
    pub(super) fn waves(&self) -> Waves {
        let waves = self.groups.iter().map(|group| group.waves.and(group.mends));
        waves.fold(Waves::NONE, Waves::and)
    }

    /// How many names there are in it.
    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(|group| group.names.len()).sum()
    }
}

/// What becomes of a name that is to be tried.
enum Standing {
    /// It goes as it was sent.
    Same(Option<Arc<Resource>>),
    /// There is another version, which goes its own way; if it is as before again until then, that has to be tried.
    Other,
    /// It went its own way, or is wanted no more.
    Over,
}

impl Subscription {
    /// Has what a client took nothing of tried apart. Where it said by name what is at fault, that is nothing but what came
    /// with that, and goes once more without.
    pub(super) fn doubt(&mut self, rejected: &InFlight, blame: &Blame) {
        self.trials.forget(&blame.names);
        let tried = |name: &Arc<str>| match rejected.version(name) {
            Some(version) => Tried::Version(version.clone()),
            None => Tried::Removal,
        };
        let suspects = |names: &[Arc<str>]| -> (Vec<_>, Vec<_>) {
            let all = names.iter().map(|name| (name.clone(), tried(name)));
            all.partition(|(_, tried)| matches!(tried, Tried::Version(_)))
        };
        if blame.named {
            let (resources, removals) = suspects(&blame.beside);
            if resources.is_empty() && removals.is_empty() {
                self.trials.running = false;
            } else {
                self.trials.add([resources, removals], rejected);
            }
            return;
        }
        let (mut first, removals) = suspects(&blame.names);
        // Alone it is at fault for certain. What is gone is not told apart.
        if first.is_empty() || first.len() == 1 && removals.is_empty() {
            self.trials.running = false;
            return;
        }
        let second = first.split_off(first.len() / 2);
        self.trials.add([second, first, removals], rejected);
    }

    /// What was in flight was taken.
    pub(super) fn trusted(&mut self) {
        self.trials.running = false;
    }

    /// What goes next to find out, if anything has to.
    pub(super) fn trial(&mut self, view: &dyn View) -> Option<Plan> {
        let mut others: Option<Group> = None;
        let mut plan = None;
        if self.trials.left == 0 {
            self.give_up();
        }
        while plan.is_none()
            && let Some(group) = self.trials.groups.pop()
        {
            let Group {
                names,
                waves,
                mends,
            } = group;
            let mut answers = Vec::new();
            let mut rest = Vec::new();
            for (name, tried) in names {
                match self.standing(&name, &tried, view) {
                    Standing::Same(resource) => answers.push(Item {
                        name,
                        resource,
                        due: Due::new(Why::Again, waves),
                        mends,
                        refresh: false,
                    }),
                    Standing::Other => rest.push((name, tried)),
                    Standing::Over if self.dirty.is_asked(&name) => {
                        // The answer to that counts as the trial.
                        self.dirty.widen(&name, waves.and(mends));
                    }
                    Standing::Over => {}
                }
            }
            if !rest.is_empty() {
                let others = others.get_or_insert(Group {
                    names: Vec::new(),
                    waves,
                    mends,
                });
                others.names.append(&mut rest);
                others.waves = others.waves.and(waves);
                others.mends = others.mends.and(mends);
            }
            if !answers.is_empty() {
                // Endpoints that are to follow their cluster do so by this.
                self.dirty.retain(|name, due| {
                    let goes = || answers.binary_search_by(|item| item.name.cmp(name));
                    due.why != Why::Again || goes().is_err()
                });
                self.trials.left = self.trials.left.saturating_sub(1);
                self.trials.running = true;
                plan = Some(Plan {
                    answers,
                    ..Plan::default()
                });
            }
        }
        if let Some(mut others) = others {
            // What there is instead comes in place of what was rejected.
            let due = Due::new(Why::Changed, others.waves);
            let names = others.names.iter().map(|(name, _)| name);
            let unseen = names.filter(|name| !self.dirty.widen(name, due.waves));
            let unseen: Vec<_> = unseen.map(|name| (name.clone(), due)).collect();
            self.dirty.add(unseen);
            // They come from several groups, and what goes together is sorted.
            others.names.sort_by(|(a, _), (b, _)| a.cmp(b));
            // Not before all else: they may be going already.
            self.trials.groups.insert(0, others);
        }
        plan
    }

    /// Leaves the rest untried. It counts as rejected, for the client has nothing of it.
    fn give_up(&mut self) {
        let rest = std::mem::take(&mut self.trials.groups);
        for Group {
            names,
            waves,
            mends,
        } in rest
        {
            for (name, tried) in names {
                let waves = waves.and(mends);
                let Tried::Version(version) = tried else {
                    self.refuse_removal(&name, &UNTRIED.into(), waves);
                    continue;
                };
                let entry = self.entries.get_mut(&name);
                let open = entry.filter(|entry| entry.state == State::Sent);
                if let Some(entry) = open
                    && entry.sent().is_some_and(|sent| *sent.version() == version)
                {
                    entry.reject();
                    let rejection = Rejection {
                        version: Some(version),
                        error: Some(UNTRIED.into()),
                        waves,
                    };
                    self.rejected.insert(name, rejection);
                }
            }
        }
    }

    fn standing(&self, name: &Arc<str>, tried: &Tried, view: &dyn View) -> Standing {
        let entry = self.entries.get(name);
        let asked = entry.is_some_and(|entry| entry.asked);
        let wanted = asked || (self.wildcard && view.covers(self.kind, name));
        if self.dirty.is_asked(name) || !(wanted || self.wildcard) {
            return Standing::Over;
        }
        // Only then: to ask for a resource is to use it.
        let resource = wanted.then(|| view.get(self.kind, name)).flatten();
        let resource = resource.map(|resource| dress(self.expires, resource));
        match tried {
            Tried::Version(version) => {
                // What came beside something that was rejected by name is neither taken nor rejected.
                let open = |entry: &&Entry| matches!(entry.state, State::Rejected | State::Sent);
                let sent = entry.filter(open).and_then(Entry::sent);
                match &resource {
                    _ if sent.is_none_or(|sent| sent.version() != version) => Standing::Over,
                    Some(new) if new.version() == version => Standing::Same(resource),
                    _ => Standing::Other,
                }
            }
            Tried::Removal => {
                let gone = entry.is_none_or(|entry| entry.state == State::Absent);
                match resource {
                    _ if !gone => Standing::Over,
                    None => Standing::Same(None),
                    Some(_) => Standing::Other,
                }
            }
        }
    }
}
