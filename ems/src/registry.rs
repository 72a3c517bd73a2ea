//! What exists, in memory: services, endpoints and regions as the store's changes make them.
//!
//! The registry plans writes and applies changes, and never the one without the other in between: a write becomes
//! real by going through the store and coming back, in one order for every replica. What is read here is therefore
//! always something that was durable. Before the first load it answers nothing: no data is not zero endpoints.
//!
//! A stored record that cannot be read is set aside alone. Whatever was known under its key stays in force, and the
//! next write of the key replaces it.
//!
//! Pure: time is an argument, I/O is in [`crate::registrar`].

mod key;
mod lease;
mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use isthmus_model::{RegionName, ServiceName};
use isthmus_proto::v1;
use prost::Message;

pub use key::Key;
pub use lease::{Due, GUARDED_FROM, Leases};
pub use plan::{Effect, Outcome, Planned, Rejection};

use crate::{
    record::{Endpoint, EndpointId, Region, Service},
    store::{Change, Edit, Snapshot},
};

/// A record: its checked form for those who act on it, its message for those who read it back.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<C, M> {
    /// What it means.
    pub checked: C,
    /// What was written, with the version it got.
    pub message: M,
    /// Revision of the store's transaction that wrote it.
    pub revision: u64,
}

/// A service as it is registered.
pub type ServiceEntry = Entry<Service, v1::Service>;
/// An endpoint as it is registered.
pub type EndpointEntry = Entry<Endpoint, v1::Endpoint>;
/// A region as it is registered.
pub type RegionEntry = Entry<Region, v1::Region>;

/// One moment on both clocks: leases go by the steady one, people read the other.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never set back.
    pub steady: Instant,
    /// What a calendar shows.
    pub wall: SystemTime,
}

/// The region that this EMS serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its name.
    pub region: RegionName,
    /// Its own roots (PEM), which its record always carries; empty: none.
    pub trust_bundle: String,
}

/// What a change touched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Affected {
    /// The record of a service, created and deleted included.
    Service(ServiceName),
    /// Endpoints of a service.
    Endpoints(ServiceName),
    /// The record of a region, created and deleted included.
    Region(RegionName),
}

/// A stored record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Why.
    pub reason: String,
    /// Revision of the transaction that wrote it.
    pub revision: u64,
}

/// Everything that is registered.
#[derive(Clone, Debug)]
pub struct Registry {
    home: Home,
    revision: Option<u64>,
    services: BTreeMap<ServiceName, Arc<ServiceEntry>>,
    endpoints: BTreeMap<ServiceName, BTreeMap<EndpointId, Arc<EndpointEntry>>>,
    regions: BTreeMap<RegionName, Arc<RegionEntry>>,
    quarantined: BTreeMap<String, Quarantined>,
    leases: Leases,
}

