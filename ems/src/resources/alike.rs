//! What nodes share that are alike: filter config, listener and route. Ten thousand sidecars of a service get the same
//! ones, so each is built and encoded once, when the first of them asks after a change, and what one of them says of it
//! counts for all.
//!
//! A [`Recipe`] has all that such a resource is made of but for what is the same for every node of a region. Nodes choose
//! what is in it, so one that no connected node has is forgotten. Not if what is made of it is bad and something was good
//! before: those who come back then get that; but of these there is a limit.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use isthmus_model::{RegionName, ServiceName};
use isthmus_proto::v1;

use super::{
    Inner, NodeKind, filter, listener,
    node::Node,
    reader::{Reader, Served},
    version::Version,
    view::resource,
};
use crate::xds::{Resource, ResourceType};

/// How many recipes are kept that no connected node has.
const KEPT: usize = 256;

/// What a resource is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Recipe {
    /// A filter config: for which sort of node, whose requests, and where its code lies.
    Filter(NodeKind, Option<ServiceName>, String),
    /// A listener: for which sort of node, and where it listens.
    Listener(NodeKind, SocketAddr),
    /// The route.
    Route,
}

impl Recipe {
    /// All of a node.
    fn of(node: &Node) -> [Self; 3] {
        let caller = (node.kind != NodeKind::Gateway).then(|| node.service.clone());
        [
            Self::Filter(node.kind, caller, node.filter.clone()),
            Self::Listener(node.kind, node.listen),
            Self::Route,
        ]
    }

    fn kind(&self) -> ResourceType {
        match self {
            Self::Filter(..) => ResourceType::ExtensionConfig,
            Self::Listener(..) => ResourceType::Listener,
            Self::Route => ResourceType::Route,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Filter(..) => filter::FILTER,
            Self::Listener(kind, _) => listener::listener_name(*kind),
            Self::Route => listener::ROUTE,
        }
    }

    /// What it makes of the records as they are; `None`: nothing that a node could use.
    fn make(&self, inner: &Inner) -> Option<Arc<Resource>> {
        let (kind, name) = (self.kind(), self.name());
        match self {
            Self::Filter(node, caller, code) => {
                let config = inner.filter_config(*node, caller.as_ref());
                resource(kind, name, &filter::extension(code, &config))
            }
            Self::Listener(node, at) => {
                let believed = believed(inner);
                let listener = listener::listener(*node, *at, &believed, &inner.settings)?;
                resource(kind, name, &listener)
            }
            Self::Route => resource(kind, name, &listener::route(&inner.settings)),
        }
    }
}

/// The regions whose callers a gateway can tell from others.
fn believed(inner: &Inner) -> Vec<RegionName> {
    let regions = inner.facts.regions();
    let with_roots = regions
        .iter()
        .filter(|region| !region.checked.trust_bundle.trim().is_empty());
    let mut names: Vec<_> = with_roots
        .map(|region| region.checked.name.clone())
        .collect();
    names.sort();
    names
}

/// What is made of one recipe.
struct Made {
    recipe: Recipe,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    version: Option<Version>,
    /// Of the records that it was made of; 0: not made yet.
    epoch: u64,
}

impl Made {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, inner: &Inner, to: &Reader) -> Option<Served> {
        let mut state = self.lock();
        // Before the records are read: a change from here on makes it out of date.
        let epoch = inner.alike.epoch.load(Ordering::Acquire);
        if state.epoch != epoch {
            state.epoch = epoch;
            match (self.recipe.make(inner), &mut state.version) {
                (Some(new), Some(version)) => drop(version.replace(new)),
                (new, version) => *version = new.map(Version::new),
            }
        }
        let version = state.version.as_ref()?;
        Some(version.served(self.recipe.kind(), to))
    }

    fn is_current(&self, resource: &Arc<Resource>) -> bool {
        let state = self.lock();
        state.version.as_ref().is_some_and(|v| v.is(resource))
    }

    fn rejection(&self) -> Option<v1::Rejection> {
        let state = self.lock();
        state.version.as_ref()?.rejection(self.recipe.kind())
    }
}

/// What is made of every recipe that a connected node has.
pub(super) struct Alike {
    made: Mutex<HashMap<Recipe, Arc<Made>>>,
    /// Counts changes of the records that any of it is made of.
    epoch: AtomicU64,
}

impl Default for Alike {
    fn default() -> Self {
        Self {
            made: Mutex::default(),
            epoch: AtomicU64::new(1),
        }
    }
}

impl Alike {
    fn lock(&self) -> MutexGuard<'_, HashMap<Recipe, Arc<Made>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records changed: what is made of them is out of date.
    pub(super) fn outdate(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// What there is for a node.
    pub(super) fn join(&self, node: &Node) -> Share {
        let mut all = self.lock();
        let made = Recipe::of(node).into_iter().map(|recipe| {
            let made = all.entry(recipe.clone()).or_insert_with(|| {
                let state = Mutex::default();
                Arc::new(Made { recipe, state })
            });
            made.clone()
        });
        Share(made.collect())
    }

    /// A node goes.
    pub(super) fn leave(&self, share: Share) {
        let mut all = self.lock();
        for made in share.0 {
            // The table has the other.
            let last = Arc::strong_count(&made) == 2;
            let holds = || {
                let former = made.rejection().is_some_and(|r| r.former_served);
                let unused = all.values().filter(|made| Arc::strong_count(made) == 1);
                former && unused.count() < KEPT
            };
            if last && !holds() {
                all.remove(&made.recipe);
            }
        }
    }

    /// Whether this is what some of its name's nodes are to have now.
    pub(super) fn is_current(&self, resource: &Arc<Resource>) -> bool {
        self.lock().values().any(|made| made.is_current(resource))
    }

    /// What every client rejected that answered. Many nodes may say the same: that is one.
    pub(super) fn rejections(&self) -> Vec<v1::Rejection> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let all = self.lock();
        let current = all.values().filter(|made| made.lock().epoch == epoch);
        let mut found: Vec<_> = current.filter_map(|made| made.rejection()).collect();
        let key = |r: &v1::Rejection| (r.type_url.clone(), r.error.clone(), r.version.clone());
        found.sort_by_key(key);
        found.dedup_by(|a, b| (&a.type_url, &a.error) == (&b.type_url, &b.error));
        found
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

/// What is for one node; to be given back by [`Alike::leave`].
#[derive(Default)]
pub(super) struct Share(Vec<Arc<Made>>);

impl Share {
    pub(super) fn get(
        &self,
        kind: ResourceType,
        name: &str,
        inner: &Inner,
        to: &Reader,
    ) -> Option<Served> {
        let is = |made: &&Arc<Made>| made.recipe.kind() == kind && made.recipe.name() == name;
        self.0.iter().find(is)?.get(inner, to)
    }
}

#[cfg(test)]
mod tests;
