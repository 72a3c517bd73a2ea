//! Carries writes through the store and its changes into the [`Registry`]: the registry's shell, with the clock, the
//! locks and the waiting that the registry itself does without.
//!
//! A write is planned on what is known, committed, and answered once its change has come back and was applied, so
//! that whoever wrote can read it. A plan that lost a race is made again. One task follows the store; nothing else
//! changes the registry.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant, SystemTime},
};

use isthmus_model::ServiceName;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    metrics::Metrics,
    record::EndpointId,
    registry::{Affected, Effect, Now, Outcome, Planned, Quarantined, Registry, Rejection},
    store::{Event, Store, StoreError, Watch},
};

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Plans of one write that may lose their race: more than that is a client fighting another.
const ATTEMPTS: usize = 8;
/// How long a write waits for its own change, once it is durable.
const APPLIED_WITHIN: Duration = Duration::from_secs(5);
/// Pause before a store that failed is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// Events that are applied together.
const TOGETHER: usize = 256;

/// The registry as everybody reads it.
#[derive(Clone, Debug)]
pub struct Shared(Arc<RwLock<Registry>>);

impl Shared {
    /// Shares a registry.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self(Arc::new(RwLock::new(registry)))
    }

    /// The registry, which stands still while the guard lives: keep it short, and never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Registry> {
        // Nobody panics with the lock held, by lint; were it so, what is there is still the last applied change.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a write was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It was refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It lost every race.
    #[error("others write the same record all the time: try again later")]
    Contended,
    /// The store cannot take it.
    #[error(transparent)]
    Store(StoreError),
}

/// Writes to the registry.
#[derive(Clone)]
pub struct Registrar {
    store: Arc<dyn Store>,
    shared: Shared,
    applied: watch::Receiver<Option<u64>>,
    /// Writers go together, but whoever lost a race tries again alone: many who write one record would else keep
    /// beating each other.
    turns: Arc<tokio::sync::RwLock<()>>,
    metrics: Arc<Metrics>,
}

/// Follows the store; to be [run](Follower::run).
pub struct Follower {
    registrar: Registrar,
    applied: watch::Sender<Option<u64>>,
    held: BTreeMap<ServiceName, Vec<EndpointId>>,
    /// Records that were said to be unreadable, with the revision of each.
    set_aside: BTreeMap<String, u64>,
}

/// This moment.
#[must_use]
pub fn now() -> Now {
    Now {
        steady: Instant::now(),
        wall: SystemTime::now(),
    }
}

impl Registrar {
    /// The two sides of a registry: one to write with, one to run.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        registry: Registry,
        metrics: Arc<Metrics>,
    ) -> (Self, Follower) {
        let (sender, applied) = watch::channel(None);
        let registrar = Self {
            store,
            shared: Shared::new(registry),
            applied,
            turns: Arc::default(),
            metrics,
        };
        let follower = Follower {
            registrar: registrar.clone(),
            applied: sender,
            held: BTreeMap::new(),
            set_aside: BTreeMap::new(),
        };
        (registrar, follower)
    }

    /// The registry, to read.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Waits for the first load.
    pub async fn loaded(&self) {
        let mut applied = self.applied.clone();
        // It fails when the follower has ended, which is when everything does.
        let _ = applied.wait_for(Option::is_some).await;
    }

    /// Does a write.
    ///
    /// # Errors
    /// Those of the plan, and of the store.
    pub async fn write<M>(
        &self,
        plan: impl Fn(&Registry, Now) -> Result<Planned<M>, Rejection>,
    ) -> Result<(Outcome, M), WriteError> {
        let mut together = Some(self.turns.read().await);
        let mut alone = None;
        for _ in 0..ATTEMPTS {
            let mut applied = self.applied.clone();
            applied.mark_unchanged();
            let Planned {
                effect,
                outcome,
                answer,
            } = plan(&self.shared.read(), now())?;
            match effect {
                Effect::Nothing => return Ok((outcome, answer)),
                Effect::Renew(key) => {
                    // Here before it is answered, so that nothing answered can lapse; the store tells the other servers.
                    if !self.shared.write().heartbeat(&key, now().steady) {
                        continue;
                    }
                    let renewed = self.store.renew(vec![key]).await;
                    renewed.map_err(WriteError::Store)?;
                    return Ok((outcome, answer));
                }
                Effect::Commit(transaction) => {
                    let begun = Instant::now();
                    let committed = self.store.commit(transaction).await;
                    self.metrics.committed(begun.elapsed());
                    match committed {
                        Ok(revision) => {
                            let reached = |at: &Option<u64>| *at >= Some(revision);
                            let come = timeout(APPLIED_WITHIN, applied.wait_for(reached)).await;
                            if come.is_err() {
                                warn!(revision, "a write is durable but was not applied in time");
                            }
                            return Ok((outcome, answer));
                        }
                        Err(StoreError::Conflict(_)) => {
                            // Whoever won is on the way to us, unless that came while we asked.
                            let _ = timeout(TICK, applied.changed()).await;
                            drop(together.take());
                            if alone.is_none() {
                                alone = Some(self.turns.write().await);
                            }
                        }
                        Err(error) => return Err(WriteError::Store(error)),
                    }
                }
            }
        }
        Err(WriteError::Contended)
    }
}

