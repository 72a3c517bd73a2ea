//! The destinations that somebody uses, built and encoded, each once for all nodes.
//!
//! A name stays as long as a connected node uses it, also when nothing of that name exists any more: the node has to be
//! told when it does again. Names that no record vouches for are counted, because callers choose them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use isthmus_model::{ClusterName, RegionName, ServiceName};
use prost::Message;

use super::{Facts, Limits, Names, Settings, cluster};
use crate::xds::{Resource, ResourceType};

/// One destination in use.
pub(super) struct Slot {
    target: ClusterName,
    /// How many nodes use it.
    users: usize,
    vouched: bool,
    pub(super) cluster: Option<Arc<Resource>>,
    pub(super) endpoints: Option<Arc<Resource>>,
}

/// See the module.
pub(super) struct Table {
    slots: HashMap<Arc<str>, Slot>,
    /// Names of a service, with their regions and versions.
    by_service: BTreeMap<ServiceName, Vec<Arc<str>>>,
    unvouched: usize,
    limits: Limits,
}

/// Why a name may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no such thing, and nothing is remembered of it.
    Absent,
    /// A limit is reached.
    Full,
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            slots: HashMap::new(),
            by_service: BTreeMap::new(),
            unvouched: 0,
            limits,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Slot> {
        self.slots.get(name)
    }

    /// Begins to use a name for one more node, which has `unvouched` names that no record vouches for. Says whether
    /// this is another one.
    pub(super) fn acquire(
        &mut self,
        name: &Arc<str>,
        target: &ClusterName,
        unvouched: usize,
        facts: &dyn Facts,
        settings: &Settings,
    ) -> Result<bool, Refused> {
        let vouched = is_vouched(target, facts);
        if !vouched && unvouched >= self.limits.per_node {
            return Err(Refused::Full);
        }
        if let Some(slot) = self.slots.get_mut(name) {
            slot.users += 1;
            return Ok(!vouched);
        }
        if !vouched && self.unvouched >= self.limits.in_all {
            return Err(Refused::Full);
        }
        let (cluster, endpoints) = encode(name, target, facts, settings);
        if cluster.is_none() {
            return Err(Refused::Absent);
        }
        self.unvouched += usize::from(!vouched);
        self.by_service
            .entry(target.service.clone())
            .or_default()
            .push(name.clone());
        self.slots.insert(
            name.clone(),
            Slot {
                target: target.clone(),
                users: 1,
                vouched,
                cluster,
                endpoints,
            },
        );
        Ok(!vouched)
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
            self.unvouched -= usize::from(!slot.vouched);
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
        let vouched = is_vouched(&slot.target, facts);
        self.unvouched += usize::from(!vouched);
        self.unvouched -= usize::from(!slot.vouched);
        slot.vouched = vouched;
        let (cluster, endpoints) = encode(name, &slot.target, facts, settings);
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

/// Whether a record says that there is something of this name: then the number of records limits the number of names.
fn is_vouched(target: &ClusterName, facts: &dyn Facts) -> bool {
    facts.service(&target.service).is_some()
        && target.version.as_ref().is_none_or(|version| {
            facts
                .endpoints(&target.service)
                .iter()
                .any(|endpoint| endpoint.checked.version_label.as_ref() == Some(version))
        })
}

type Encoded = (Option<Arc<Resource>>, Option<Arc<Resource>>);

fn encode(
    name: &Arc<str>,
    target: &ClusterName,
    facts: &dyn Facts,
    settings: &Settings,
) -> Encoded {
    let Some(built) = cluster::build(target, facts, settings) else {
        return (None, None);
    };
    let resource = |kind, body: Vec<u8>| Some(Arc::new(Resource::new(kind, name.clone(), &body)));
    (
        resource(ResourceType::Cluster, built.cluster.encode_to_vec()),
        built
            .endpoints
            .and_then(|endpoints| resource(ResourceType::Endpoints, endpoints.encode_to_vec())),
    )
}
