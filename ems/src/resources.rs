//! From records to xDS resources: what each Envoy may see, built when it is asked for, encoded once and shared.
//!
//! Clusters and endpoints are the same for every node of a region; a [`table`](self) of those in use holds them, and a
//! change rebuilds only what it touches of these. Listener, route and filter config are the same for nodes that are
//! [`alike`]; certificates are a node's own, and built on request.
//!
//! Knows nothing of streams, versions that were sent, or how records are stored.

mod alike;
mod cluster;
mod destination;
mod encode;
mod endpoints;
mod filter;
mod leases;
mod limits;
mod listener;
mod node;
mod policy;
mod proxyless;
mod reader;
mod replies;
mod summary;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod version;
mod view;

pub(crate) use destination::{Destination, Tier};
pub use node::{Node, NodeKind};
pub(crate) use proxyless::KIND as GRPC_KIND;
pub(crate) use tls::server_name;
pub(crate) use view::{KIND, REGION, SERVICE};

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use envoy_types::pb::envoy::config::core::v3::Node as EnvoyNode;
use isthmus_model::{ANY_REGION, ClusterName, Headers, RawConfig, RegionName, ServiceName};

use isthmus_proto::v1;

use crate::{
    identity::{Identities, SpiffeId},
    registry::{Affected, EndpointEntry, RegionEntry, ServiceEntry},
    xds::{Changed, Resource, ResourceType, Source, View, Witness},
};
use alike::Alike;
use proxyless::{Client, ClientView, Shelf};
use summary::{Noted, Summary};
use table::Table;

/// EDS name of where the callers of a region run. A sidecar asks for those of its service, by
/// `<this>/<service>`, so that a change of these wakes nobody else. See [`endpoints`].
pub const CALLERS: &str = "isthmus-callers";

/// What the registry knows. It must already say the new when a change is [applied](Resources::apply).
pub trait Facts: Send + Sync + 'static {
    /// A service.
    fn service(&self, name: &ServiceName) -> Option<Arc<ServiceEntry>>;
    /// All services.
    fn services(&self) -> Vec<Arc<ServiceEntry>>;
    /// The endpoints of a service, in any order.
    fn endpoints(&self, service: &ServiceName) -> Vec<Arc<EndpointEntry>>;
    /// A region; the local one too.
    fn region(&self, name: &RegionName) -> Option<Arc<RegionEntry>>;
    /// All regions.
    fn regions(&self) -> Vec<Arc<RegionEntry>>;
}

/// What a region's EMS is told once, when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The region served.
    pub region: RegionName,
    /// First part of every SPIFFE id.
    pub trust_domain: String,
    /// Where requests without a region go: a region or `any`; `None`: the region served.
    pub default_region: Option<String>,
    /// Whether filters give receipts to those who ask.
    pub debug: bool,
    /// Names of the headers of the request contract.
    pub headers: Headers,
    /// What strangers may make EMS and Envoy remember.
    pub limits: Limits,
}

impl Settings {
    /// Defaults for a region.
    #[must_use]
    pub fn new(region: RegionName) -> Self {
        Self {
            region,
            trust_domain: "mesh.internal".to_owned(),
            default_region: None,
            debug: true,
            headers: Headers::default(),
            limits: Limits::default(),
        }
    }
}

/// How many destinations may be in use that no record vouches for: a service that only another region knows, a version
/// that no endpoint runs; and as many again that nobody knows. Callers choose these names, each costs memory here and in
/// Envoy, and Envoy never forgets one. Past the limit they are not made: callers are told `unresolved`, after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For one connected node.
    pub per_node: usize,
    /// For all of them; a name that several nodes use counts once.
    pub in_all: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_node: 1_000,
            in_all: 20_000,
        }
    }
}

/// What became different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Records.
    Registry(Affected),
    /// A certificate was renewed.
    Identity(SpiffeId),
}

impl From<Affected> for Change {
    fn from(affected: Affected) -> Self {
        Self::Registry(affected)
    }
}

/// The resources of a region. Cheap to clone.
#[derive(Clone)]
pub struct Resources(Arc<Inner>);

struct Inner {
    settings: Settings,
    facts: Arc<dyn Facts>,
    identities: Arc<dyn Identities>,
    table: RwLock<Table>,
    alike: Alike,
    shelf: Shelf,
    summary: Mutex<Summary>,
}

