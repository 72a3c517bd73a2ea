//! The destinations that somebody uses, built and encoded, each once for all nodes.
//!
//! A name stays as long as a connected node uses it, also when nothing of that name exists: the node has to be told when
//! it does. Names that no record vouches for are counted, because callers choose them. A name in use has a number, so that
//! what ten thousand nodes use of a thousand names is a few bits for each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use isthmus_model::{ClusterName, RegionName, ServiceName};
use isthmus_proto::v1;
use prost::Message;
use roaring::RoaringBitmap;
use slab::Slab;

use super::{
    Facts, Limits, Names, Settings,
    cluster::{self, Built},
    destination::Standing,
    reader::{Reader, Served},
    version::Version,
};
use crate::xds::{Resource, ResourceType};

/// One destination in use.
pub(super) struct Slot {
    name: Arc<str>,
    target: ClusterName,
    /// How many nodes use it.
    users: usize,
    standing: Standing,
    cluster: Version,
    endpoints: Option<Version>,
}

impl Slot {
    /// What a client is sent.
    pub(super) fn served(&self, kind: ResourceType, to: &Reader) -> Option<Served> {
        let version = match kind {
            ResourceType::Cluster => Some(&self.cluster),
            _ => self.endpoints.as_ref(),
        };
        version.map(|version| version.served(kind, to))
    }

    /// Whether this is what the name stands for now.
    pub(super) fn is_current(&self, resource: &Arc<Resource>) -> bool {
        self.versions().any(|(_, version)| version.is(resource))
    }

    /// What every client rejected that answered.
    pub(super) fn rejections(&self) -> impl Iterator<Item = v1::Rejection> + '_ {
        self.versions()
            .filter_map(|(kind, version)| version.rejection(kind))
    }

    /// Whether it is worth keeping for nobody.
    fn holds(&self) -> bool {
        self.standing == Standing::Vouched && self.versions().any(|(_, version)| version.is_bad())
    }

    fn versions(&self) -> impl Iterator<Item = (ResourceType, &Version)> {
        let endpoints = self.endpoints.iter();
        std::iter::once((ResourceType::Cluster, &self.cluster))
            .chain(endpoints.map(|endpoints| (ResourceType::Endpoints, endpoints)))
    }
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
    slots: Slab<Slot>,
    numbers: HashMap<Arc<str>, u32>,
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
            slots: Slab::new(),
            numbers: HashMap::new(),
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

    /// The number of a name, if it is in use.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(super) fn slot(&self, number: u32) -> Option<&Slot> {
        self.slots.get(number as usize)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Slot> {
        self.slot(self.number(name)?)
    }

    /// Begins to use a name for one more node, which uses the names of these numbers already; `counts` are of these, and
    /// may be too high.
    pub(super) fn acquire(
        &mut self,
        target: &ClusterName,
        used: &RoaringBitmap,
        counts: &mut Counts,
        facts: &dyn Facts,
        settings: &Settings,
    ) -> Result<u32, Full> {
        let name: Arc<str> = target.to_string().into();
        let known = self.number(&name);
        let known = known.and_then(|number| Some((number, self.slot(number)?.standing)));
        let fresh = match known {
            Some(_) => None,
            None => Some(cluster::build(target, facts, settings)),
        };
        let standing = known
            .map(|(_, standing)| standing)
            .or(fresh.as_ref().map(|built| built.standing))
            .unwrap_or(Standing::Unknown);
        if counts.is_full(standing, self.limits.per_node) {
            // Some may have become real since.
            *counts = self.count(used);
            if counts.is_full(standing, self.limits.per_node) {
                return Err(Full);
            }
        }
        let mut number = known.map(|(number, _)| number);
        if let Some(built) = fresh {
            // So many bytes no machine has.
            let vacant = u32::try_from(self.slots.vacant_key()).map_err(|_| Full)?;
            if self.counts.is_full(standing, self.limits.in_all) {
                return Err(Full);
            }
            self.counts.add(standing);
            self.by_service
                .entry(target.service.clone())
                .or_default()
                .push(name.clone());
            let (cluster, endpoints) = encode(&name, &built);
            self.numbers.insert(name.clone(), vacant);
            self.slots.insert(Slot {
                name,
                target: target.clone(),
                users: 0,
                standing,
                cluster: Version::new(cluster),
                endpoints: endpoints.map(Version::new),
            });
            number = Some(vacant);
        }
        let number = number.ok_or(Full)?;
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.users += 1;
        }
        counts.add(standing);
        Ok(number)
    }

    fn count(&self, used: &RoaringBitmap) -> Counts {
        let mut counts = Counts::default();
        for slot in used.iter().filter_map(|number| self.slot(number)) {
            counts.add(slot.standing);
        }
        counts
    }

    /// Ends the use of a name by one node; `counts` are of the names that it uses.
    pub(super) fn release(&mut self, number: u32, counts: &mut Counts) {
        let Some(slot) = self.slots.get_mut(number as usize) else {
            return;
        };
        counts.remove(slot.standing);
        slot.users = slot.users.saturating_sub(1);
        self.drop_unused(number);
    }

    /// Forgets a name that nobody uses. One that a record vouches for and that is bad stays, until it is good or the
    /// record goes: who comes back gets what was good before.
    fn drop_unused(&mut self, number: u32) {
        if self
            .slot(number)
            .is_none_or(|slot| slot.users > 0 || slot.holds())
        {
            return;
        }
        if let Some(slot) = self.slots.try_remove(number as usize) {
            self.numbers.remove(&slot.name);
            self.counts.remove(slot.standing);
            if let Some(names) = self.by_service.get_mut(&slot.target.service) {
                names.retain(|name| *name != slot.name);
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
            .map(|(_, slot)| slot)
            .filter(|slot| slot.target.region.as_ref().is_none_or(|r| r == region))
            .map(|slot| slot.name.clone())
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
        let Some(number) = self.number(name) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(number as usize) else {
            return;
        };
        let built = cluster::build(&slot.target, facts, settings);
        self.counts.remove(slot.standing);
        self.counts.add(built.standing);
        slot.standing = built.standing;
        let (cluster, endpoints) = encode(name, &built);
        if slot.cluster.replace(cluster) {
            changed.push((ResourceType::Cluster, name.clone()));
        }
        let differs = match (&mut slot.endpoints, endpoints) {
            (Some(version), Some(new)) => version.replace(new),
            (None, None) => false,
            (old, new) => {
                *old = new.map(Version::new);
                true
            }
        };
        if differs {
            changed.push((ResourceType::Endpoints, name.clone()));
        }
        self.drop_unused(number);
    }

    /// What every client rejected that answered, of all names.
    pub(super) fn rejections(&self) -> Vec<v1::Rejection> {
        let slots = self.slots.iter().map(|(_, slot)| slot);
        slots.flat_map(Slot::rejections).collect()
    }

    /// The same of what comes from a service's record.
    pub(super) fn rejections_of(&self, service: &ServiceName) -> Vec<v1::Rejection> {
        let names = self.by_service.get(service).into_iter().flatten();
        let slots = names.filter_map(|name| self.get(name));
        slots.flat_map(Slot::rejections).collect()
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
