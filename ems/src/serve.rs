//! The server: puts the parts together, and stops them again.
//!
//! Callers own the sockets and the shutdown. The HTTP side answers at once, and says that it is not ready; Envoys are
//! let in only after the first load, so none is ever told of an empty registry that is merely not loaded yet.

mod insight;
mod network;

use std::{
    collections::BTreeSet,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use isthmus_model::{RegionName, ServiceName};
use isthmus_proto::{FILE_DESCRIPTOR_SET, v1::registry_server::RegistryServer};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinSet, spawn_blocking},
    time::{interval, timeout},
};
use tracing::{info, warn};

use crate::{
    api::{self, Api},
    identity::{DevelopmentCa, SpiffeId, Wallet},
    metrics::{Metrics, RegistryCollector, XdsCollector},
    options::Options,
    registrar::{Registrar, Shared},
    registry::{Affected, EndpointEntry, Home, RegionEntry, Registry, ServiceEntry},
    resources::{self, Change, Resources, Settings},
    store::RedbStore,
    xds,
};
use insight::Lookout;
use network::{grpc, serve};

/// How long connections may take to end after the last stream was sent away.
const GRACE: Duration = Duration::from_secs(3);
/// How often certificates are looked at.
const RENEWAL: Duration = Duration::from_secs(60);

/// Sockets to serve on.
#[derive(Debug)]
pub struct Listeners {
    /// For Envoys.
    pub xds: TcpListener,
    /// For people and programs.
    pub http: TcpListener,
}

impl Listeners {
    /// Binds the addresses of the options. Port 0 is any free port.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn bind(options: &Options) -> Result<Self> {
        let bind = async |flag, address| {
            let bound = TcpListener::bind(address).await;
            bound.with_context(|| format!("cannot listen on {address} ({flag})"))
        };
        Ok(Self {
            xds: bind("--xds-address", options.xds_address).await?,
            http: bind("--http-address", options.http_address).await?,
        })
    }
}

/// Serves until `shutdown`, then lets Envoys go over some time and stops.
///
/// # Errors
/// The store cannot be opened, or a part that must not end has ended.
pub async fn run(
    options: Options,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let xds_address = listeners.xds.local_addr().context("no xDS socket")?;
    let http_address = listeners.http.local_addr().context("no HTTP socket")?;
    let (store, ca) = open(&options).await?;
    let wallet = Arc::new(Wallet::new(Arc::new(ca), SystemTime::now));
    let metrics = Arc::new(Metrics::default());
    let registry = Registry::new(Home {
        region: options.region.clone(),
        trust_bundle: wallet.trust_bundle().to_owned(),
    });
    let (registrar, follower) = Registrar::new(Arc::new(store), registry, metrics.clone());
    let facts = Arc::new(registrar.shared().clone());
    let resources = Resources::new(settings(&options), facts, wallet.clone());
    let limits = xds::limits::Limits {
        streams: options.max_streams,
        ..xds::limits::Limits::default()
    };
    let envoys = xds::server::Server::new(Arc::new(resources.clone()), limits);
    metrics.collect(RegistryCollector(registrar.shared().clone()));
    metrics.collect(XdsCollector(envoys.clone()));
    let lookout = Lookout {
        envoys: envoys.clone(),
    };
    let api = Api::new(registrar.clone(), Arc::new(lookout), metrics);

    // Those that run until they are dropped, and those that end when they are told to.
    let (mut keepers, mut servers) = (JoinSet::new(), JoinSet::new());
    let publish = {
        let (resources, envoys) = (resources.clone(), envoys.clone());
        move |affected: BTreeSet<Affected>| {
            let changes: Vec<_> = affected.into_iter().map(Change::from).collect();
            envoys.publish(resources.apply(&changes));
        }
    };
    keepers.spawn(async move {
        follower.run(publish).await;
        "following the store"
    });
    let renewed = {
        let (resources, envoys) = (resources.clone(), envoys.clone());
        move |ids: Vec<SpiffeId>| {
            let changes: Vec<_> = ids.into_iter().map(Change::Identity).collect();
            envoys.publish(resources.apply(&changes));
        }
    };
    keepers.spawn(async move {
        renew(&wallet, renewed).await;
        "renewing certificates"
    });
    let (stop, stopped) = watch::channel(false);
    let (health, health_server) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("cannot serve the schema's descriptors")?;
    let services = grpc(axum::Router::new(), RegistryServer::new(api.clone()));
    let services = grpc(grpc(services, health_server), reflection);

    let router = services.clone().merge(api::http::router(api));
    let ended = serve(listeners.http, router, stopped.clone());
    servers.spawn(async move {
        ended.await;
        "serving HTTP"
    });

    tokio::pin!(shutdown);
    tokio::select! {
        () = registrar.loaded() => {}
        () = &mut shutdown => return Ok(()),
    }
    let home = registrar.write(|registry, _| registry.put_home()).await;
    home.context("cannot write the record of the own region")?;
    let ended = serve(listeners.xds, services.merge(envoys.router()), stopped);
    servers.spawn(async move {
        ended.await;
        "serving xDS"
    });
    health.set_serving::<RegistryServer<Api>>().await;
    info!(region = %options.region, xds = %xds_address, http = %http_address, "listening");
    warn_if_open(http_address.ip().is_loopback());
    if let Some(path) = options.ready_file {
        let text = json!({ "xds": xds_address.to_string(), "http": http_address.to_string() });
        let write = spawn_blocking(move || write_at_once(&path, &text.to_string()));
        write.await.context("writing the ready file")??;
    }

    tokio::select! {
        () = &mut shutdown => info!("stopping"),
        ended = keepers.join_next() => return Err(too_early(ended)),
        ended = servers.join_next() => return Err(too_early(ended)),
    }
    health.set_not_serving::<RegistryServer<Api>>().await;
    let over = if envoys.streams() == 0 {
        Duration::ZERO
    } else {
        options.drain
    };
    envoys.drain(over).await;
    // Both servers have a receiver.
    let _ = stop.send(true);
    let all_ended = async { while servers.join_next().await.is_some() {} };
    if timeout(GRACE, all_ended).await.is_err() {
        warn!("some connections did not end in time; closing them");
    }
    servers.shutdown().await;
    keepers.shutdown().await;
    Ok(())
}