impl Resources {
    /// Resources of what `facts` says.
    pub fn new(settings: Settings, facts: Arc<dyn Facts>, identities: Arc<dyn Identities>) -> Self {
        let summary = Mutex::new(Summary::of(&*facts));
        Self(Arc::new(Inner {
            table: RwLock::new(Table::new(settings.limits)),
            alike: Alike::default(),
            shelf: Shelf::default(),
            settings,
            facts,
            identities,
            summary,
        }))
    }

    /// What it was told when it started.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What a destination leads to.
    pub(crate) fn resolve(&self, target: &ClusterName) -> Destination {
        destination::resolve(target, &*self.0.facts, &self.0.settings)
    }

    /// How many destinations are in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.0.table().len()
    }

    /// What every client rejected that answered, by name; what Envoys and gRPC libraries have of one name are two things.
    pub(crate) fn rejections(&self) -> Vec<v1::Rejection> {
        let mut all = self.0.table().rejections();
        all.extend(self.0.alike.rejections());
        all.extend(self.0.shelf.rejections());
        sorted(all)
    }

    /// Those that come from the record of a service.
    pub(crate) fn rejections_of_service(&self, service: &ServiceName) -> Vec<v1::Rejection> {
        let mut all = self.0.table().rejections_of(service);
        all.extend(self.0.shelf.rejections_of(service));
        sorted(all)
    }

    /// Those that come from the record of a region: what leads there, and has no service's record here.
    pub(crate) fn rejections_of_region(&self, region: &RegionName) -> Vec<v1::Rejection> {
        let mut rejections = sorted(self.0.table().rejections());
        rejections.retain(|rejection| {
            ClusterName::parse(&rejection.name).is_ok_and(|target| {
                target.region.as_ref() == Some(region)
                    && self.0.facts.service(&target.service).is_none()
            })
        });
        rejections
    }

    /// Takes note of changes, rebuilds what they touch and says which names may now differ.
    pub fn apply(&self, changes: &[Change]) -> Changed {
        let mut names = Vec::new();
        for change in changes {
            self.0.apply(change, &mut names);
        }
        Changed::of(names)
    }

    /// The filter config of a node whose callers are `caller`: what it decides with.
    #[must_use]
    pub fn filter_config(&self, kind: NodeKind, caller: Option<&ServiceName>) -> RawConfig {
        self.0.filter_config(kind, caller)
    }
}

type Names = Vec<(ResourceType, Arc<str>)>;

impl Inner {
    fn apply(&self, change: &Change, names: &mut Names) {
        match change {
            Change::Registry(Affected::Service(service)) => {
                let noted = self.summary().note(service, &*self.facts);
                self.rebuild(names, |table| table.of_service(service));
                self.shelf
                    .forget(service, &*self.facts, &self.settings.region, names);
                if noted.existence {
                    self.announce(service, names);
                }
                if noted.rules {
                    self.alike.outdate();
                    names.push((ResourceType::ExtensionConfig, filter::FILTER.into()));
                }
                if noted.leases {
                    names.push((ResourceType::ExtensionConfig, leases::LEASES.into()));
                }
                self.move_callers(service, noted, names);
            }
            Change::Registry(Affected::Endpoints(service)) => {
                let noted = self.summary().note(service, &*self.facts);
                self.rebuild(names, |table| table.of_service(service));
                self.shelf
                    .forget(service, &*self.facts, &self.settings.region, names);
                self.move_callers(service, noted, names);
            }
            Change::Registry(Affected::Region(region)) => {
                let existence = self.summary().note_region(region, &*self.facts);
                self.alike.outdate();
                self.rebuild(names, |table| table.of_region(region));
                names.extend([
                    (ResourceType::Secret, tls::TRUST.into()),
                    (ResourceType::Secret, tls::trust_name(region).into()),
                    (
                        ResourceType::Listener,
                        listener::listener_name(NodeKind::Gateway).into(),
                    ),
                ]);
                if existence {
                    names.push((ResourceType::ExtensionConfig, filter::FILTER.into()));
                    // Nodes that want everything want the way to every service of a new region too.
                    for service in self.facts.services() {
                        let name = cluster_name(service.checked.name.as_str(), region.as_str());
                        names.push((ResourceType::Cluster, name));
                        proxyless::reinterpret(&service.checked.name, region, names);
                    }
                }
            }
            Change::Identity(_) => names.push((ResourceType::Secret, tls::IDENTITY.into())),
        }
    }

