//! A region inside the test: registry, resources and xDS server as `ems serve` puts them together, less store and API,
//! and real Envoys.

use std::{
    net::SocketAddr,
    sync::{Arc, RwLock},
    time::{Instant, SystemTime},
};

use clap::Parser;
use ems::{
    bootstrap::{BootstrapArgs, bootstrap},
    identity::{DevelopmentCa, Wallet},
    json,
    registry::{EndpointEntry, Home, Key, RegionEntry, Registry, ServiceEntry},
    resources::{Change, Facts, Resources, Settings},
    store::{self, Edit, Snapshot},
    xds::{limits::Limits, server::Server},
};
use isthmus_model::{RegionName, ServiceName};
use isthmus_proto::v1;
use isthmus_tests::{Envoy, Port, WorkDir, artifact, envoy::EnvoyOptions};
use prost::Message;
use serde_json::json;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;

/// The registry, which this test writes to without a store.
struct Shared(RwLock<Registry>);

impl Facts for Shared {
    fn service(&self, name: &ServiceName) -> Option<Arc<ServiceEntry>> {
        self.0.read().unwrap().service(name).cloned()
    }
    fn services(&self) -> Vec<Arc<ServiceEntry>> {
        self.0.read().unwrap().services().cloned().collect()
    }
    fn endpoints(&self, service: &ServiceName) -> Vec<Arc<EndpointEntry>> {
        let registry = self.0.read().unwrap();
        registry.endpoints(service).cloned().collect()
    }
    fn region(&self, name: &RegionName) -> Option<Arc<RegionEntry>> {
        self.0.read().unwrap().region(name).cloned()
    }
    fn regions(&self) -> Vec<Arc<RegionEntry>> {
        self.0.read().unwrap().regions().cloned().collect()
    }
}

/// See the module.
pub(crate) struct Region {
    name: RegionName,
    dir: WorkDir,
    registry: Arc<Shared>,
    pub(crate) resources: Resources,
    pub(crate) server: Arc<Server>,
    trust_bundle: String,
    address: SocketAddr,
    _runtime: Runtime,
}

#[derive(Parser)]
struct Bootstrap {
    #[command(flatten)]
    args: BootstrapArgs,
}

impl Region {
    /// A region with a record of itself.
    pub(crate) fn start(name: &str) -> Self {
        let dir = WorkDir::new(&format!("policy-{name}")).unwrap();
        let name: RegionName = name.parse().unwrap();
        let ca = DevelopmentCa::open(dir.path(), &name, SystemTime::now()).unwrap();
        let wallet = Arc::new(Wallet::new(Arc::new(ca), SystemTime::now));
        let trust_bundle = wallet.trust_bundle().to_owned();
        let mut registry = Registry::new(Home {
            region: name.clone(),
            trust_bundle: trust_bundle.clone(),
        });
        registry.load(Snapshot::default(), Instant::now());
        let registry = Arc::new(Shared(RwLock::new(registry)));
        let resources = Resources::new(Settings::new(name.clone()), registry.clone(), wallet);
        let server = Server::new(Arc::new(resources.clone()), Limits::default());
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_routes(Routes::from(server.router()))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self {
            name,
            dir,
            registry,
            resources,
            server,
            trust_bundle,
            address,
            _runtime: runtime,
        }
    }

    /// Puts a service: its record as somebody writes it, without the name.
    pub(crate) fn service(&self, name: &str, record: serde_json::Value) {
        let key = Key::Service(name.parse().unwrap());
        self.put::<v1::Service>(&key, json!({"name": name}), record);
    }

    /// Puts an endpoint on loopback.
    pub(crate) fn endpoint(&self, service: &str, id: &str, port: u16, record: serde_json::Value) {
        let id_of = ems::record::EndpointId::parse(id).unwrap();
        let key = Key::Endpoint(service.parse().unwrap(), id_of);
        let base = json!({"service": service, "id": id, "address": "127.0.0.1", "port": port});
        self.put::<v1::Endpoint>(&key, base, record);
    }

    /// Deletes an endpoint.
    pub(crate) fn delete_endpoint(&self, service: &str, id: &str) {
        let id = ems::record::EndpointId::parse(id).unwrap();
        let key = Key::Endpoint(service.parse().unwrap(), id).to_string();
        self.write(Edit::Deleted { key });
    }

    /// Tells of a region whose gateway listens on a port of loopback.
    pub(crate) fn region(&self, other: &Region, gateway: u16, distance: u32) {
        let key = Key::Region(other.name.clone());
        let record = json!({
            "name": other.name.as_str(),
            "gateways": [{"address": "127.0.0.1", "port": gateway}],
            "trustBundle": other.trust_bundle,
            "distance": distance,
        });
        self.put::<v1::Region>(&key, record, json!({}));
    }

    /// Starts an Envoy; `arguments` are those of `ems bootstrap`.
    pub(crate) fn envoy(&self, kind: &str, arguments: &[&str]) -> Envoy {
        let (admin, listen) = (Port::reserve().unwrap(), Port::reserve().unwrap());
        let filter = artifact::filter().unwrap();
        let (xds, at, page) = (self.address.to_string(), listen.address(), admin.address());
        let words = [
            &["bootstrap", "--kind", kind, "--region", self.name.as_str()],
            &["--xds", &xds, "--listen", &at, "--admin", &page][..],
            &["--filter", filter.to_str().unwrap()],
            arguments,
        ];
        let parsed = Bootstrap::try_parse_from(words.concat()).unwrap();
        let options = EnvoyOptions {
            name: format!("{}-{kind}", self.name),
            binary: artifact::envoy().unwrap(),
            bootstrap: bootstrap(&parsed.args, "test").unwrap(),
            arguments: Vec::new(),
            admin,
            listen,
            workers: 1,
        };
        Envoy::start(&self.dir, options).unwrap()
    }

    /// What Envoys rejected, and why.
    pub(crate) fn rejections(&self) -> Vec<String> {
        let nodes = self.server.nodes().list().into_iter();
        nodes
            .flat_map(|node| node.resources)
            .filter_map(|resource| Some(format!("{}: {}", resource.name, resource.error?)))
            .collect()
    }

    fn put<M: Message + prost::Name + Default>(
        &self,
        key: &Key,
        base: serde_json::Value,
        more: serde_json::Value,
    ) {
        let (serde_json::Value::Object(mut record), serde_json::Value::Object(more)) = (base, more)
        else {
            panic!("a record is an object")
        };
        record.extend(more);
        record.insert("version".into(), json!("1"));
        let text = serde_json::Value::Object(record).to_string();
        let message: M = json::read(text.as_bytes()).unwrap();
        let before = self.registry.0.read().unwrap().quarantined().len();
        self.write(Edit::Put {
            key: key.to_string(),
            value: message.encode_to_vec().into(),
        });
        let registry = self.registry.0.read().unwrap();
        assert_eq!(
            before,
            registry.quarantined().len(),
            "{:?}",
            registry.quarantined()
        );
    }

    /// A committed write: the registry first, then what follows from it, as `ems serve` does it.
    fn write(&self, edit: Edit) {
        let affected = {
            let mut registry = self.registry.0.write().unwrap();
            let revision = registry.revision().unwrap_or_default() + 1;
            let edits = vec![edit];
            registry.apply(store::Change { revision, edits }, Instant::now())
        };
        let changes: Vec<_> = affected.into_iter().map(Change::from).collect();
        self.server.publish(self.resources.apply(&changes));
    }
}
