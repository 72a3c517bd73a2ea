//! The parts of a server, made from its options and put together. Nothing runs yet.

use std::{sync::Arc, time::SystemTime};

use anyhow::{Context, Result};
use isthmus_model::limit::lease;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::insight::Lookout;
use crate::{
    api::Api,
    host::hostname,
    identity::{DevelopmentCa, Wallet},
    lease::{Bounds, server::Lessor},
    metrics::{
        LeaseCollector, LimitCollector, Metrics, RegistryCollector, RejectedCollector, XdsCollector,
    },
    options::Options,
    ratelimit::{
        redis::Redis,
        server::{Limiter, Store},
    },
    registrar::{Follower, Registrar},
    registry::{Affected, Home, Registry},
    resources::{self, Change, Facts, Resources, Settings},
    store::RedbStore,
    xds::{limits::Limits, server::Server},
};

/// The parts.
pub(super) struct Assembly {
    pub(super) registrar: Registrar,
    pub(super) follower: Follower,
    pub(super) wallet: Arc<Wallet>,
    pub(super) publisher: Publisher,
    pub(super) envoys: Arc<Server>,
    pub(super) limiter: Limiter,
    pub(super) lessor: Lessor,
    pub(super) api: Api,
}

/// The way from a change to the Envoys whom it concerns.
#[derive(Clone)]
pub(super) struct Publisher {
    facts: Arc<dyn Facts>,
    limiter: Limiter,
    lessor: Lessor,
    resources: Resources,
    envoys: Arc<Server>,
}

impl Publisher {
    pub(super) fn publish<C: Into<Change>>(&self, changes: impl IntoIterator<Item = C>) {
        let changes: Vec<_> = changes.into_iter().map(Into::into).collect();
        // Before Envoys hear of a limit, and ask about it.
        for change in &changes {
            if let Change::Registry(Affected::Service(name)) = change {
                let service = self.facts.service(name);
                let service = service.as_ref().map(|entry| &entry.checked);
                let noted = self.limiter.book().note(name, service);
                if noted.changed {
                    self.lessor.changed(lease::begin(name));
                }
                if noted.begins && self.limiter.redis().is_some() {
                    warn!(
                        service = %name,
                        "a limit has lease: true, and there is a --redis: if several EMS answer the Envoys of this region, \
                         each leases out the whole limit, so that so many times as much may pass"
                    );
                }
            }
        }
        self.envoys.publish(self.resources.apply(&changes));
    }
}

impl Assembly {
    /// Opens what is in the data folder and builds on it.
    pub(super) async fn new(options: &Options) -> Result<Self> {
        let (store, ca) = open(options).await?;
        let wallet = Arc::new(Wallet::new(Arc::new(ca), SystemTime::now));
        let metrics = Arc::new(Metrics::default());
        let registry = Registry::new(Home {
            region: options.region.clone(),
            trust_bundle: wallet.trust_bundle().to_owned(),
        });
        let (registrar, follower) = Registrar::new(Arc::new(store), registry, metrics.clone());
        let facts = Arc::new(registrar.shared().clone());
        let resources = Resources::new(settings(options), facts.clone(), wallet.clone());
        let limiter = Limiter::new(options.headers.clone(), budgets(options)?);
        let lessor = Lessor::new(
            Arc::new(limiter.clone()),
            Bounds::default(),
            options.max_streams,
        );
        let limits = Limits {
            streams: options.max_streams,
            streams_per_node: options.max_streams_per_node,
            ..Limits::default()
        };
        let version = env!("CARGO_PKG_VERSION");
        let identifier = format!("ems/{version} {} {}", options.region, hostname());
        let envoys = Server::named(&identifier, Arc::new(resources.clone()), limits);
        metrics.collect(RegistryCollector(registrar.shared().clone()));
        metrics.collect(XdsCollector(envoys.clone()));
        metrics.collect(RejectedCollector(resources.clone()));
        metrics.collect(LimitCollector(limiter.clone()));
        metrics.collect(LeaseCollector(lessor.clone()));
        let lookout = Lookout {
            envoys: envoys.clone(),
            resources: resources.clone(),
            limiter: limiter.clone(),
            lessor: lessor.clone(),
        };
        let api = Api::new(registrar.clone(), Arc::new(lookout), metrics);
        let publisher = Publisher {
            facts,
            limiter: limiter.clone(),
            lessor: lessor.clone(),
            resources,
            envoys: envoys.clone(),
        };
        Ok(Self {
            registrar,
            follower,
            wallet,
            publisher,
            envoys,
            limiter,
            lessor,
            api,
        })
    }
}

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

/// Where budgets of the region are kept.
fn budgets(options: &Options) -> Result<Store> {
    let Some(url) = &options.redis else {
        return Ok(Store::memory());
    };
    let redis = Redis::new(url, &options.region).context("cannot use the Redis of --redis")?;
    Ok(Store::Redis(Box::new(redis)))
}

fn settings(options: &Options) -> Settings {
    Settings {
        trust_domain: options.trust_domain.clone(),
        default_region: options.default_region.clone(),
        debug: options.debug_receipts,
        headers: options.headers.clone(),
        limits: resources::Limits {
            per_node: options.max_node_destinations,
            in_all: options.max_destinations,
        },
        ..Settings::new(options.region.clone())
    }
}
