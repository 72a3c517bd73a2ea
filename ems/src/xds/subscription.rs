//! What one stream asked for of one type, what it was sent, and what it said to that.
//!
//! Both protocol variants are the same bookkeeping: names that were asked for, versions that were sent, names that may
//! have to be sent. They differ in how a request changes the first and in what a response must contain; the latter is
//! at the end of [`Subscription::commit`].
//!
//! Pure: no clock, no channel, no I/O.

mod asking;
mod blame;
mod due;
mod entries;
mod kept;
mod plan;
mod refresh;
mod rejection;
mod returning;
mod trial;
mod verdict;
mod waves;

use std::{collections::HashMap, sync::Arc};

use due::{Due, Dues, Why};
use entries::{Entries, Entry};
use kept::Kept;
use plan::Item;
pub(super) use plan::{Batch, Plan};
use refresh::dress;
use rejection::{Rejection, forgive, note};
use trial::Trials;
pub(super) use verdict::Verdict;
pub(super) use waves::{Making, Waves};

use super::{
    Bundles, Resource, ResourceType, View,
    stream::{Mode, State, Status},
    ttl::Beats,
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
    /// All that the wildcard can cover, sorted, where that is known: followed by name.
    within: Option<Vec<Arc<str>>>,
    /// The last that the stream was told of.
    wave: u64,
    /// A request for this type was seen.
    started: bool,
    /// A name was asked for, or the wildcard given up: from then on an empty list means nothing, and no longer everything.
    named: bool,
    entries: Entries,
    /// How many of the entries were asked for by name.
    asked: usize,
    /// Names that may have to be sent.
    dirty: Dues,
    /// Everything may have to be sent, by these waves.
    resync: Option<Waves>,
    /// An answer is owed even if it turns out empty.
    due: bool,
    in_flight: Option<InFlight>,
    /// What the client rejected, by name.
    rejected: HashMap<Arc<str>, Rejection>,
    kept: Kept,
    trials: Trials,
    /// The client knows of TTLs.
    expires: bool,
    /// Only once a resource had a TTL.
    beats: Option<Box<Beats>>,
    /// What has to be refreshed with the next response.
    refresh: Vec<Arc<Resource>>,
}

#[derive(Debug)]
struct InFlight {
    nonce: u64,
    /// The waves of the changes in it.
    waves: Waves,
    /// Those of what the client rejected before, and is mended by it.
    mends: Waves,
    /// Something is in it that others may point at, and not only what is gone.
    makes: bool,
    resources: Arc<[Arc<Resource>]>,
    removed: Arc<[Arc<str>]>,
    /// In a full list: what is new, sorted, if anything is.
    updated: Vec<Arc<str>>,
}

impl InFlight {
    /// The version in which it holds a name, also if only to refresh it.
    fn version(&self, name: &str) -> Option<&Arc<str>> {
        let resources = &self.resources;
        let at = resources.binary_search_by(|resource| (**resource.name()).cmp(name));
        at.ok().and_then(|at| Some(resources.get(at)?.version()))
    }
}

impl Subscription {
    /// `wave`: the last one there was.
    pub(super) fn new(kind: ResourceType, mode: Mode, expires: bool, wave: u64) -> Self {
        Self {
            kind,
            mode,
            wildcard: false,
            within: None,
            wave,
            started: false,
            named: false,
            entries: Entries::default(),
            asked: 0,
            dirty: Dues::default(),
            resync: None,
            due: false,
            in_flight: None,
            rejected: HashMap::new(),
            kept: Kept::default(),
            trials: Trials::default(),
            expires,
            beats: None,
            refresh: Vec::new(),
        }
    }

