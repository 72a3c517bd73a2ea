//! One xDS stream as a state machine: requests, changes and times in, actions out.
//!
//! Several types share an aggregated stream; this module orders them, [`subscription`](super::subscription) does the
//! rest. Of what changed together, the new waits until the types it may point at are acknowledged, and what is gone until
//! nothing can point at it any more. Answers to what the client asked for wait for nothing but their own type: one
//! response per type is in flight, and what changes meanwhile merges into the next.
//!
//! Envoy acknowledges clusters only once they are warm, so what waits for clusters waits until they can be used. While
//! any of them warms, Envoy sends no request at all about clusters.
//!
//! A rejection counts as an answer to what is new: the other types go on, and one bad resource does not hold back good ones.
//! But the client goes on with what it had instead, which may point at what is gone: removals wait until that is mended.
//!
//! Pure: no clock, no channel, no I/O. Nonces are a counter.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod client;

mod message;

use std::{sync::Arc, time::Duration};

use xxhash_rust::xxh3::Xxh3;

use super::{
    Bundle, Bundles, Changed, ResourceType, View, Witness,
    limits::{Limits, Refusal},
    subscription::{Making, Plan, Subscription, Verdict},
};
pub use message::{Action, Ask, Mode, Refused, Request, Response, State, Status};

/// Removals that wait for as long as the client does not take something else that may point at them. What is rejected may be so
/// for long: a client is not to collect what is gone without end.
const WITHHELD: usize = 1_024;

/// The state of one stream.
#[derive(Debug)]
pub struct Stream {
    mode: Mode,
    /// `None`: aggregated.
    only: Option<ResourceType>,
    limits: Arc<Limits>,
    bundles: Arc<Bundles>,
    /// The client knows of TTLs.
    expires: bool,
    /// Whose word it is that comes by it.
    witness: Witness,
    /// In the order of types.
    subscriptions: Vec<Subscription>,
    /// Bytes of what it said it has from an earlier stream.
    remembered: usize,
    nonce: u64,
    /// Counts what was told of changes: what changed together is kept in order, what did not need not wait.
    wave: u64,
}

impl Stream {
    /// A stream of one type, or an aggregated one.
    pub fn new(mode: Mode, only: Option<ResourceType>, limits: Arc<Limits>) -> Self {
        Self {
            mode,
            only,
            limits,
            bundles: Arc::default(),
            expires: false,
            witness: Witness::default(),
            subscriptions: Vec::new(),
            remembered: 0,
            nonce: 0,
            // Before the first that it is told of, a client that comes back may have missed some.
            wave: 1,
        }
    }

    /// The same for a client that says whether it knows of resources with a TTL. To others they are sent without.
    #[must_use]
    pub fn with_ttl(mut self, known: bool) -> Self {
        self.expires = known;
        self
    }

    /// The same for the client of a node that can be told from others.
    #[must_use]
    pub fn of(mut self, node: Witness) -> Self {
        self.witness = node;
        self
    }

    /// The same, which shares what it sends with the other streams that have these.
    #[must_use]
    pub fn with_bundles(mut self, bundles: Arc<Bundles>) -> Self {
        self.bundles = bundles;
        self
    }

    /// Takes a request: its verdict on an earlier response and its subscription, in this order, both always. What it asks for
    /// goes with [`Self::flush`], once all requests were taken that are there: only then it is known what the client has. Only
    /// that nobody serves a type is said at once.
    pub fn on_request(
        &mut self,
        request: Request,
        view: &dyn View,
    ) -> Result<Vec<Action>, Refused> {
        let mut done = Vec::new();
        match self.take(request, view, &mut done) {
            Ok(()) => Ok(done),
            Err(why) => Err(Refused { why, done }),
        }
    }

