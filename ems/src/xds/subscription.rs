//! What one stream asked for of one type, what it was sent, and what it said to that.
//!
//! Both protocol variants are the same bookkeeping: names that were asked for, versions that were sent, names that may
//! have to be sent. They differ in how a request changes the first and in what a response must contain; the latter is
//! at the end of [`Subscription::commit`].
//!
//! Pure: no clock, no channel, no I/O.

mod blame;
mod plan;
mod verdict;

use std::{collections::HashMap, sync::Arc};

pub(super) use plan::{Batch, Plan};
use plan::{Due, Item, Why};
pub(super) use verdict::Verdict;

use super::{
    Resource, ResourceType, View,
    limits::{Limits, Refusal},
    stream::{Action, Mode, State, Status},
};

/// The name that stands for every resource that the server thinks the client should have.
const WILDCARD: &str = "*";

/// Names waiting to be looked at beyond which they are forgotten and everything is looked at instead.
const BACKLOG: usize = 1_024;

/// One type on one stream.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    mode: Mode,
    wildcard: bool,
    /// A request for this type was seen.
    started: bool,
    /// A name was asked for: from then on an empty list means nothing, and no longer everything.
    named: bool,
    entries: HashMap<Arc<str>, Entry>,
    /// How many of the entries were asked for by name.
    asked: usize,
    /// Names that may have to be sent.
    dirty: HashMap<Arc<str>, Due>,
    /// Everything may have to be sent, since this wave.
    resync: Option<u64>,
    /// An answer is owed even if it turns out empty.
    due: bool,
    in_flight: Option<InFlight>,
    /// What the client said when it rejected a resource.
    errors: HashMap<Arc<str>, Arc<str>>,
}

/// What is known of one name.
#[derive(Debug, Default)]
struct Entry {
    asked: bool,
    /// What was sent last: changes are compared with this and not with what was acknowledged, so that a rejected
    /// resource is not sent again and again.
    sent: Option<Arc<Resource>>,
    state: State,
    /// The version that was rejected last.
    refused: Option<Arc<str>>,
}

#[derive(Debug)]
struct InFlight {
    nonce: u64,
    /// The last wave that it may hold changes of; 0: it only answers.
    wave: u64,
    names: Vec<Arc<str>>,
}

impl Subscription {
    pub(super) fn new(kind: ResourceType, mode: Mode) -> Self {
        Self {
            kind,
            mode,
            wildcard: false,
            started: false,
            named: false,
            entries: HashMap::new(),
            asked: 0,
            dirty: HashMap::new(),
            resync: None,
            due: false,
            in_flight: None,
            errors: HashMap::new(),
        }
    }