    pub(super) fn kind(&self) -> ResourceType {
        self.kind
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// A request for this type was seen.
    pub(super) fn started(&self) -> bool {
        self.started
    }

    /// The names of what was sent and not answered.
    pub(super) fn unanswered(&self) -> Vec<Arc<str>> {
        let sent = self.entries.iter();
        let sent = sent.filter(|entry| entry.state == State::Sent);
        sent.map(|entry| entry.name().clone()).collect()
    }

    /// What there is of it that others may point at.
    pub(super) fn making(&self) -> Making {
        let sent = self.in_flight.as_ref().filter(|sent| sent.makes);
        let unseen = self.resync.map_or(u64::MAX, |waves| waves.first);
        Making {
            sent: sent.map_or(Waves::NONE, |sent| sent.waves),
            unsent: unseen.min(self.dirty.first_present()),
        }
    }

    /// The first wave of which anything is under way or waits: what was removed by it or later the client may still point at.
    pub(super) fn used_since(&self) -> u64 {
        let sent = self.in_flight.as_ref();
        let sent = sent.map(|sent| sent.waves.and(sent.mends));
        let waves = sent.into_iter().chain(self.resync);
        let waves = waves.chain([self.trials.waves()]);
        waves.fold(self.dirty.waves(), Waves::and).first
    }

    /// How many names are known to be gone, and wait.
    pub(super) fn withheld(&self) -> usize {
        self.dirty.gone()
    }

    /// Whether the client goes on with an older version of something, because it rejected a newer one, or that it is gone.
    pub(super) fn is_behind(&self) -> bool {
        let rejected = self.rejected.keys();
        let mut entries = rejected.filter_map(|name| self.entries.get(name));
        // What it uses while that stands is what was good before.
        entries.any(|entry| entry.is_behind() || entry.is_used())
    }

    /// Notes that names may differ from before; they are sorted.
    pub(super) fn changed<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>, wave: u64) {
        self.wave = wave;
        let mut walk = self.entries.walk();
        let names: Vec<_> = names
            .filter(|name| walk.to(name).is_some() || self.wildcard)
            .cloned()
            .collect();
        let due = Due::new(Why::Changed, Waves::of(wave));
        self.note(due, |dirty| {
            dirty.add_sorted(names.into_iter().map(|name| (name, due)));
        });
    }

    /// Notes that anything may differ from before.
    pub(super) fn changed_anyhow(&mut self, wave: u64) {
        self.wave = wave;
        let known = self.resync.unwrap_or(Waves::NONE);
        let waves = known.and(Waves::of(wave)).and(self.dirty.waves());
        self.resync = Some(waves);
        self.dirty.retain(|_, due| due.why > Why::Changed);
    }

    /// Has resources sent again although they did not change, if the client has them. They are found by names that the
    /// client asked for: whoever makes clusters must not give them endpoints of another name (`service_name`).
    pub(super) fn repeat(&mut self, names: &[Arc<str>]) {
        let has = |name: &&Arc<str>| {
            let entry = self.entries.get(name);
            entry.is_some_and(|entry| entry.asked && entry.sent().is_some())
        };
        let names: Vec<_> = names.iter().filter(has).cloned().collect();
        self.mark(names, Due::new(Why::Again, Waves::NONE));
    }

    fn mark(&mut self, names: impl IntoIterator<Item = Arc<str>>, due: Due) {
        self.note(due, |dirty| {
            dirty.add(names.into_iter().map(|name| (name, due)));
        });
    }

    /// Adds names to those that have to be looked at, unless there are too many to be worth it.
    fn note(&mut self, due: Due, add: impl FnOnce(&mut Dues)) {
        let changed = due.why == Why::Changed;
        if let Some(waves) = self.resync.as_mut().filter(|_| changed) {
            *waves = waves.and(due.waves);
            return;
        }
        add(&mut self.dirty);
        if changed && self.dirty.len() > BACKLOG.max(2 * self.entries.len()) {
            self.changed_anyhow(self.wave);
        }
    }

    /// If everything may have to be sent: names it.
    fn look_at_all(&mut self, view: &dyn View) {
        let Some(waves) = self.resync.take() else {
            return;
        };
        let mut names: Vec<_> = self.entries.iter().map(|e| e.name().clone()).collect();
        if self.wildcard {
            names.extend(view.wildcard(self.kind));
        }
        let due = Due::new(Why::Changed, waves);
        self.dirty.add(names.into_iter().map(|name| (name, due)));
    }

