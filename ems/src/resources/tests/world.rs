//! A registry of maps, for tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
    time::SystemTime,
};

use envoy_types::pb::{
    envoy::config::{
        cluster::v3::Cluster, core::v3::HealthStatus, endpoint::v3::ClusterLoadAssignment,
    },
    google::protobuf::{ListValue, Struct, Value, value::Kind},
};
use prost::Message;

use crate::resources::*;
use crate::{
    identity::Issued,
    record::{Address, Endpoint, EndpointId, Host, Policy, Region, Service},
    registry::Entry,
};

/// A registry of maps.
#[derive(Default)]
pub(crate) struct Maps {
    pub(crate) services: RwLock<BTreeMap<ServiceName, Arc<ServiceEntry>>>,
    endpoints: RwLock<BTreeMap<ServiceName, Vec<Arc<EndpointEntry>>>>,
    pub(crate) regions: RwLock<BTreeMap<RegionName, Arc<RegionEntry>>>,
}

impl Facts for Maps {
    fn service(&self, name: &ServiceName) -> Option<Arc<ServiceEntry>> {
        self.services.read().unwrap().get(name).cloned()
    }
    fn services(&self) -> Vec<Arc<ServiceEntry>> {
        self.services.read().unwrap().values().cloned().collect()
    }
    fn endpoints(&self, service: &ServiceName) -> Vec<Arc<EndpointEntry>> {
        let all = self.endpoints.read().unwrap();
        all.get(service).cloned().unwrap_or_default()
    }
    fn region(&self, name: &RegionName) -> Option<Arc<RegionEntry>> {
        self.regions.read().unwrap().get(name).cloned()
    }
    fn regions(&self) -> Vec<Arc<RegionEntry>> {
        self.regions.read().unwrap().values().cloned().collect()
    }
}

impl Identities for Maps {
    fn identity(&self, id: &SpiffeId) -> Option<Arc<Issued>> {
        Some(Arc::new(Issued {
            chain_pem: format!("certificate of {id}"),
            key_pem: String::new(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
        }))
    }
}

/// Region `us`, knowing `payments` with one endpoint, and the regions `eu` (near) and `ap` (far).
pub(crate) struct World {
    pub(crate) maps: Arc<Maps>,
    pub(crate) resources: Resources,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::with(Settings {
            limits,
            ..Settings::new("us".parse().unwrap())
        })
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let maps = Arc::new(Maps::default());
        put_service(&maps, service("payments"));
        put_endpoint(&maps, endpoint("payments", "a", "127.0.0.1:7001"));
        put_region(&maps, region("us", &["127.0.0.1:15443"], 0));
        put_region(&maps, region("eu", &["127.0.0.2:15443"], 10));
        put_region(&maps, region("ap", &["127.0.0.3:15443"], 20));
        let resources = Resources::new(settings, maps.clone(), maps.clone());
        Self { maps, resources }
    }

    pub(crate) fn view(&self, kind: &str, uses: &[&str], eager: bool) -> Arc<dyn View> {
        self.resources.view(&node(kind, uses, eager)).unwrap()
    }

    pub(crate) fn host(&self) -> Arc<dyn View> {
        self.view("host", &[], false)
    }

    /// A host of this node id.
    pub(crate) fn named(&self, id: &str) -> Arc<dyn View> {
        let mut node = node("host", &[], false);
        node.id = id.into();
        self.resources.view(&node).unwrap()
    }

    pub(crate) fn apply(&self, change: Affected) -> Vec<String> {
        let changed = self.resources.apply(&[change.into()]);
        let names = changed.iter();
        names.map(|(kind, name)| format!("{kind} {name}")).collect()
    }
}

/// A node rejects a resource. True: that makes it bad.
pub(crate) fn rejects(node: &str, resource: &Resource, words: &str) -> bool {
    resource.fate().reject(Witness::of(node), &words.into())
}

pub(crate) fn service(name: &str) -> Service {
    Service {
        name: name.parse().unwrap(),
        version: 1,
        policy: Policy::default(),
        access: None,
        rate_limits: Vec::new(),
        allow_version_pins: false,
    }
}

pub(crate) fn address(text: &str) -> Address {
    let (host, port) = text.rsplit_once(':').unwrap();
    Address {
        host: host
            .parse()
            .map_or_else(|_| Host::Dns(host.into()), Host::Ip),
        port: port.parse().unwrap(),
    }
}