    pub(super) fn kind(&self) -> ResourceType {
        self.kind
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether changes of this wave or a later one are under way, or may be waiting for what is.
    pub(super) fn unsettled(&self, wave: u64) -> bool {
        let waits = self.resync.is_some() || !self.dirty.is_empty();
        self.in_flight
            .as_ref()
            .is_some_and(|sent| waits || sent.wave >= wave)
    }

    /// Applies a delta request: what is no longer wanted goes first, so that a name on both lists is answered.
    pub(super) fn ask_delta(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        initial: HashMap<String, String>,
        view: &dyn View,
        limits: &Limits,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let first = !std::mem::replace(&mut self.started, true);
        let legacy = first && subscribe.is_empty() && unsubscribe.is_empty();
        let returning = first && !initial.is_empty();
        if first {
            limits.check_count(self.kind, initial.len())?;
            self.remember(initial, view, limits, actions)?;
        }
        for name in unsubscribe {
            if name == WILDCARD {
                self.leave_wildcard(actions);
            } else {
                self.forget(&name, actions);
            }
        }
        for name in subscribe {
            self.named = true;
            if name == WILDCARD {
                self.join_wildcard(returning, view, actions);
            } else {
                self.want(name.into(), returning, limits, actions)?;
            }
        }
        if legacy {
            self.join_wildcard(returning, view, actions);
        }
        if first && !self.wildcard {
            self.drop_unasked();
        }
        Ok(())
    }

    /// Applies a state-of-the-world request, whose names replace the former ones.
    pub(super) fn ask_sotw(
        &mut self,
        names: Vec<String>,
        version: &str,
        view: &dyn View,
        limits: &Limits,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let first = !std::mem::replace(&mut self.started, true);
        limits.check_count(self.kind, names.len())?;
        self.named |= !names.is_empty();
        let wildcard = !self.named || names.iter().any(|name| name == WILDCARD);
        let mut wanted: HashMap<Arc<str>, ()> = HashMap::with_capacity(names.len());
        for name in names.into_iter().filter(|name| name != WILDCARD) {
            limits.check_name(&name)?;
            wanted.insert(name.into(), ());
        }
        // Before names are forgotten: what the wildcard covers is not.
        if wildcard && !self.wildcard {
            self.join_wildcard(false, view, actions);
        }
        let gone: Vec<_> = self
            .entries
            .iter()
            .filter(|(name, entry)| entry.asked && !wanted.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.forget(&name, actions);
        }
        for (name, ()) in wanted {
            if !self.entries.get(&name).is_some_and(|entry| entry.asked) {
                self.want(name, false, limits, actions)?;
            }
        }
        if !wildcard {
            self.leave_wildcard(actions);
        }
        // A client that comes back with everything it needs: only where the server alone decides what that is.
        if first && self.wildcard && self.is_full() && !self.named && !version.is_empty() {
            self.skip_if_current(version, view);
        }
        Ok(())
    }

    /// Takes what the client says it has from an earlier stream.
    fn remember(
        &mut self,
        initial: HashMap<String, String>,
        view: &dyn View,
        limits: &Limits,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        for (name, version) in initial {
            limits.check_name(&name)?;
            let resource = match view.get(self.kind, &name) {
                Some(current) if **current.version() == *version => {
                    if current.fate().take() {
                        actions.push(Action::Ruled(self.kind, current.clone()));
                    }
                    current
                }
                _ => Arc::new(Resource::remembered(name.into(), version.into())),
            };
            let name = resource.name().clone();
            self.mark(name.clone(), Why::Changed, 0);
            self.entries.insert(
                name,
                Entry {
                    asked: false,
                    sent: Some(resource),
                    state: State::Acked,
                    refused: None,
                },
            );
        }
        Ok(())
    }

    fn want(
        &mut self,
        name: Arc<str>,
        returning: bool,
        limits: &Limits,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        limits.check_name(&name)?;
        let has = returning && self.entries.contains_key(&name);
        let entry = self.entries.entry(name.clone()).or_default();
        if !std::mem::replace(&mut entry.asked, true) {
            self.asked += 1;
            limits.check_count(self.kind, self.asked)?;
            actions.push(Action::Follow(self.kind, name.clone()));
        }
        self.mark(name, if has { Why::Changed } else { Why::Asked }, 0);
        Ok(())
    }

    fn forget(&mut self, name: &str, actions: &mut Vec<Action>) {
        let Some((name, entry)) = self.entries.get_key_value(name) else {
            return;
        };
        if !entry.asked {
            return;
        }
        let name = name.clone();
        actions.push(Action::Unfollow(self.kind, name.clone()));
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.asked = false;
            self.asked -= 1;
        }
        if self.wildcard {
            // The client cannot tell whether the wildcard covers the name: it has to be told either way, where there
            // are words for it. A full list says it by what it contains.
            let delta = self.mode == Mode::Delta;
            self.mark(name, if delta { Why::Asked } else { Why::Changed }, 0);
        } else {
            self.remove(&name);
        }
    }