    /// Looks at all names that may have to be sent. What is not sent then has to be given back by [`Self::postpone`].
    pub(super) fn plan(&mut self, view: &dyn View) -> Plan {
        let mut plan = Plan::default();
        let asked = self.asked_meanwhile();
        if asked.is_none() {
            // Alone, so that it is known what a rejection is about. All else goes with the next response.
            if let Some(trial) = self.trial(view) {
                return trial;
            }
            self.look_at_all(view);
        }
        let dues = asked.unwrap_or_else(|| self.dirty.take());
        if dues.is_empty() {
            return plan;
        }
        let mut walk = self.entries.walk();
        let entries: Vec<Option<&Entry>> = dues
            .iter()
            .map(|(name, _)| walk.to(name).map(|entry| &*entry))
            .collect();
        let wanted: Vec<bool> = dues
            .iter()
            .zip(&entries)
            .map(|((name, due), entry)| {
                if due.gone {
                    return false;
                }
                entry.is_some_and(|entry| entry.asked)
                    || (self.wildcard && view.covers(self.kind, name))
            })
            .collect();
        // Only these: to ask for a resource is to use it.
        let names: Vec<&str> = dues
            .iter()
            .zip(&wanted)
            .filter(|(_, wanted)| **wanted)
            .map(|((name, _), _)| &**name)
            .collect();
        let mut resources = view.get_all(self.kind, &names).into_iter();
        for (((name, due), entry), wanted) in dues.into_iter().zip(entries).zip(wanted) {
            let resource = wanted.then(|| resources.next().flatten()).flatten();
            let resource = resource.map(|resource| dress(self.expires, resource));
            let told = entry.is_some_and(|entry| entry.state != State::Waiting);
            let asked = entry.is_some_and(|entry| entry.asked);
            let same = |new: &Arc<Resource>, old: &Arc<Resource>| {
                // Of what a client has from an earlier stream the TTL may not be known.
                Arc::ptr_eq(new, old) || new.version() == old.version() && new.ttl() == old.ttl()
            };
            // A rejected version is not sent again, also not behind its cluster.
            let rejected = entry.is_some_and(|entry| entry.state == State::Rejected);
            let still_there = entry.is_some_and(Entry::is_still_there);
            let former = entry.is_some_and(Entry::is_used);
            let rejection = self.rejected.get(&name);
            let rejection = rejection.filter(|_| rejected || still_there || former);
            let mends = rejection.map_or(Waves::NONE, |rejection| rejection.waves);
            let again = due.why == Why::Again && !rejected;
            let group = match (&resource, entry.and_then(Entry::sent)) {
                _ if due.why == Why::Asked => &mut plan.answers,
                (Some(new), Some(old)) if !again && same(new, old) => {
                    if former {
                        forgive(&mut self.rejected, self.kind, &name, view);
                    }
                    continue;
                }
                (Some(_), _) => &mut plan.upserts,
                (None, Some(_)) => &mut plan.removals,
                (None, None) if again && still_there => &mut plan.removals,
                (None, None) if asked && (again || !told) => &mut plan.answers,
                (None, None) => {
                    if entry.is_none() {
                        view.unused(self.kind, &name);
                    }
                    continue;
                }
            };
            group.push(Item {
                name,
                resource,
                due,
                mends,
                refresh: false,
            });
        }
        // Of several Envoy (1.40) does not say which it rejects, and takes that for known if it comes again.
        if self.kind == ResourceType::ExtensionConfig {
            let later = plan.keep_one();
            self.dirty.add(later);
        }
        plan
    }

