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
//!
//! What was to go by a rejected response is still there at the client. So it goes again, with nothing new beside it: in its
//! order, like any other removal; of a full list, by a list of what the client took.

use std::{collections::HashSet, sync::Arc};

use super::{
    Entry, InFlight, Rejection, Subscription, Waves,
    due::{Due, Why},
    note,
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
    /// One of them went last: what the client asked for meanwhile goes in turns with them.
    went_last: bool,
}

/// Names that go together, each in the version that may be at fault.
#[derive(Debug)]
struct Group {
    /// Empty: a full list of what the client took, which says what is gone.
    names: Vec<(Arc<str>, Arc<str>)>,
    /// What was rejected had changes of these: until all of it was tried, the client may not have them.
    waves: Waves,
    /// Those of what it was to mend: likewise, the client still has what was there before them.
    mends: Waves,
    /// There is another version of each, which is yet to go.
    waits: bool,
}

impl Trials {
    /// Has groups tried, the last one first.
    fn add(&mut self, groups: Vec<Vec<(Arc<str>, Arc<str>)>>, of: &InFlight) {
        let running = std::mem::take(&mut self.running);
        if groups.is_empty() {
            return;
        }
        if !running && self.groups.iter().all(|group| group.waits) {
            // Another rejection than those that the last one brought.
            self.left = MOST;
        }
        self.groups.extend(groups.into_iter().map(|names| Group {
            names,
            waves: of.waves,
            mends: of.mends,
            waits: false,
        }));
    }

    /// What was said of these names is said anew: a name is tried in one group only.
    fn forget(&mut self, names: &[Arc<str>]) {
        let names: HashSet<_> = names.iter().collect();
        self.groups.retain_mut(|group| {
            let before = group.names.len();
            group.names.retain(|(name, _)| !names.contains(name));
            before == 0 || !group.names.is_empty()
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The waves since which the client may not have what is yet to be tried.
    pub(super) fn waves(&self) -> Waves {
        let waves = self.groups.iter().map(|group| group.waves.and(group.mends));
        waves.fold(Waves::NONE, Waves::and)
    }

    /// The same without what waits: that is gone, or goes its own way in its own order.
    pub(super) fn coming(&self) -> Waves {
        let coming = self.groups.iter().filter(|group| !group.waits);
        let waves = coming.map(|group| group.waves.and(group.mends));
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
    Same(Arc<Resource>),
    /// There is another version, which goes its own way; if it is as before again until then, that has to be tried.
    Other,
    /// It went its own way, or is wanted no more.
    Over,
}

impl Subscription {
    /// Has what a client took nothing of tried apart. Where it said by name what is at fault, that is nothing but what came
    /// with that, and goes once more without. `gone`: it did not take either that something is gone.
    pub(super) fn doubt(&mut self, rejected: &InFlight, blame: &Blame, gone: bool) {
        self.trials.forget(&blame.names);
        let tried = |names: &[Arc<str>]| -> Vec<_> {
            let names = names.iter();
            let tried =
                names.filter_map(|name| Some((name.clone(), rejected.version(name)?.clone())));
            tried.collect()
        };
        let list = (gone && self.is_full()).then(Vec::new);
        let some = |names: &Vec<_>| !names.is_empty();
        let groups: Vec<_> = if blame.named {
            // A list that has these, and is taken, says all.
            let beside = Some(tried(&blame.beside)).filter(some);
            list.into_iter().chain(beside).collect()
        } else {
            let mut first = tried(&blame.names);
            // There is nothing else that could be at fault.
            if first.len() == 1 && !gone {
                first.clear();
            }
            let second = first.split_off(first.len() / 2);
            let halves = [second, first].into_iter().filter(some);
            halves.chain(list).collect()
        };
        self.trials.add(groups, rejected);
    }

    /// What was in flight was taken.
    pub(super) fn trusted(&mut self) {
        self.trials.running = false;
    }

    /// What the client asked for while something is to be found out, if it is the turn of that: it may be in a hurry. Full
    /// lists answer what they leave out, and nobody asks for something in them by name (Envoy 1.40: on demand by delta only).
    pub(super) fn asked_meanwhile(&mut self) -> Option<Vec<(Arc<str>, Due)>> {
        let mut turn = !self.trials.is_empty() && !self.is_full();
        turn &= std::mem::take(&mut self.trials.went_last);
        if !turn {
            return None;
        }
        // The answer counts as the trial.
        let dirty = &mut self.dirty;
        self.trials.groups.retain_mut(|group| {
            let waves = group.waves.and(group.mends);
            group
                .names
                .retain(|(name, _)| !(dirty.is_asked(name) && dirty.widen(name, waves)));
            !group.names.is_empty()
        });
        let asked = self.dirty.take_asked();
        Some(asked).filter(|asked| !asked.is_empty())
    }

    /// What goes next to find out, if anything has to.
    pub(super) fn trial(&mut self, view: &dyn View) -> Option<Plan> {
        let mut others: Option<Group> = None;
        let mut plan = None;
        if self.trials.left == 0 {
            self.give_up(view);
        }
        while plan.is_none()
            && let Some(group) = self.trials.groups.pop()
        {
            let Group {
                names,
                waves,
                mends,
                waits: _,
            } = group;
            let item = |name, resource| Item {
                name,
                resource,
                due: Due::new(Why::Again, waves),
                mends,
                refresh: false,
            };
            let mut answers = Vec::new();
            let mut rest = Vec::new();
            if names.is_empty() {
                answers.extend(self.untold().into_iter().map(|name| item(name, None)));
            }
            for (name, version) in names {
                match self.standing(&name, &version, view) {
                    Standing::Same(resource) => answers.push(item(name, Some(resource))),
                    Standing::Other => rest.push((name, version)),
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
                    waits: true,
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
                self.trials.went_last = true;
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
    fn give_up(&mut self, view: &dyn View) {
        let rest = std::mem::take(&mut self.trials.groups);
        let untried: Arc<str> = UNTRIED.into();
        for group in rest {
            let waves = group.waves.and(group.mends);
            if group.names.is_empty() {
                self.refuse_removals(&self.untold(), &untried, waves, view);
            }
            for (name, version) in group.names {
                let entry = self.entries.get_mut(&name);
                let open = entry.filter(|entry| entry.state == State::Sent);
                if let Some(entry) = open
                    && entry.sent().is_some_and(|sent| *sent.version() == version)
                {
                    entry.reject();
                    let rejection = Rejection {
                        version: Some(version),
                        error: Some(untried.clone()),
                        waves,
                    };
                    note(&mut self.rejected, self.kind, name, rejection, view);
                }
            }
        }
    }

    fn standing(&self, name: &Arc<str>, version: &Arc<str>, view: &dyn View) -> Standing {
        let entry = self.entries.get(name);
        let asked = entry.is_some_and(|entry| entry.asked);
        let wanted = asked || (self.wildcard && view.covers(self.kind, name));
        // What came beside something that was rejected by name is neither taken nor rejected.
        let open = |entry: &&Entry| matches!(entry.state, State::Rejected | State::Sent);
        let sent = entry.filter(open).and_then(Entry::sent);
        let over = sent.is_none_or(|sent| sent.version() != version);
        if over || self.dirty.is_asked(name) || !(wanted || self.wildcard) {
            return Standing::Over;
        }
        // Only then: to ask for a resource is to use it.
        let resource = wanted.then(|| view.get(self.kind, name)).flatten();
        let resource = resource.map(|resource| dress(self.expires, resource));
        match resource {
            Some(new) if new.version() == version => Standing::Same(new),
            _ => Standing::Other,
        }
    }
}