/// The error that a part has ended which must not.
fn too_early(ended: Option<Result<&'static str, JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(what)) => anyhow!("{what} ended by itself"),
        Some(Err(error)) => anyhow!(error).context("a part of the server failed"),
        None => anyhow!("nothing is running"),
    }
}

/// Opens what is in the data folder.
async fn open(options: &Options) -> Result<(RedbStore, DevelopmentCa)> {
    let (directory, region) = (options.data_dir.clone(), options.region.clone());
    let opened = spawn_blocking(move || {
        // The store first: it is locked, so of two servers with one folder only the first gets further.
        let store = RedbStore::open(&directory)?;
        let ca = DevelopmentCa::open(&directory, &region, SystemTime::now())?;
        anyhow::Ok((store, ca))
    });
    opened.await.context("opening the data folder")?
}

/// Renews certificates before they end.
async fn renew(wallet: &Wallet, publish: impl Fn(Vec<SpiffeId>)) {
    let mut tick = interval(RENEWAL);
    loop {
        tick.tick().await;
        let renewed = wallet.renew();
        if !renewed.is_empty() {
            info!(count = renewed.len(), "renewed certificates");
            publish(renewed);
        }
    }
}

/// The API asks nobody who they are.
fn warn_if_open(loopback: bool) {
    if !loopback {
        warn!("the HTTP address is not a loopback one: whoever reaches it can change the registry");
    }
}

/// Writes a file that is either not there or complete.
fn write_at_once(path: &Path, text: &str) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

impl resources::Facts for Shared {
    fn service(&self, name: &ServiceName) -> Option<Arc<ServiceEntry>> {
        self.read().service(name).cloned()
    }

    fn services(&self) -> Vec<Arc<ServiceEntry>> {
        self.read().services().cloned().collect()
    }

    fn endpoints(&self, service: &ServiceName) -> Vec<Arc<EndpointEntry>> {
        self.read().endpoints(service).cloned().collect()
    }

    fn region(&self, name: &RegionName) -> Option<Arc<RegionEntry>> {
        self.read().region(name).cloned()
    }

    fn regions(&self) -> Vec<Arc<RegionEntry>> {
        self.read().regions().cloned().collect()
    }
}

/// Settings of the resources, as the options have them.
fn settings(options: &Options) -> Settings {
    Settings {
        trust_domain: options.trust_domain.clone(),
        default_region: options.default_region.clone(),
        debug: options.debug_receipts,
        limits: resources::Limits {
            per_node: options.max_node_destinations,
            in_all: options.max_destinations,
        },
        ..Settings::new(options.region.clone())
    }
}