    /// Names of where callers run: those of a service follow its endpoints, all others the set of zones.
    fn move_callers(&self, service: &ServiceName, noted: Noted, names: &mut Names) {
        if noted.spread {
            names.push((ResourceType::Endpoints, callers_of(service)));
        }
        if noted.zones {
            names.push((ResourceType::Endpoints, CALLERS.into()));
            let table = self.table();
            let sidecars = table.sidecars();
            names.extend(sidecars.map(|service| (ResourceType::Endpoints, callers_of(service))));
        }
    }

    /// Names of a service that came or went. Nobody has them yet, but somebody may have been told that they do not
    /// exist, or want everything.
    fn announce(&self, service: &ServiceName, names: &mut Names) {
        let regions = self.facts.regions();
        let regions = regions
            .iter()
            .map(|region| region.checked.name.as_str())
            .chain([self.settings.region.as_str(), ANY_REGION]);
        for region in regions {
            let name = cluster_name(service.as_str(), region);
            names.push((ResourceType::Cluster, name.clone()));
            names.push((ResourceType::Endpoints, name));
        }
        proxyless::announce(service, &self.settings.region, names);
    }

    fn rebuild(&self, names: &mut Names, which: impl FnOnce(&Table) -> Vec<Arc<str>>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for name in which(&table) {
            table.rebuild(&name, &*self.facts, &self.settings, names);
        }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn summary(&self) -> std::sync::MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn region_names(&self) -> Vec<RegionName> {
        let mut regions: Vec<_> = self
            .facts
            .regions()
            .iter()
            .map(|r| r.checked.name.clone())
            .collect();
        regions.push(self.settings.region.clone());
        regions.sort();
        regions.dedup();
        regions
    }

    fn filter_config(&self, kind: NodeKind, caller: Option<&ServiceName>) -> RawConfig {
        let regions = self.region_names();
        let summary = self.summary();
        filter::config(kind, caller, &regions, summary.rules(), &self.settings)
    }
}

impl Resources {
    fn check_region(&self, region: &RegionName) -> Result<(), String> {
        let own = &self.0.settings.region;
        if region == own {
            return Ok(());
        }
        Err(format!(
            "node is of region {region}, and this is the EMS of {own}: point it to its own region's EMS"
        ))
    }
}

impl Source for Resources {
    fn view(&self, node: &EnvoyNode) -> Result<Arc<dyn View>, String> {
        let witness = Witness::of(&node.id);
        if let Some(client) = Client::of(node) {
            let client = client?;
            self.check_region(&client.region)?;
            let view = ClientView::new(self.0.clone(), client, witness);
            return Ok(Arc::new(view));
        }
        let node = Node::parse(node)?;
        self.check_region(&node.region)?;
        let view = view::NodeView::new(self.0.clone(), node, witness);
        Ok(Arc::new(view))
    }

    fn ruled(&self, kind: ResourceType, resource: &Arc<Resource>) -> Changed {
        let name = resource.name();
        let of_grpc = self.0.shelf.is_current(resource);
        let of_record = of_grpc
            || matches!(kind, ResourceType::Cluster | ResourceType::Endpoints) && {
                let table = self.0.table();
                { table.get(name) }.is_some_and(|slot| slot.is_current(resource))
            };
        let current = of_record || self.0.alike.is_current(resource);
        match resource.fate().bad() {
            _ if !current => Changed::default(),
            Some(error) => {
                let who = if of_grpc { "gRPC library" } else { "Envoy" };
                let advice = if of_record {
                    "change the record"
                } else {
                    // It is made of many records, and of what the Envoy said of itself.
                    "look whether the Envoy's --filter and --listen fit it (ems bootstrap), then at the records; restart an Envoy \
                     that is mended, for it is not sent this again"
                };
                tracing::error!(
                    %kind, name = &**name, %error, advice,
                    "every {who} that answered rejected this: once a second one does, those that come are sent what was \
                     good before, if anything was"
                );
                Changed::default()
            }
            // Whoever was sent the one before.
            None => Changed::of([(kind, name.clone())]),
        }
    }
}

fn sorted(mut rejections: Vec<v1::Rejection>) -> Vec<v1::Rejection> {
    rejections.sort_by(|a, b| (&a.name, &a.type_url).cmp(&(&b.name, &b.type_url)));
    rejections
}

fn callers_of(service: &ServiceName) -> Arc<str> {
    // A slash, so that it is no destination's name.
    format!("{CALLERS}/{service}").into()
}

fn cluster_name(service: &str, region: &str) -> Arc<str> {
    let mut name = String::with_capacity(service.len() + region.len() + 1);
    // Writing to a String cannot fail.
    let _ = isthmus_model::name::write_cluster_name(&mut name, service, None, region);
    name.into()
}
