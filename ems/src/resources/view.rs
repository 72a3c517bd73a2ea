//! What one node sees.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockWriteGuard};

use isthmus_model::{ClusterName, RegionName, ServiceName};
use prost::Message;
use roaring::RoaringBitmap;

use super::{
    CALLERS, Inner, NodeKind,
    alike::Share,
    cluster_name, endpoints, leases, listener,
    node::{Node, used_destination},
    reader::{Reader, Served},
    table::{Counts, Full, Table},
    tls,
};
use crate::xds::{Labels, Resource, ResourceType, View, Witness};

/// Labels of a node: sidecar, host, gateway or grpc.
pub(crate) const KIND: &str = "kind";
/// Whose requests it carries.
pub(crate) const SERVICE: &str = "service";
/// Where it is.
pub(crate) const REGION: &str = "region";

/// See the module. Dropped, it gives back the names that it used.
pub(super) struct NodeView {
    inner: Arc<Inner>,
    node: Node,
    reader: Reader,
    share: Share,
    used: Mutex<Used>,
}

/// The destinations that a node has asked for, by their numbers in the table.
#[derive(Default)]
struct Used {
    clusters: RoaringBitmap,
    endpoints: RoaringBitmap,
    counts: Counts,
    complained: bool,
}

impl Used {
    fn of(&mut self, kind: ResourceType) -> &mut RoaringBitmap {
        match kind {
            ResourceType::Endpoints => &mut self.endpoints,
            _ => &mut self.clusters,
        }
    }

    fn contains(&self, number: u32) -> bool {
        self.clusters.contains(number) || self.endpoints.contains(number)
    }

    fn all(&self) -> RoaringBitmap {
        &self.clusters | &self.endpoints
    }
}

impl NodeView {
    pub(super) fn new(inner: Arc<Inner>, node: Node, witness: Witness) -> Self {
        let view = Self {
            share: inner.alike.join(&node),
            inner,
            node,
            reader: Reader::new(witness),
            used: Mutex::default(),
        };
        if view.node.kind == NodeKind::Sidecar {
            view.table_mut().add_sidecar(&view.node.service);
        }
        view
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        let table = self.inner.table.write();
        table.unwrap_or_else(PoisonError::into_inner)
    }

    fn destination(&self, kind: ResourceType, name: &str) -> Option<Served> {
        let mut used = self.used();
        let known = self.inner.table().number(name);
        let number = match known.filter(|number| used.contains(*number)) {
            Some(number) => number,
            None => self.begin_to_use(name, &mut used)?,
        };
        used.of(kind).insert(number);
        let table = self.inner.table();
        table.slot(number)?.served(kind, &self.reader)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_to_use(&self, name: &str, used: &mut Used) -> Option<u32> {
        let target = ClusterName::parse(name).ok()?;
        // Names fold case; only the folded one is a cluster's.
        if target.to_string() != name || !self.may_reach(&target) {
            return None;
        }
        let inner = &self.inner;
        let all = used.all();
        let acquired = self.table_mut().acquire(
            &target,
            &all,
            &mut used.counts,
            &*inner.facts,
            &inner.settings,
        );
        match acquired {
            Ok(number) => Some(number),
            Err(Full) => {
                if !std::mem::replace(&mut used.complained, true) {
                    tracing::warn!(
                        caller = %self.node.service,
                        name,
                        "too many destinations in use that this region has no record of: further ones are refused; \
                         put records of the services that are meant, or look for a caller that makes up names"
                    );
                }
                None
            }
        }
    }

    /// A gateway sends nothing out of its region again.
    fn may_reach(&self, target: &ClusterName) -> bool {
        self.node.kind != NodeKind::Gateway
            || target.region.as_ref() == Some(&self.inner.settings.region)
    }

    fn look(&self, kind: ResourceType, name: &str) -> Option<Served> {
        match kind {
            ResourceType::Secret => self.secret(name).map(Served::now),
            ResourceType::Endpoints if is_of_callers(name) => self.callers(name).map(Served::now),
            ResourceType::Cluster | ResourceType::Endpoints => self.destination(kind, name),
            ResourceType::ExtensionConfig if name == leases::LEASES => {
                let leased = self.inner.summary().leases();
                let leases = leases::extension(&self.node.id, leased);
                resource(kind, name, &leases).map(Served::now)
            }
            ResourceType::ExtensionConfig | ResourceType::Listener | ResourceType::Route => {
                self.share.get(kind, name, &self.inner, &self.reader)
            }
        }
    }

    fn secret(&self, name: &str) -> Option<Arc<Resource>> {
        let inner = &self.inner;
        let secret = if name == tls::IDENTITY {
            let id = self.node.identity(&inner.settings.trust_domain);
            tls::identity_secret(&*inner.identities.identity(&id)?)
        } else if name == tls::TRUST {
            let mut regions = inner.facts.regions();
            regions.sort_by(|a, b| a.checked.name.cmp(&b.checked.name));
            let roots: Vec<_> = regions
                .iter()
                .map(|r| r.checked.trust_bundle.trim())
                .collect();
            tls::trust_secret(name, &roots.join("\n"))?
        } else {
            let region = inner.facts.region(&tls::trust_region(name)?)?;
            tls::trust_secret(name, &region.checked.trust_bundle)?
        };
        resource(ResourceType::Secret, name, &secret)
    }

    /// Where callers run: of its own service, or of all.
    fn callers(&self, name: &str) -> Option<Arc<Resource>> {
        let service = match name.strip_prefix(CALLERS)? {
            "" => None,
            own if own.strip_prefix('/') == Some(self.node.service.as_str()) => {
                Some(&self.node.service)
            }
            _ => return None,
        };
        let spread = self.inner.summary().callers(service);
        let callers = endpoints::callers(name, &self.inner.settings.region, &spread);
        resource(ResourceType::Endpoints, name, &callers)
    }

    fn used_targets(&self) -> impl Iterator<Item = ClusterName> {
        let inner = &self.inner;
        let local = &inner.settings.region;
        self.node.uses.iter().filter_map(move |entry| {
            used_destination(entry, local, |region| {
                region == local || inner.facts.region(region).is_some()
            })
        })
    }

    /// The destinations to have before the first request.
    fn wanted(&self) -> Vec<Arc<str>> {
        let inner = &self.inner;
        let local = &inner.settings.region;
        let mut names: Vec<Arc<str>> = self
            .used_targets()
            .map(|target| target.to_string().into())
            .collect();
        if self.node.eager {
            let regions = if self.node.kind == NodeKind::Gateway {
                vec![local.clone()]
            } else {
                inner.region_names()
            };
            for service in inner.facts.services() {
                for region in &regions {
                    names.push(cluster_name(service.checked.name.as_str(), region.as_str()));
                }
            }
        }
        names.sort();
        names.dedup();
        names
    }
}

impl View for NodeView {
    fn labels(&self) -> Labels {
        let Node {
            kind,
            service,
            region,
            ..
        } = &self.node;
        labels(kind.as_str(), service, region)
    }

    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>> {
        Some(self.look(kind, name)?.resource)
    }