pub(crate) fn endpoint(service: &str, id: &str, at: &str) -> Endpoint {
    Endpoint {
        service: service.parse().unwrap(),
        id: EndpointId::parse(id).unwrap(),
        version: 1,
        address: address(at),
        version_label: None,
        zone: None,
        weight: 1,
        ttl: None,
        draining: false,
    }
}

pub(crate) fn region(name: &str, gateways: &[&str], distance: u32) -> Region {
    Region {
        name: name.parse().unwrap(),
        version: 1,
        gateways: gateways.iter().map(|at| address(at)).collect(),
        trust_bundle: format!("roots of {name}"),
        distance,
    }
}

pub(crate) fn put_service(maps: &Maps, service: Service) {
    let mut all = maps.services.write().unwrap();
    all.insert(service.name.clone(), entry(service));
}

pub(crate) fn put_endpoint(maps: &Maps, endpoint: Endpoint) {
    let mut all = maps.endpoints.write().unwrap();
    let members = all.entry(endpoint.service.clone()).or_default();
    members.retain(|member| member.checked.id != endpoint.id);
    members.push(entry(endpoint));
}

pub(crate) fn put_region(maps: &Maps, region: Region) {
    let mut all = maps.regions.write().unwrap();
    all.insert(region.name.clone(), entry(region));
}

fn entry<C, M: Default>(checked: C) -> Arc<Entry<C, M>> {
    Arc::new(Entry {
        checked,
        message: M::default(),
        revision: 1,
    })
}

pub(crate) fn text(text: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}

pub(crate) fn node(kind: &str, uses: &[&str], eager: bool) -> EnvoyNode {
    let uses = ListValue {
        values: uses.iter().map(|entry| text(entry)).collect(),
    };
    let fields = HashMap::from([
        ("kind", text(kind)),
        ("service", text("orders")),
        ("region", text("us")),
        ("listen", text("127.0.0.1:10000")),
        ("filter", text("/isthmus.wasm")),
        (
            "uses",
            Value {
                kind: Some(Kind::ListValue(uses)),
            },
        ),
        (
            "eager",
            Value {
                kind: Some(Kind::BoolValue(eager)),
            },
        ),
    ]);
    metadata(fields)
}

pub(crate) fn metadata(fields: HashMap<&str, Value>) -> EnvoyNode {
    let inner = Struct {
        fields: fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    };
    let outer = Value {
        kind: Some(Kind::StructValue(inner)),
    };
    EnvoyNode {
        metadata: Some(Struct {
            fields: [("isthmus".to_owned(), outer)].into_iter().collect(),
        }),
        ..Default::default()
    }
}

pub(crate) fn cluster(view: &dyn View, name: &str) -> Option<Cluster> {
    let resource = view.get(ResourceType::Cluster, name)?;
    Some(Cluster::decode(resource.body()).unwrap())
}

/// Whether a destination is made, made to say that it does not exist, or not made.
pub(crate) fn standing(view: &dyn View, name: &str) -> &'static str {
    match cluster(view, name).map(|cluster| cluster.load_assignment) {
        None => "absent",
        Some(Some(inside))
            if inside
                .policy
                .as_ref()
                .is_some_and(|p| !p.drop_overloads.is_empty()) =>
        {
            "unknown"
        }
        Some(_) => "known",
    }
}

/// The endpoints of a cluster: `priority/zone address status`.
pub(crate) fn endpoints_of(view: &dyn View, name: &str) -> Vec<String> {
    let resource = view.get(ResourceType::Endpoints, name).unwrap();
    let assignment = ClusterLoadAssignment::decode(resource.body()).unwrap();
    assert_eq!(assignment.cluster_name, name);
    lines(&assignment)
}

pub(crate) fn lines(assignment: &ClusterLoadAssignment) -> Vec<String> {
    use envoy_types::pb::envoy::config::{
        core::v3::address::Address::SocketAddress, endpoint::v3::lb_endpoint::HostIdentifier,
    };
    let mut lines = Vec::new();
    for locality in &assignment.endpoints {
        for member in &locality.lb_endpoints {
            let Some(HostIdentifier::Endpoint(at)) = &member.host_identifier else {
                panic!("no endpoint")
            };
            let Some(SocketAddress(socket)) = at.address.as_ref().unwrap().address.as_ref() else {
                panic!("no socket")
            };
            lines.push(format!(
                "{}/{} {} {}",
                locality.priority,
                locality.locality.as_ref().unwrap().zone,
                socket.address,
                HealthStatus::try_from(member.health_status)
                    .unwrap()
                    .as_str_name(),
            ));
        }
    }
    lines
}