    fn take(
        &mut self,
        request: Request,
        view: &dyn View,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let kind = match (self.only, &*request.type_url) {
            (Some(kind), "") => kind,
            (Some(kind), url) if url == kind.type_url() => kind,
            (Some(kind), _) => {
                return Err(Refusal::WrongType {
                    expected: kind.type_url(),
                    found: self.limits.shorten(&request.type_url),
                });
            }
            (None, "") => return Err(Refusal::MissingType),
            (None, url) => match ResourceType::from_type_url(url) {
                Some(kind) => kind,
                None => {
                    actions.extend(self.disclaim(request)?);
                    return Ok(());
                }
            },
        };
        let (limits, witness) = (self.limits.clone(), self.witness);
        let returning = self.weigh(kind, &request.ask);
        let subscription = self.subscription(kind);
        let error: Option<Arc<str>> = request.error.map(|words| limits.shorten(&words).into());
        let nonce = request.nonce.parse().ok();
        let nonce = nonce.filter(|nonce: &u64| nonce.to_string() == request.nonce);
        let mut judged =
            nonce.and_then(|nonce| subscription.verdict(nonce, error.as_ref(), witness, view));
        let ruled = judged.as_mut().map(|v| std::mem::take(&mut v.ruled));
        let ruled = ruled.into_iter().flatten();
        actions.extend(ruled.map(|resource| Action::Ruled(kind, resource)));
        match (judged, error) {
            // A rejection of what is no longer in flight says something all the same.
            (verdict, Some(error)) => {
                let Verdict { blamed, fresh, .. } = verdict.unwrap_or_default();
                actions.push(Action::Rejected {
                    kind,
                    names: blamed,
                    fresh,
                    error,
                });
            }
            (Some(_), None) => actions.push(Action::Acked { kind }),
            (None, None) => {}
        }
        match request.ask {
            Ask::Delta {
                subscribe,
                unsubscribe,
                initial,
            } => {
                let returns = kind == ResourceType::Endpoints && !initial.is_empty();
                let returns = returns && !subscription.started();
                returning?;
                subscription.ask_delta(subscribe, unsubscribe, initial, view, &limits, actions)?;
                if returns {
                    self.warm();
                }
            }
            Ask::Sotw { names, version } => {
                subscription.ask_sotw(names, &version, view, &limits, actions)?;
            }
        }
        Ok(())
    }

    /// Adds up what a client says it has from an earlier stream, which is kept for as long as the client has it.
    fn weigh(&mut self, kind: ResourceType, ask: &Ask) -> Result<(), Refusal> {
        let known = self.find(kind).ok();
        let known = known.and_then(|at| self.subscriptions.get(at));
        if let Ask::Delta { initial, .. } = ask
            && known.is_none_or(|known| !known.started())
        {
            self.remembered += initial.keys().map(String::len).sum::<usize>();
        }
        let limit = self.limits.all_names_bytes;
        // Also what it has by a wildcard is in it.
        if self.remembered > limit.saturating_mul(2) {
            return Err(Refusal::NamesTooLong { limit });
        }
        Ok(())
    }

    /// Has names looked at that changed together.
    pub fn on_change(&mut self, changed: &Changed) {
        self.wave += 1;
        for subscription in &mut self.subscriptions {
            let names = changed.of_type(subscription.kind());
            subscription.changed(names, self.wave);
        }
    }

    /// Has everything looked at: for a stream that missed changes.
    pub fn on_doubt(&mut self) {
        self.wave += 1;
        for subscription in &mut self.subscriptions {
            subscription.changed_anyhow(self.wave);
        }
    }

    /// When [`Self::on_tick`] has to be called, if nothing happens before; asked after everything that happens, because
    /// only here is it said what time it is. Times count from wherever the caller likes.
    pub fn wake_at(&mut self, now: Duration) -> Option<Duration> {
        let all = self.subscriptions.iter_mut();
        all.filter_map(|s| s.wake_at(now)).min()
    }

    /// Has what the client would forget otherwise refreshed.
    pub fn on_tick(&mut self, now: Duration) {
        for subscription in &mut self.subscriptions {
            subscription.tick(now);
        }
    }