    fn refused(&self, kind: ResourceType, resource: &Resource) {
        if let Some(served) = self.look(kind, resource.name()) {
            self.reader.refuse(kind, resource, &served);
        }
    }

    fn withheld(&self, kind: ResourceType, name: &str) -> Option<Arc<str>> {
        self.look(kind, name)?.withheld
    }

    /// Gives the name back once neither its cluster nor its endpoints are wanted: what counts is what the client and this
    /// server have to remember, and neither does any more.
    fn unused(&self, kind: ResourceType, name: &str) {
        self.reader.forget(kind, name);
        if !matches!(kind, ResourceType::Cluster | ResourceType::Endpoints) {
            return;
        }
        let mut used = self.used();
        let Some(number) = self.inner.table().number(name) else {
            return;
        };
        if used.of(kind).remove(number) && !used.contains(number) {
            self.table_mut().release(number, &mut used.counts);
        }
    }

    fn wildcard(&self, kind: ResourceType) -> Vec<Arc<str>> {
        match kind {
            ResourceType::Listener => vec![listener::listener_name(self.node.kind).into()],
            ResourceType::Cluster => self.wanted(),
            _ => Vec::new(),
        }
    }

    fn wildcard_within(&self, kind: ResourceType) -> Option<Vec<Arc<str>>> {
        if kind != ResourceType::Cluster {
            return Some(self.wildcard(kind));
        }
        if self.node.eager {
            return None;
        }
        // Which of its two meanings an entry has depends on the regions there are.
        let local = &self.inner.settings.region;
        let both = |entry: &String| {
            [true, false].map(|is_region| used_destination(entry, local, |_| is_region))
        };
        let targets = self.node.uses.iter().flat_map(both).flatten();
        Some(targets.map(|target| target.to_string().into()).collect())
    }

    fn covers(&self, kind: ResourceType, name: &str) -> bool {
        if kind != ResourceType::Cluster || !self.node.eager {
            return self.wildcard(kind).iter().any(|known| &**known == name);
        }
        // The set of everything is large: look at the one name.
        let inner = &self.inner;
        ClusterName::parse(name).is_ok_and(|target| {
            let everything = target.version.is_none()
                && self.may_reach(&target)
                && inner.facts.service(&target.service).is_some()
                && target.region.as_ref().is_some_and(|region| {
                    *region == inner.settings.region || inner.facts.region(region).is_some()
                });
            everything || self.used_targets().any(|used| used == target)
        })
    }
}

impl Drop for NodeView {
    fn drop(&mut self) {
        self.inner.alike.leave(std::mem::take(&mut self.share));
        let mut used = self.used();
        let mut table = self.table_mut();
        if self.node.kind == NodeKind::Sidecar {
            table.remove_sidecar(&self.node.service);
        }
        for number in used.all() {
            table.release(number, &mut used.counts);
        }
    }
}

/// What there is to show of a node.
pub(super) fn labels(kind: &str, service: &ServiceName, region: &RegionName) -> Labels {
    vec![
        (KIND, kind.to_owned()),
        (SERVICE, service.to_string()),
        (REGION, region.to_string()),
    ]
}

fn is_of_callers(name: &str) -> bool {
    let rest = name.strip_prefix(CALLERS);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) fn resource<M: Message>(
    kind: ResourceType,
    name: &str,
    message: &M,
) -> Option<Arc<Resource>> {
    Some(Arc::new(Resource::new(
        kind,
        name,
        &message.encode_to_vec(),
    )))
}