    fn join_wildcard(&mut self, returning: bool, view: &dyn View, actions: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.wildcard, true) {
            actions.push(Action::FollowAll(self.kind));
        }
        self.due |= !returning;
        let why = if returning { Why::Changed } else { Why::Asked };
        for name in view.wildcard(self.kind) {
            self.mark(name, why, 0);
        }
    }

    fn leave_wildcard(&mut self, actions: &mut Vec<Action>) {
        if std::mem::replace(&mut self.wildcard, false) {
            actions.push(Action::UnfollowAll(self.kind));
            self.drop_unasked();
        }
    }

    fn drop_unasked(&mut self) {
        let (entries, errors, dirty) = (&mut self.entries, &mut self.errors, &mut self.dirty);
        entries.retain(|_, entry| entry.asked);
        dirty.retain(|name, _| entries.contains_key(name));
        errors.retain(|name, _| entries.contains_key(name));
    }

    fn remove(&mut self, name: &str) {
        self.entries.remove(name);
        self.errors.remove(name);
        self.dirty.remove(name);
    }

    fn skip_if_current(&mut self, version: &str, view: &dyn View) {
        let plan = self.plan(view);
        let mut resources: Vec<_> = plan.answers.iter().filter_map(|(_, r)| r.clone()).collect();
        resources.sort_by(|a, b| a.name().cmp(b.name()));
        if *super::stream::version_of(self.kind, &resources, &[], view) != *version {
            for (name, _) in plan.answers {
                self.mark(name, Why::Asked, 0);
            }
            return;
        }
        self.due = false;
        for (name, resource) in plan.answers {
            let entry = self.entries.entry(name).or_default();
            entry.sent = resource;
            entry.state = State::Acked;
        }
    }

    /// Notes that a name may differ from before.
    pub(super) fn changed(&mut self, name: &Arc<str>, wave: u64) {
        if self.wildcard || self.entries.contains_key(name) {
            self.mark(name.clone(), Why::Changed, wave);
        }
    }

    /// Notes that anything may differ from before.
    pub(super) fn changed_anyhow(&mut self, wave: u64) {
        self.resync.get_or_insert(wave);
        self.dirty.retain(|_, due| due.why > Why::Changed);
    }

    /// Has a resource sent again although it did not change, if the client has it.
    pub(super) fn repeat(&mut self, name: &Arc<str>, wave: u64) {
        let entry = self.entries.get(name);
        if entry.is_some_and(|entry| entry.asked && entry.sent.is_some()) {
            self.mark(name.clone(), Why::Again, wave);
        }
    }

    fn mark(&mut self, name: Arc<str>, why: Why, wave: u64) {
        if why == Why::Changed {
            if self.resync.is_some() {
                return;
            }
            if self.dirty.len() >= BACKLOG.max(2 * self.entries.len()) {
                let oldest = self.dirty.values().map(|due| due.wave).min();
                self.changed_anyhow(oldest.unwrap_or(wave));
                return;
            }
        }
        let due = self.dirty.entry(name).or_insert(Due { why, wave });
        due.why = why.max(due.why);
        due.wave = wave.min(due.wave);
    }

    /// Looks at all names that may have to be sent. What is not sent then has to be given back by [`Self::postpone`].
    pub(super) fn plan(&mut self, view: &dyn View) -> Plan {
        let mut plan = Plan::default();
        if let Some(wave) = self.resync.take() {
            let mut names: Vec<_> = self.entries.keys().cloned().collect();
            if self.wildcard {
                names.extend(view.wildcard(self.kind));
            }
            let why = Why::Changed;
            for name in names {
                self.dirty.entry(name).or_insert(Due { why, wave });
            }
        }
        for (name, due) in std::mem::take(&mut self.dirty) {
            let why = due.why;
            let entry = self.entries.get(&name);
            let asked = entry.is_some_and(|entry| entry.asked);
            let wanted = asked || (self.wildcard && view.covers(self.kind, &name));
            let resource = if wanted {
                view.get(self.kind, &name)
            } else {
                None
            };
            let sent = entry.and_then(|entry| entry.sent.as_ref());
            let told = entry.is_some_and(|entry| entry.state != State::Waiting);
            match (resource, sent) {
                (Some(new), _) if why == Why::Asked => plan.answers.push((name, Some(new))),
                (Some(new), Some(old)) if why == Why::Changed && new.version() == old.version() => {
                }
                (Some(new), _) => plan.upserts.push(((name, Some(new)), due)),
                (None, _) if why == Why::Asked => plan.answers.push((name, None)),
                (None, Some(_)) => plan.removals.push(((name, None), due)),
                (None, None) if asked && !told => plan.answers.push((name, None)),
                (None, None) => {}
            }
        }
        plan
    }

    /// Puts back what may not be sent yet: changes while what they point at is under way, removals while something
    /// may still point at them.
    /// True: changes were put back.
    pub(super) fn postpone(&mut self, plan: &mut Plan, changes: bool, removals: bool) -> bool {
        let waiting = changes && !plan.upserts.is_empty();
        if changes {
            for ((name, _), due) in plan.upserts.drain(..) {
                self.mark(name, due.why, due.wave);
            }
        }
        if removals {
            for ((name, _), due) in plan.removals.drain(..) {
                self.mark(name, due.why, due.wave);
            }
        }
        waiting
    }

    /// Whether there is something to say once a plan has been cut to what may be sent now.
    pub(super) fn owes(&self, plan: &Plan) -> bool {
        self.due || !plan.is_empty()
    }

    /// Takes a plan as sent and gives what the response contains; `None` where this variant has no words for it.
    pub(super) fn commit(&mut self, plan: Plan) -> Option<Batch> {
        let due = std::mem::take(&mut self.due);
        let changes = plan
            .upserts
            .into_iter()
            .chain(plan.removals)
            .map(|(item, _)| item);
        let mut items: Vec<Item> = plan.answers.into_iter().chain(changes).collect();
        items.sort_by(|a, b| a.0.cmp(&b.0));
        let mut batch = Batch {
            resources: Vec::with_capacity(items.len()),
            removed: Vec::new(),
            updated: Vec::new(),
        };
        let mut lost = false;
        for (name, resource) in items {
            let mut entry = self.entries.remove(&name).unwrap_or_default();
            self.errors.remove(&name);
            let before = std::mem::replace(&mut entry.sent, resource.clone());
            if let Some(new) = resource {
                // From here on the name is the one that all streams share.
                let name = new.name().clone();
                entry.state = State::Sent;
                if before.is_none_or(|old| old.version() != new.version()) {
                    batch.updated.push(name.clone());
                }
                batch.resources.push(new);
                self.entries.insert(name, entry);
            } else {
                lost |= before.is_some() || entry.state == State::Waiting;
                entry.state = State::Absent;
                if entry.asked {
                    self.entries.insert(name.clone(), entry);
                }
                batch.removed.push(name);
            }
        }
        if self.mode == Mode::Delta {
            return Some(batch);
        }
        // State of the world has no removals. For listeners and clusters they show by what is left out of the full
        // list; for the other types nothing can be said.
        batch.removed.clear();
        if self.is_full() {
            if batch.resources.is_empty() && !lost && !due {
                return None;
            }
            batch.resources = self
                .entries
                .values()
                .filter_map(|entry| entry.sent.clone())
                .collect();
            batch.resources.sort_by(|a, b| a.name().cmp(b.name()));
            return Some(batch);
        }
        (due || !batch.resources.is_empty()).then_some(batch)
    }

    /// Notes that a batch left under this nonce, with changes up to this wave.
    pub(super) fn sent(&mut self, nonce: u64, wave: u64, batch: &Batch) {
        let names = if self.is_full() && !batch.updated.is_empty() {
            // The others in a full list were taken before: what is new is to blame.
            batch.updated.clone()
        } else {
            let resources = batch
                .resources
                .iter()
                .map(|resource| resource.name().clone());
            resources.chain(batch.removed.iter().cloned()).collect()
        };
        self.in_flight = Some(InFlight { nonce, wave, names });
    }

    /// "For Listener and Cluster resource types […] the server must include the complete state of the world".
    fn is_full(&self) -> bool {
        self.mode == Mode::Sotw
            && matches!(self.kind, ResourceType::Listener | ResourceType::Cluster)
    }

    /// The names that the client asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.asked)
            .map(|(name, _)| name)
    }

    /// Every name that the client was told something about or asked for.
    pub(super) fn status(&self) -> impl Iterator<Item = Status> + '_ {
        self.entries.iter().map(|(name, entry)| Status {
            kind: self.kind,
            name: name.clone(),
            version: entry
                .sent
                .as_ref()
                .map(|resource| resource.version().clone()),
            state: entry.state,
            error: self.errors.get(name).cloned(),
        })
    }
}