    /// Sends what may be sent. Asked for after everything that happens; several things may happen before.
    pub fn flush(&mut self, view: &dyn View) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.pass(view, &mut actions) {}
        actions
    }

    /// Says nothing more of the type of a request that was refused: what was asked for before is answered, and the stream ends.
    pub fn hush(&mut self, kind: Option<ResourceType>) {
        let kind = self.only.or(kind);
        let at = kind.and_then(|kind| self.find(kind).ok());
        if let Some(subscription) = at.and_then(|at| self.subscriptions.get_mut(at)) {
            subscription.hush();
        }
    }

    /// How many notes it keeps of names, but for its [backlog](Self::backlog): for those who watch that a client cannot
    /// make it keep ever more.
    pub fn kept(&self) -> usize {
        self.subscriptions.iter().map(Subscription::kept).sum()
    }

    /// How many names it has yet to look at.
    pub fn backlog(&self) -> usize {
        self.subscriptions.iter().map(Subscription::backlog).sum()
    }

    /// Every resource that the client asked for or was sent.
    pub fn status(&self) -> impl Iterator<Item = Status> + '_ {
        self.subscriptions.iter().flat_map(Subscription::status)
    }

    /// The names that it follows.
    pub fn followed(&self) -> impl Iterator<Item = (ResourceType, Arc<str>)> + '_ {
        self.subscriptions
            .iter()
            .flat_map(|s| s.followed().map(|name| (s.kind(), name.clone())))
    }

    /// Says of each name of a type that nobody serves that it does not exist, so that the client need not wait. State
    /// of the world has no words for that. Nothing is kept of it, nor of what the client says to that: a request's bytes
    /// bound it, so the names are not counted.
    fn disclaim(&mut self, request: Request) -> Result<Option<Action>, Refusal> {
        let Ask::Delta { subscribe, .. } = request.ask else {
            return Ok(None);
        };
        for name in &subscribe {
            self.limits.check_name(name)?;
        }
        let mut removed: Vec<Arc<str>> = subscribe
            .into_iter()
            .filter(|n| n != "*")
            .map(Into::into)
            .collect();
        removed.sort();
        removed.dedup();
        Ok((!removed.is_empty()).then(|| {
            self.nonce += 1;
            Action::Send(Response {
                mode: self.mode,
                type_url: request.type_url.into(),
                version: hash_of(&Bundle::default(), &removed),
                nonce: self.nonce,
                resources: Arc::default(),
                removed: removed.into(),
            })
        }))
    }

    fn subscription(&mut self, kind: ResourceType) -> &mut Subscription {
        let at = match self.find(kind) {
            Ok(at) => at,
            Err(at) => {
                // Envoy (1.40) does not survive it when endpoints expire that it has by state of the world.
                let fatal = self.mode == Mode::Sotw && kind == ResourceType::Endpoints;
                let expires = self.expires && !fatal;
                let new = Subscription::new(kind, self.mode, expires, self.wave);
                self.subscriptions.insert(at, new);
                at
            }
        };
        #[allow(clippy::indexing_slicing, reason = "found or inserted there just now")]
        &mut self.subscriptions[at]
    }

    /// Where the subscription to a type is, or would be.
    fn find(&self, kind: ResourceType) -> Result<usize, usize> {
        let all = &self.subscriptions;
        all.binary_search_by_key(&kind, Subscription::kind)
    }

    /// Endpoints follow the clusters that are under way, also when the client comes back and has them already: it asks for
    /// both types at once, so clusters that changed meanwhile are sent before it is known that it wants their endpoints.
    fn warm(&mut self) {
        let clusters = self.find(ResourceType::Cluster).ok();
        let clusters = clusters.and_then(|at| self.subscriptions.get(at));
        if let Some(warming) = clusters.map(Subscription::unanswered) {
            self.follow(&warming);
        }
    }

    /// "Warming of Cluster is completed only when a new ClusterLoadAssignment response is supplied by management server even
    /// though there is no change in endpoints": endpoints follow the cluster of the same name. True: they can go now.
    fn follow(&mut self, clusters: &[Arc<str>]) -> bool {
        let endpoints = self.find(ResourceType::Endpoints).ok();
        let endpoints = endpoints.and_then(|at| self.subscriptions.get_mut(at));
        endpoints.is_some_and(|endpoints| {
            endpoints.repeat(clusters);
            !clusters.is_empty() && !endpoints.in_flight()
        })
    }

    /// Goes through the types once. True: something else may go now.
    fn pass(&mut self, view: &dyn View, actions: &mut Vec<Action>) -> bool {
        // `None`: in flight, so that nothing of the type can be sent now.
        let mut plans: Vec<Option<Plan>> = self
            .subscriptions
            .iter_mut()
            .map(|s| {
                if s.in_flight() {
                    None
                } else {
                    Some(s.plan(view))
                }
            })
            .collect();
        let mut settled = false;
        let mut warming = Vec::new();
        for at in 0..plans.len() {
            let Some(mut plan) = plans.get_mut(at).and_then(Option::take) else {
                continue;
            };
            let Some(kind) = self.subscriptions.get(at).map(Subscription::kind) else {
                continue;
            };
            let making = self.making(at, kind, &plan);
            let used = self.used_since(kind, &plan, &plans);
            let Some(subscription) = self.subscriptions.get_mut(at) else {
                continue;
            };
            subscription.postpone(&mut plan, &making, used);
            if !subscription.owes(&plan) {
                continue;
            }
            let waves = plan.waves();
            let Some(batch) = subscription.commit(plan, view, &self.bundles) else {
                settled = true;
                continue;
            };
            self.nonce += 1;
            subscription.sent(self.nonce, waves, &batch);
            match kind {
                ResourceType::Cluster => warming = batch.updated,
                // These come behind their clusters anyway.
                ResourceType::Endpoints => warming.retain(|name| {
                    let sent = &batch.resources;
                    sent.binary_search_by(|resource| resource.name().cmp(name))
                        .is_err()
                }),
                _ => {}
            }
            actions.push(Action::Send(Response {
                mode: self.mode,
                type_url: kind.type_url().into(),
                version: version_of(kind, &batch.resources, &batch.removed, view),
                nonce: self.nonce,
                resources: batch.resources,
                removed: batch.removed,
            }));
        }
        self.follow(&warming) || settled
    }

    /// What changes of a type may have to wait for.
    fn making(&self, at: usize, kind: ResourceType, plan: &Plan) -> Vec<Making> {
        // Envoy acknowledges a cluster only once it is warm, and it is warm once its endpoints came: endpoints must not
        // wait for their clusters.
        if plan.upserts() == 0 || kind == ResourceType::Endpoints {
            return Vec::new();
        }
        let earlier = self.subscriptions.iter().take(at);
        earlier.map(Subscription::making).collect()
    }

    /// The first wave whose removals of a type have to wait, because something may still point at what is gone.
    fn used_since(&self, kind: ResourceType, plan: &Plan, plans: &[Option<Plan>]) -> u64 {
        if plan.removals() == 0 {
            return u64::MAX;
        }
        let all = self.subscriptions.iter().zip(plans);
        // Listeners wait for nothing.
        let waiting = all
            .clone()
            .filter(|(s, _)| s.kind() != ResourceType::Listener);
        let waiting =
            waiting.map(|(s, plan)| s.withheld() + plan.as_ref().map_or(0, Plan::removals));
        let withheld = plan.removals() + waiting.sum::<usize>();
        let users = all.filter(|(user, _)| kind.outlives(user.kind()));
        let since = users.map(|(user, plan)| {
            // Endpoints point at nothing.
            let points = user.kind() != ResourceType::Endpoints;
            if points && withheld <= WITHHELD && user.is_behind() {
                return 1;
            }
            let planned = plan.as_ref().map_or(u64::MAX, Plan::first);
            user.used_since().min(planned)
        });
        since.min().unwrap_or(u64::MAX)
    }
}

/// What identifies the state of a type: the view's word, or a hash of what is sent.
pub(super) fn version_of(
    kind: ResourceType,
    resources: &Bundle,
    removed: &[Arc<str>],
    view: &dyn View,
) -> Arc<str> {
    let given = view.type_version(kind);
    given.unwrap_or_else(|| hash_of(resources, removed))
}

fn hash_of(resources: &Bundle, removed: &[Arc<str>]) -> Arc<str> {
    if removed.is_empty() {
        return resources.version().clone();
    }
    let mut hash = Xxh3::new();
    hash.update(resources.version().as_bytes());
    for name in removed {
        hash.update(b"\0");
        hash.update(name.as_bytes());
    }
    format!("{:016x}", hash.digest()).into()
}

#[cfg(test)]
mod tests;