    /// Puts back what may not be sent yet: what may point at something that others are making, and what was removed by a
    /// wave from `used` on, because something may still point at it.
    pub(super) fn postpone(&mut self, plan: &mut Plan, making: &[Making], used: u64) {
        let upserts = plan
            .upserts
            .extract_if(.., |item| making.iter().any(|m| m.holds(item.due.waves)))
            .map(Item::into_due);
        self.dirty.add(upserts);
        let removals = plan
            .removals
            .extract_if(.., |item| item.due.waves.last >= used)
            .map(|item| {
                let gone = Due {
                    gone: true,
                    ..item.due
                };
                (item.name, gone)
            });
        self.dirty.add(removals);
        // What was rejected beside something new goes with nothing new: it has to show who is at fault.
        let again = |item: &mut Item| item.due.why == Why::Again;
        let alone = plan.answers.is_empty();
        if plan.removals.iter_mut().any(again) {
            let later = plan.removals.extract_if(.., |item| again(item) != alone);
            let mut later: Vec<_> = later.collect();
            if alone {
                later.append(&mut plan.upserts);
            }
            self.dirty.add(later.into_iter().map(Item::into_due));
        }
    }

    /// Whether there is something to say once a plan has been cut to what may be sent now.
    pub(super) fn owes(&self, plan: &Plan) -> bool {
        self.due || !plan.is_empty() || !self.refresh.is_empty()
    }

    /// Takes a plan as sent and gives what the response contains; `None` where this variant has no words for it.
    pub(super) fn commit(
        &mut self,
        plan: Plan,
        view: &dyn View,
        bundles: &Bundles,
    ) -> Option<Batch> {
        let owed = std::mem::take(&mut self.due);
        let full = self.is_full();
        let notes_updates = full || self.kind == ResourceType::Cluster;
        let keeps = full || self.beats.is_some();
        let (mut removed, mut updated, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lost, mut unasked, mut makes) = (false, false, false);
        let mut items = plan.into_items();
        self.add_refreshed(&mut items);
        let resources = items.iter().filter_map(|item| item.resource.as_ref());
        // Keys are one node's own, and to be forgotten with it.
        let mut resources = if self.kind == ResourceType::Secret {
            Arc::new(resources.cloned().collect())
        } else {
            bundles.share(resources)
        };
        let mut walk = self.entries.walk();
        for item in items.into_iter().filter(|item| !item.refresh) {
            let Item { name, resource, .. } = item;
            let over = |known: &&mut Rejection| !known.stands(self.kind, &name, view);
            if let Some(rejection) = self.rejected.get_mut(&name).filter(over) {
                rejection.error = None;
            }
            let entry = walk.to(&name);
            if let Some(new) = resource {
                makes = true;
                let before = entry.as_ref().and_then(|entry| entry.sent());
                // Not a look at what there are thousands of where nobody needs it.
                let differs = (notes_updates || keeps)
                    && before.is_none_or(|old| old.version() != new.version());
                // What the client did not take is new to it, also if it comes again, and can be wrong with a full list.
                let taken = entry
                    .as_ref()
                    .is_some_and(|entry| entry.state == State::Acked);
                if notes_updates && (differs || !taken) {
                    updated.push(new.name().clone());
                }
                match entry {
                    Some(entry) => {
                        if keeps && differs {
                            self.kept.replace(entry, full);
                        }
                        entry.send(new);
                    }
                    None => fresh.push(Entry::of(new, State::Sent)),
                }
                continue;
            }
            if let Some(entry) = entry {
                let untold = entry.state == State::Waiting || entry.is_still_there();
                lost |= untold || entry.sent().is_some();
                unasked |= !entry.asked;
                entry.withdraw();
                // Where there are no words for it, there is no answer to wait for. It is used until the name is given up.
                if self.mode == Mode::Sotw && !full {
                    self.rejected.remove(&name);
                    if !entry.asked {
                        entry.lose();
                    }
                }
            } else {
                lost = true;
            }
            if let Some(beats) = &mut self.beats {
                beats.forget(&name);
            }
            self.kept.forget(&name);
            removed.push(name);
        }
        self.entries.add(fresh);
        if unasked {
            self.forget_gone(view);
        }
        // State of the world has no removals. For listeners and clusters they show by what is left out of the full
        // list; for the other types nothing can be said.
        let silent = match self.mode {
            Mode::Delta => false,
            Mode::Sotw if full => resources.is_empty() && !lost && !owed,
            Mode::Sotw => resources.is_empty() && !owed,
        };
        if silent {
            return None;
        }
        if full {
            resources = bundles.share(self.entries.iter().filter_map(|entry| self.listed(entry)));
        }
        if self.mode == Mode::Sotw {
            removed.clear();
        }
        Some(Batch {
            resources,
            removed: removed.into(),
            updated,
            makes,
        })
    }