impl Follower {
    /// Follows the store for ever. `publish` is told what each step touched before the writes in it are answered.
    pub async fn run(mut self, mut publish: impl FnMut(BTreeSet<Affected>)) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Watch {
                snapshot,
                mut events,
            } = match self.registrar.store.watch().await {
                Ok(watch) => watch,
                Err(error) => {
                    warn!(%error, "cannot watch the store; trying again");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let affected = {
                let mut registry = self.registrar.shared.write();
                registry.load(snapshot, now().steady)
            };
            info!(changed = affected.len(), "loaded the registry");
            self.applied(affected, &mut publish);
            let mut batch = Vec::with_capacity(TOGETHER);
            loop {
                tokio::select! {
                    biased;
                    count = events.recv_many(&mut batch, TOGETHER) => {
                        if count == 0 {
                            break;
                        }
                        let affected = self.take(batch.drain(..));
                        self.applied(affected, &mut publish);
                    }
                    _ = tick.tick() => self.expire().await,
                }
            }
            warn!("the store ended its watch; loading again");
        }
    }

    fn take(&self, events: impl Iterator<Item = Event>) -> BTreeSet<Affected> {
        let mut affected = BTreeSet::new();
        let now = now().steady;
        let mut registry = self.registrar.shared.write();
        for event in events {
            match event {
                Event::Changed(change) => affected.extend(registry.apply(change, now)),
                Event::Renewed(keys) => registry.renewed(&keys, now),
            }
        }
        affected
    }

    fn applied(
        &mut self,
        affected: BTreeSet<Affected>,
        publish: &mut impl FnMut(BTreeSet<Affected>),
    ) {
        self.tell_unreadable();
        if !affected.is_empty() {
            self.registrar.metrics.changed(affected.len());
            publish(affected);
        }
        let revision = self.registrar.shared.read().revision();
        self.applied.send_if_modified(|applied| {
            let differs = *applied != revision;
            *applied = revision;
            differs
        });
    }

    /// Says of each record that cannot be read, once, which it is and why.
    fn tell_unreadable(&mut self) {
        let registry = self.registrar.shared.read();
        let found = registry.quarantined();
        for (key, Quarantined { reason, revision }) in found {
            if self.set_aside.get(key) != Some(revision) {
                warn!(%key, %reason, "a stored record cannot be read and is set aside: put it again, or delete it");
            }
        }
        let revisions = found
            .iter()
            .map(|(key, found)| (key.clone(), found.revision));
        self.set_aside = revisions.collect();
    }

    async fn expire(&mut self) {
        let (due, transactions) = {
            let mut registry = self.registrar.shared.write();
            let due = registry.leases().due(Instant::now());
            let transactions = registry.expire(&due);
            (due, transactions)
        };
        for (service, ids) in &due.lapsed {
            info!(%service, count = ids.len(), "leases lapsed; removing the endpoints");
        }
        for service in due.held.keys() {
            if !self.held.contains_key(service) {
                warn!(%service, "most leases are running out at once; holding the endpoints until heartbeats return or somebody deletes them");
            }
        }
        for service in self.held.keys() {
            if !due.held.contains_key(service) {
                info!(%service, "leases are no longer held");
            }
        }
        self.held = due.held;
        for transaction in transactions {
            match self.registrar.store.commit(transaction).await {
                // Somebody wrote one of them: what is still due is due at the next look.
                Ok(_) | Err(StoreError::Conflict(_)) => {}
                Err(error) => warn!(%error, "cannot remove endpoints whose leases lapsed"),
            }
        }
    }
}
