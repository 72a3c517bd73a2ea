//! The destinations that somebody uses, built and encoded, each once for all nodes.
//!
//! A name stays as long as a connected node uses it, also when nothing of that name exists: the node has to be told when
//! it does. Names that no record vouches for are counted, because callers choose them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use isthmus_model::{ClusterName, RegionName, ServiceName};
use prost::Message;

use super::{
    Facts, Limits, Names, Settings,
    cluster::{self, Built},
    destination::Standing,
};
use crate::xds::{Resource, ResourceType};

/// One destination in use.
pub(super) struct Slot {
    target: ClusterName,
    /// How many nodes use it.
    users: usize,
    pub(super) standing: Standing,
    pub(super) cluster: Arc<Resource>,
    pub(super) endpoints: Option<Arc<Resource>>,
}

/// How many names have a standing that is limited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    claimed: usize,
    unknown: usize,
}

impl Counts {
    pub(super) fn of(&mut self, standing: Standing) -> Option<&mut usize> {
        match standing {
            Standing::Vouched => None,
            Standing::Claimed => Some(&mut self.claimed),
            Standing::Unknown => Some(&mut self.unknown),
        }
    }

    pub(super) fn add(&mut self, standing: Standing) {
        if let Some(count) = self.of(standing) {
            *count += 1;
        }
    }

    fn remove(&mut self, standing: Standing) {
        if let Some(count) = self.of(standing) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn is_full(&mut self, standing: Standing, limit: usize) -> bool {
        self.of(standing).is_some_and(|count| *count >= limit)
    }
}

/// See the module.
pub(super) struct Table {
    slots: HashMap<Arc<str>, Slot>,
    /// Names of a service, with their regions and versions.
    by_service: BTreeMap<ServiceName, Vec<Arc<str>>>,
    counts: Counts,
    limits: Limits,
    /// Services that have sidecars, and how many.
    sidecars: BTreeMap<ServiceName, usize>,
}

/// A limit is reached.
pub(super) struct Full;

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            slots: HashMap::new(),
            by_service: BTreeMap::new(),
            counts: Counts::default(),
            limits,
            sidecars: BTreeMap::new(),
        }
    }

    /// Notes a sidecar that came.
    pub(super) fn add_sidecar(&mut self, service: &ServiceName) {
        *self.sidecars.entry(service.clone()).or_insert(0) += 1;
    }

    /// Notes a sidecar that went.
    pub(super) fn remove_sidecar(&mut self, service: &ServiceName) {
        if let Some(count) = self.sidecars.get_mut(service) {
            *count -= 1;
            if *count == 0 {
                self.sidecars.remove(service);
            }
        }
    }

    /// The services that have sidecars.
    pub(super) fn sidecars(&self) -> impl Iterator<Item = &ServiceName> {
        self.sidecars.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Slot> {
        self.slots.get(name)
    }

    /// Begins to use a name for one more node, which uses `names` already; `counts` are of these, and may be too high.
    pub(super) fn acquire(
        &mut self,
        name: &Arc<str>,
        target: &ClusterName,
        names: &HashSet<Arc<str>>,
        counts: &mut Counts,
        facts: &dyn Facts,
        settings: &Settings,
    ) -> Result<(), Full> {
        let known = self.slots.get(name).map(|slot| slot.standing);
        let fresh = match known {
            Some(_) => None,
            None => Some(cluster::build(target, facts, settings)),
        };
        let standing = known
            .or(fresh.as_ref().map(|built| built.standing))
            .unwrap_or(Standing::Unknown);
        if counts.is_full(standing, self.limits.per_node) {
            // Some may have become real since.
            *counts = self.count(names);
            if counts.is_full(standing, self.limits.per_node) {
                return Err(Full);
            }
        }
        if let Some(built) = fresh {
            if self.counts.is_full(standing, self.limits.in_all) {
                return Err(Full);
            }
            self.counts.add(standing);
            self.by_service
                .entry(target.service.clone())
                .or_default()
                .push(name.clone());
            let (cluster, endpoints) = encode(name, &built);
            self.slots.insert(
                name.clone(),
                Slot {
                    target: target.clone(),
                    users: 0,
                    standing,
                    cluster,
                    endpoints,
                },
            );
        }
        if let Some(slot) = self.slots.get_mut(name) {
            slot.users += 1;
        }
        counts.add(standing);
        Ok(())
    }

    fn count(&self, names: &HashSet<Arc<str>>) -> Counts {
        let mut counts = Counts::default();
        for slot in names.iter().filter_map(|name| self.slots.get(name)) {
            counts.add(slot.standing);
        }
        counts
    }

    /// Ends the use of a name by one node.
    pub(super) fn release(&mut self, name: &str) {
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        slot.users = slot.users.saturating_sub(1);
        if slot.users > 0 {
            return;
        }
        if let Some(slot) = self.slots.remove(name) {
            self.counts.remove(slot.standing);
            if let Some(names) = self.by_service.get_mut(&slot.target.service) {
                names.retain(|other| &**other != name);
                if names.is_empty() {
                    self.by_service.remove(&slot.target.service);
                }
            }
        }
    }

    pub(super) fn of_service(&self, service: &ServiceName) -> Vec<Arc<str>> {
        self.by_service.get(service).cloned().unwrap_or_default()
    }

    /// What leads to a region: its own destinations, and those that may end in any.
    pub(super) fn of_region(&self, region: &RegionName) -> Vec<Arc<str>> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.target.region.as_ref().is_none_or(|r| r == region))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Builds a name again, and notes what differs.
    pub(super) fn rebuild(
        &mut self,
        name: &Arc<str>,
        facts: &dyn Facts,
        settings: &Settings,
        changed: &mut Names,
    ) {
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        let built = cluster::build(&slot.target, facts, settings);
        self.counts.remove(slot.standing);
        self.counts.add(built.standing);
        slot.standing = built.standing;
        let (cluster, endpoints) = encode(name, &built);
        if slot.cluster != cluster {
            slot.cluster = cluster;
            changed.push((ResourceType::Cluster, name.clone()));
        }
        if slot.endpoints != endpoints {
            slot.endpoints = endpoints;
            changed.push((ResourceType::Endpoints, name.clone()));
        }
    }
}

fn encode(name: &Arc<str>, built: &Built) -> (Arc<Resource>, Option<Arc<Resource>>) {
    let resource = |kind, body: Vec<u8>| Arc::new(Resource::new(kind, name.clone(), &body));
    let endpoints = built
        .endpoints
        .as_ref()
        .map(|endpoints| resource(ResourceType::Endpoints, endpoints.encode_to_vec()));
    let cluster = resource(ResourceType::Cluster, built.cluster.encode_to_vec());
    (cluster, endpoints)
}
