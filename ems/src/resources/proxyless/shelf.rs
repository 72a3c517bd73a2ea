//! What is the same for all gRPC libraries that call a service.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use isthmus_model::{RegionName, ServiceName};
use isthmus_proto::v1;

use super::{
    super::{
        Facts, Names, Settings, cluster_name,
        reader::{Reader, Served},
        version::Version,
        view::resource,
    },
    announce, messages,
};
use crate::{
    record::Policy,
    xds::{Resource, ResourceType},
};

/// The services that gRPC libraries use, built and encoded. Never more than there are services.
#[derive(Default)]
pub(in crate::resources) struct Shelf(Mutex<HashMap<ServiceName, Shelved>>);

/// What is made of one service.
struct Shelved {
    /// Nothing that it is made of has changed since.
    fresh: bool,
    policy: Policy,
    cluster: Version,
    endpoints: Version,
    /// Of the service's name, alone and with its region.
    listeners: Vec<Version>,
}

/// One that is up to date, for as long as it is held.
pub(super) struct Held<'a>(MutexGuard<'a, HashMap<ServiceName, Shelved>>, ServiceName);

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceName, Shelved>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is made of a service; `None`: there is none of this name. Facts are read with the lock held: were they read
    /// before, what [`Shelf::forget`] has just called out of date could come back.
    pub(super) fn get(
        &self,
        service: &ServiceName,
        facts: &dyn Facts,
        settings: &Settings,
    ) -> Option<Held<'_>> {
        let mut shelf = self.lock();
        if !shelf.get(service).is_some_and(|shelved| shelved.fresh) {
            let shelved = Shelved::make(service, facts, settings, shelf.remove(service))?;
            shelf.insert(service.clone(), shelved);
        }
        Some(Held(shelf, service.clone()))
    }

    /// Whether there is a service of this name; if so, a change from here on is announced.
    pub(super) fn has(
        &self,
        service: &ServiceName,
        facts: &dyn Facts,
        settings: &Settings,
    ) -> bool {
        self.get(service, facts, settings).is_some()
    }

    /// A service changed: what is made of it is out of date, and those who use it have to look again. What was good is
    /// kept for those who reject what comes.
    pub(in crate::resources) fn forget(
        &self,
        service: &ServiceName,
        facts: &dyn Facts,
        local: &RegionName,
        names: &mut Names,
    ) {
        let mut shelf = self.lock();
        let Some(shelved) = shelf.get_mut(service) else {
            return;
        };
        if std::mem::take(&mut shelved.fresh) {
            announce(service, local, names);
            let name = cluster_name(service.as_str(), local.as_str());
            names.push((ResourceType::Cluster, name.clone()));
            names.push((ResourceType::Endpoints, name));
        }
        if facts.service(service).is_none() {
            shelf.remove(service);
        }
    }

    /// Whether this is what its name stands for now, for gRPC libraries.
    pub(in crate::resources) fn is_current(&self, resource: &Arc<Resource>) -> bool {
        let shelf = self.lock();
        let mut versions = shelf.values().flat_map(Shelved::versions);
        versions.any(|(_, version)| version.is(resource))
    }

    /// What every library rejected that answered.
    pub(in crate::resources) fn rejections(&self) -> Vec<v1::Rejection> {
        let shelf = self.lock();
        shelf.values().flat_map(Shelved::rejections).collect()
    }

    /// Of one service.
    pub(in crate::resources) fn rejections_of(&self, service: &ServiceName) -> Vec<v1::Rejection> {
        let shelf = self.lock();
        let shelved = shelf.get(service);
        shelved.into_iter().flat_map(Shelved::rejections).collect()
    }
}

impl Held<'_> {
    /// What a client is sent of one type and name.
    pub(super) fn served(mut self, kind: ResourceType, name: &str, to: &Reader) -> Option<Served> {
        let shelved = self.0.get_mut(&self.1)?;
        let version = match kind {
            ResourceType::Cluster => &shelved.cluster,
            ResourceType::Endpoints => &shelved.endpoints,
            _ => shelved.listener(name)?,
        };
        Some(version.served(kind, to))
    }
}

impl Shelved {
    /// `former`: what was made of it before.
    fn make(
        service: &ServiceName,
        facts: &dyn Facts,
        settings: &Settings,
        former: Option<Self>,
    ) -> Option<Self> {
        let entry = facts.service(service)?;
        let region = &settings.region;
        let name = cluster_name(service.as_str(), region.as_str());
        let policy = entry.checked.policy.clone();
        let members = facts.endpoints(service);
        let (cluster, endpoints) = messages::service(&name, &policy, &members, region);
        let cluster = resource(ResourceType::Cluster, &name, &cluster)?;
        let endpoints = resource(ResourceType::Endpoints, &name, &endpoints)?;
        let Some(mut former) = former else {
            return Some(Self {
                fresh: true,
                policy,
                cluster: Version::new(cluster),
                endpoints: Version::new(endpoints),
                listeners: Vec::new(),
            });
        };
        former.cluster.replace(cluster);
        former.endpoints.replace(endpoints);
        for version in &mut former.listeners {
            version.replace(listener(&version.name().clone(), &name, &policy)?);
        }
        Some(Self {
            fresh: true,
            policy,
            ..former
        })
    }

    fn listener(&mut self, name: &str) -> Option<&Version> {
        let of = |all: &[Version]| all.iter().position(|version| **version.name() == *name);
        if of(&self.listeners).is_none() {
            let new = listener(name, self.cluster.name(), &self.policy)?;
            self.listeners.push(Version::new(new));
        }
        self.listeners.get(of(&self.listeners)?)
    }

    fn versions(&self) -> impl Iterator<Item = (ResourceType, &Version)> {
        let listeners = self.listeners.iter();
        let listeners = listeners.map(|version| (ResourceType::Listener, version));
        let own = [
            (ResourceType::Cluster, &self.cluster),
            (ResourceType::Endpoints, &self.endpoints),
        ];
        own.into_iter().chain(listeners)
    }

    /// Not of what is out of date.
    fn rejections(&self) -> impl Iterator<Item = v1::Rejection> {
        let current = self.versions().filter(|_| self.fresh);
        current.filter_map(|(kind, version)| version.rejection(kind))
    }
}

fn listener(name: &str, cluster: &str, policy: &Policy) -> Option<Arc<Resource>> {
    let listener = messages::listener(name, cluster, Some(policy));
    resource(ResourceType::Listener, name, &listener)
}