    /// Says nothing more, but for what is in flight.
    pub(super) fn hush(&mut self) {
        self.due = false;
        self.dirty = Dues::default();
        self.resync = None;
        self.refresh = Vec::new();
        self.trials = Trials::default();
    }

    /// Forgets what is gone and was not asked for, once the client uses nothing of it any more.
    fn forget_gone(&mut self, view: &dyn View) {
        let gone = |entry: &Entry| entry.state == State::Absent && !entry.is_still_there();
        self.retain(view, |entry| entry.asked || !gone(entry));
    }

    /// Forgets names but for some, with all that was noted of them.
    fn retain(&mut self, view: &dyn View, keep: impl Fn(&Entry) -> bool) {
        let kind = self.kind;
        self.entries.retain(|entry| {
            let kept = keep(entry);
            if !kept {
                view.unused(kind, entry.name());
            }
            kept
        });
        let entries = &self.entries;
        self.rejected.retain(|name, _| entries.get(name).is_some());
        self.kept.retain(|name| entries.get(name).is_some());
        if let Some(beats) = &mut self.beats {
            beats.retain(|name| entries.get(name).is_some());
        }
    }

    /// Notes that a batch left under this nonce, with changes of the first of these waves, which mends what was rejected of the
    /// second.
    pub(super) fn sent(&mut self, nonce: u64, (waves, mends): (Waves, Waves), batch: &Batch) {
        for resource in &**batch.resources {
            self.note_ttl(resource);
        }
        self.in_flight = Some(InFlight {
            nonce,
            // What is yet to be tried is not with the client either.
            waves: waves.and(self.trials.coming()),
            mends,
            makes: batch.makes || !self.trials.is_empty(),
            resources: batch.resources.list().clone(),
            removed: batch.removed.clone(),
            updated: if self.is_full() {
                batch.updated.clone()
            } else {
                Vec::new()
            },
        });
    }

    /// "For Listener and Cluster resource types […] the server must include the complete state of the world".
    fn is_full(&self) -> bool {
        self.mode == Mode::Sotw
            && matches!(self.kind, ResourceType::Listener | ResourceType::Cluster)
    }

    /// The names that the stream has to hear of.
    pub(super) fn followed(&self) -> impl Iterator<Item = &Arc<str>> {
        let within = self.within.iter().flatten();
        let more = within.filter(|name| !self.entries.get(name).is_some_and(|entry| entry.asked));
        self.asked().chain(more)
    }

    /// The names that the client asked for.
    fn asked(&self) -> impl Iterator<Item = &Arc<str>> {
        let asked = self.entries.iter().filter(|entry| entry.asked);
        asked.map(Entry::name)
    }

    /// Every name that the client was told something about or asked for.
    pub(super) fn status(&self) -> impl Iterator<Item = Status> + '_ {
        self.entries.iter().map(|entry| {
            let rejection = self.rejected.get(entry.name());
            // What it uses then is what was good before.
            let refused = rejection.filter(|_| entry.is_used());
            let refused = refused.and_then(|rejection| rejection.version.as_ref());
            let sent = entry.sent().map(|resource| resource.version());
            Status {
                kind: self.kind,
                name: entry.name().clone(),
                version: refused.or(sent).cloned(),
                state: match entry.state {
                    State::Absent if rejection.is_some_and(Rejection::clings) => State::Rejected,
                    _ if refused.is_some() => State::Rejected,
                    state => state,
                },
                error: rejection.and_then(|rejection| rejection.error.clone()),
            }
        })
    }
}
