//! A source of raw resources held in memory, the same for every node: the engine without a registry behind it, for
//! fixtures, measurements and tests. A [`Write`] may hold several changes; nobody sees half of one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use envoy_types::pb::envoy::config::core::v3::Node;

use super::{Changed, Resource, ResourceType, Source, View};

/// The resources. Clones are the same source.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<RwLock<Content>>);

#[derive(Debug, Default)]
struct Content {
    resources: BTreeMap<ResourceType, HashMap<Arc<str>, Arc<Resource>>>,
    versions: BTreeMap<ResourceType, Arc<str>>,
}

/// One write, which nobody sees half of.
#[derive(Debug)]
pub struct Write<'a> {
    content: &'a mut Content,
    names: Vec<(ResourceType, Arc<str>)>,
}

impl Write<'_> {
    /// Sets a resource.
    pub fn put(&mut self, kind: ResourceType, mut resource: Resource) {
        let resources = self.content.resources.entry(kind).or_default();
        // What streams have been sent has this very name, and is found by it without a look at the letters.
        if let Some((name, _)) = resources.get_key_value(resource.name()) {
            resource.name = name.clone();
        }
        let name = resource.name().clone();
        resources.insert(name.clone(), Arc::new(resource));
        self.names.push((kind, name));
    }

    /// Removes a resource.
    pub fn remove(&mut self, kind: ResourceType, name: &str) {
        let resources = self.content.resources.entry(kind).or_default();
        if let Some((name, _)) = resources.remove_entry(name) {
            self.names.push((kind, name));
        }
    }

    /// Removes all resources of a type.
    pub fn clear(&mut self, kind: ResourceType) {
        let resources = self.content.resources.remove(&kind).unwrap_or_default();
        self.names
            .extend(resources.into_keys().map(|name| (kind, name)));
    }

    /// Sets what a type's version shall be called from now on; `None`: again a hash of what is sent.
    pub fn version(&mut self, kind: ResourceType, version: Option<Arc<str>>) {
        match version {
            Some(version) => self.content.versions.insert(kind, version),
            None => self.content.versions.remove(&kind),
        };
    }
}

impl Memory {
    /// Changes the content at once. What it gives is for [`Server::publish`](super::server::Server::publish).
    pub fn write(&self, change: impl FnOnce(&mut Write<'_>)) -> Changed {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut write = Write {
            content: &mut content,
            names: Vec::new(),
        };
        change(&mut write);
        Changed::of(write.names)
    }
}

impl View for Memory {
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        content.resources.get(&kind)?.get(name).cloned()
    }

    fn get_all(&self, kind: ResourceType, names: &[&str]) -> Vec<Option<Arc<Resource>>> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let resources = content.resources.get(&kind);
        names
            .iter()
            .map(|name| resources?.get(*name).cloned())
            .collect()
    }

    fn wildcard(&self, kind: ResourceType) -> Vec<Arc<str>> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let resources = content.resources.get(&kind);
        resources
            .into_iter()
            .flat_map(|r| r.keys().cloned())
            .collect()
    }

    fn covers(&self, kind: ResourceType, name: &str) -> bool {
        self.get(kind, name).is_some()
    }

    fn type_version(&self, kind: ResourceType) -> Option<Arc<str>> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        content.versions.get(&kind).cloned()
    }
}

impl Source for Memory {
    fn view(&self, _node: &Node) -> Result<Arc<dyn View>, String> {
        Ok(Arc::new(self.clone()))
    }
}