impl Registry {
    /// A registry that is not loaded yet.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self {
            home,
            revision: None,
            services: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            regions: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            leases: Leases::default(),
        }
    }

    /// The region that this EMS serves.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Revision of the last change that was applied; `None`: nothing is loaded yet.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// A service.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<ServiceEntry>> {
        self.services.get(name)
    }

    /// All services, by name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceEntry>> {
        self.services.values()
    }

    /// An endpoint.
    #[must_use]
    pub fn endpoint(&self, service: &ServiceName, id: &EndpointId) -> Option<&Arc<EndpointEntry>> {
        self.endpoints.get(service)?.get(id)
    }

    /// The endpoints of a service, by id.
    pub fn endpoints(&self, service: &ServiceName) -> impl Iterator<Item = &Arc<EndpointEntry>> {
        self.endpoints
            .get(service)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// All endpoints, by service and id.
    pub fn all_endpoints(&self) -> impl Iterator<Item = &Arc<EndpointEntry>> {
        self.endpoints.values().flat_map(BTreeMap::values)
    }

    /// A region.
    #[must_use]
    pub fn region(&self, name: &RegionName) -> Option<&Arc<RegionEntry>> {
        self.regions.get(name)
    }

    /// All regions, by name.
    pub fn regions(&self) -> impl Iterator<Item = &Arc<RegionEntry>> {
        self.regions.values()
    }

    /// Store keys of records that cannot be read.
    #[must_use]
    pub fn quarantined(&self) -> &BTreeMap<String, Quarantined> {
        &self.quarantined
    }

    /// The leases of endpoints.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Takes everything that a store holds. What was known before and is not in it is gone, as after a watch that
    /// lost its place.
    pub fn load(&mut self, snapshot: Snapshot, now: Instant) -> BTreeSet<Affected> {
        let known = self.known_revisions();
        let mut affected = BTreeSet::new();
        let mut gone = known.clone();
        for stored in snapshot.records {
            gone.remove(&stored.key);
            if known.get(&stored.key) != Some(&stored.revision) {
                self.put(
                    &stored.key,
                    &stored.value,
                    stored.revision,
                    now,
                    &mut affected,
                );
            }
        }
        for key in gone.into_keys() {
            self.delete(&key, now, &mut affected);
        }
        self.revision = Some(snapshot.revision);
        affected
    }

    /// Takes one change. Changes come in the order of their revisions; one that is older than what was loaded is
    /// passed over.
    pub fn apply(&mut self, change: Change, now: Instant) -> BTreeSet<Affected> {
        let mut affected = BTreeSet::new();
        if self.revision.is_none_or(|known| change.revision <= known) {
            return affected;
        }
        for edit in change.edits {
            match edit {
                Edit::Put { key, value } => {
                    self.put(&key, &value, change.revision, now, &mut affected);
                }
                Edit::Deleted { key } => self.delete(&key, now, &mut affected),
            }
        }
        self.revision = Some(change.revision);
        affected
    }

    /// Renews the lease of a heartbeat, before it is answered; `false`: it came too late, and has to be planned again.
    /// Whoever decides what lapsed ([`Registry::expire`]) does so before or after it, never at the same time.
    pub fn heartbeat(&mut self, key: &str, now: Instant) -> bool {
        let Some(Key::Endpoint(service, id)) = Key::parse(key) else {
            return false;
        };
        let there = self.endpoint(&service, &id).is_some();
        let in_time = there && !self.leases.is_ending(&service, &id);
        if in_time {
            self.leases.renew(&service, &id, now);
        }
        in_time
    }

    /// Renews leases, as another server was told.
    pub fn renewed(&mut self, keys: &[String], now: Instant) {
        for key in keys {
            if let Some(Key::Endpoint(service, id)) = Key::parse(key) {
                self.leases.renew(&service, &id, now);
            }
        }
    }

    fn known_revisions(&self) -> BTreeMap<String, u64> {
        let services = self.services.iter();
        let services = services.map(|(name, e)| (Key::Service(name.clone()), e.revision));
        let endpoints = self.endpoints.iter().flat_map(|(service, endpoints)| {
            endpoints
                .iter()
                .map(|(id, e)| (Key::Endpoint(service.clone(), id.clone()), e.revision))
        });
        let regions = self.regions.iter();
        let regions = regions.map(|(name, e)| (Key::Region(name.clone()), e.revision));
        let mut known: BTreeMap<_, _> = services
            .chain(endpoints)
            .chain(regions)
            .map(|(key, revision)| (key.to_string(), revision))
            .collect();
        // What is set aside is newer than what is still in force under its key.
        for (key, record) in &self.quarantined {
            known.insert(key.clone(), record.revision);
        }
        known
    }

    fn put(
        &mut self,
        key: &str,
        value: &Bytes,
        revision: u64,
        now: Instant,
        affected: &mut BTreeSet<Affected>,
    ) {
        match self.read(key, value, revision, now) {
            Ok(change) => {
                self.quarantined.remove(key);
                affected.insert(change);
            }
            Err(reason) => {
                let record = Quarantined { reason, revision };
                self.quarantined.insert(key.to_owned(), record);
            }
        }
    }

    fn read(
        &mut self,
        key: &str,
        value: &Bytes,
        revision: u64,
        now: Instant,
    ) -> Result<Affected, String> {
        match Key::parse(key).ok_or("its key names no record")? {
            Key::Service(name) => {
                let entry = decode(value, revision, Service::parse)?;
                same_name(&entry.checked.name, &name)?;
                self.services.insert(name.clone(), Arc::new(entry));
                Ok(Affected::Service(name))
            }
            Key::Region(name) => {
                let entry = decode(value, revision, Region::parse)?;
                same_name(&entry.checked.name, &name)?;
                self.regions.insert(name.clone(), Arc::new(entry));
                Ok(Affected::Region(name))
            }
            Key::Endpoint(service, id) => {
                let entry = decode(value, revision, Endpoint::parse)?;
                same_name(&entry.checked.service, &service)?;
                same_name(&entry.checked.id, &id)?;
                match entry.checked.ttl {
                    Some(ttl) => self.leases.grant(&service, &id, ttl, now),
                    None => self.leases.end(&service, &id, now),
                }
                let endpoints = self.endpoints.entry(service.clone()).or_default();
                endpoints.insert(id, Arc::new(entry));
                Ok(Affected::Endpoints(service))
            }
        }
    }

    fn delete(&mut self, key: &str, now: Instant, affected: &mut BTreeSet<Affected>) {
        self.quarantined.remove(key);
        match Key::parse(key) {
            Some(Key::Service(name)) if self.services.remove(&name).is_some() => {
                self.leases.forget(&name);
                affected.insert(Affected::Service(name));
            }
            Some(Key::Region(name)) if self.regions.remove(&name).is_some() => {
                affected.insert(Affected::Region(name));
            }
            Some(Key::Endpoint(service, id)) => {
                let Some(endpoints) = self.endpoints.get_mut(&service) else {
                    return;
                };
                if endpoints.remove(&id).is_some() {
                    if endpoints.is_empty() {
                        self.endpoints.remove(&service);
                    }
                    self.leases.end(&service, &id, now);
                    affected.insert(Affected::Endpoints(service));
                }
            }
            _ => {}
        }
    }
}

fn decode<C, M: Message + Default>(
    value: &Bytes,
    revision: u64,
    parse: impl Fn(&M) -> Result<C, crate::record::Invalid>,
) -> Result<Entry<C, M>, String> {
    let message = M::decode(value.clone()).map_err(|error| error.to_string())?;
    let checked = parse(&message).map_err(|error| error.to_string())?;
    Ok(Entry {
        checked,
        message,
        revision,
    })
}

fn same_name<T: PartialEq + std::fmt::Display>(inside: &T, key: &T) -> Result<(), String> {
    if inside == key {
        Ok(())
    } else {
        Err(format!("it says that it is {inside}"))
    }
}
