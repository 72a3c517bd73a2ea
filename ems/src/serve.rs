//! The server: puts the parts together, and stops them again.
//!
//! Callers own the sockets and the shutdown. The HTTP side answers at once, and says that it is not ready; Envoys are
//! let in only after the first load, so none is ever told of an empty registry that is merely not loaded yet.

mod assembly;
mod connection;
mod facts;
mod insight;
pub mod network;
pub mod room;

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use axum::Router;
use isthmus_proto::{FILE_DESCRIPTOR_SET, v1::registry_server::RegistryServer};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinSet, spawn_blocking},
    time::{interval, timeout},
};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use crate::{
    api::{self, Api},
    identity::Wallet,
    lease::server::Lessor,
    options::Options,
    ratelimit::{front::Front, server::Limiter},
    resources::Change,
};
use assembly::{Assembly, Publisher};
use network::{Terms, admission, grpc, listen, serve};
use room::Room;

/// How long connections may take to end after the last stream was sent away.
const GRACE: Duration = Duration::from_secs(3);
/// How often budgets are looked at that may be forgotten.
const SWEEP: Duration = Duration::from_secs(10);
/// How often certificates are looked at.
const RENEWAL: Duration = Duration::from_secs(60);

/// Sockets to serve on.
#[derive(Debug)]
pub struct Listeners {
    /// For Envoys.
    pub xds: TcpListener,
    /// For people and programs.
    pub http: TcpListener,
    /// How many connections each takes.
    pub room: Room,
}

impl Listeners {
    /// Binds the addresses of the options. Port 0 is any free port.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn bind(options: &Options, room: Room) -> Result<Self> {
        let bind = |flag, address| {
            listen(address).with_context(|| format!("cannot listen on {address} ({flag})"))
        };
        Ok(Self {
            xds: bind("--xds-address", options.xds_address)?,
            http: bind("--http-address", options.http_address)?,
            room,
        })
    }
}

/// Serves until `shutdown`, then lets Envoys go over some time and stops.
///
/// # Errors
/// The data cannot be opened, or a part that must not end has ended.
pub async fn run(
    options: Options,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let addresses = Addresses::of(&listeners)?;
    let room = listeners.room;
    let Assembly {
        registrar,
        follower,
        wallet,
        publisher,
        envoys,
        limiter,
        lessor,
        api,
    } = Assembly::new(&options).await?;
    tokio::pin!(shutdown);

    // Those that run until they are dropped, and those that end when they are told to.
    let (mut keepers, mut servers) = (JoinSet::new(), JoinSet::new());
    let changed = publisher.clone();
    keepers.spawn(async move {
        follower.run(|affected| changed.publish(affected)).await;
        "following the store"
    });
    keepers.spawn(async move {
        renew(&wallet, &publisher).await;
        "renewing certificates"
    });
    let swept = (limiter.clone(), lessor.clone());
    keepers.spawn(async move {
        sweep(&swept.0, &swept.1).await;
        "forgetting budgets"
    });

    let (stop_http, http_stopped) = watch::channel(false);
    let (stop_xds, xds_stopped) = watch::channel(false);
    let (health, services) = services(&api)?;
    let pages = services.clone().merge(api::http::router(api));
    let keepalive = options.keepalive;
    let terms = Terms {
        places: room.http,
        admission: None,
        keepalive,
    };
    let ended = serve(listeners.http, Routes::from(pages), terms, http_stopped);
    servers.spawn(async move {
        ended.await;
        "serving HTTP"
    });
    tokio::select! {
        () = registrar.loaded() => {}
        () = &mut shutdown => return Ok(()),
    }
    let home = registrar.write(|registry, _| registry.put_home()).await;
    home.context("cannot write the record of the own region")?;
    let services = grpc(services.merge(envoys.router()), lessor.service());
    let services = Front::new(limiter, Routes::from(services));
    let terms = Terms {
        places: room.xds,
        admission: admission(options.max_connects_per_second),
        keepalive,
    };
    let ended = serve(listeners.xds, services, terms, xds_stopped);
    servers.spawn(async move {
        ended.await;
        "serving xDS"
    });
    health.set_serving::<RegistryServer<Api>>().await;
    addresses.announce(&options).await?;

    tokio::select! {
        () = &mut shutdown => info!("stopping"),
        ended = keepers.join_next() => return Err(too_early(ended)),
        ended = servers.join_next() => return Err(too_early(ended)),
    }
    health.set_not_serving::<RegistryServer<Api>>().await;
    // Whoever is sent away goes elsewhere at once: its connection was told before that nothing new is taken on it, and
    // the socket takes no other. Each server has a receiver.
    tokio::join!(envoys.drain(options.drain), async {
        let _ = stop_xds.send(true);
    });
    lessor.close();
    let _ = stop_http.send(true);
    let all_ended = async { while servers.join_next().await.is_some() {} };
    if timeout(GRACE, all_ended).await.is_err() {
        warn!("some connections did not end in time; closing them");
    }
    servers.shutdown().await;
    keepers.shutdown().await;
    info!("stopped");
    Ok(())
}

/// The gRPC services that both sockets have, and the reporter of their health.
fn services(api: &Api) -> Result<(HealthReporter, Router)> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("cannot serve the schema's descriptors")?;
    let registry = RegistryServer::new(api.clone());
    let registry = registry.max_decoding_message_size(api::http::BODY_LIMIT);
    let router = grpc(grpc(grpc(Router::new(), registry), health), reflection);
    Ok((reporter, router))
}

/// Renews certificates before they end.
async fn renew(wallet: &Wallet, publisher: &Publisher) {
    let mut tick = interval(RENEWAL);
    loop {
        tick.tick().await;
        let renewed = wallet.renew();
        if !renewed.is_empty() {
            info!(count = renewed.len(), "renewed certificates");
            publisher.publish(renewed.into_iter().map(Change::Identity));
        }
    }
}

/// Forgets budgets whose windows are over.
async fn sweep(limiter: &Limiter, lessor: &Lessor) {
    if let Some(redis) = limiter.redis() {
        redis.greet().await;
    }
    let mut tick = interval(SWEEP);
    loop {
        tick.tick().await;
        limiter.sweep();
        lessor.sweep();
    }
}

/// The error that a part has ended which must not.
fn too_early(ended: Option<Result<&'static str, JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(what)) => anyhow!("{what} ended by itself"),
        Some(Err(error)) => anyhow!(error).context("a part of the server failed"),
        None => anyhow!("nothing is running"),
    }
}

/// Where the sockets are really bound.
struct Addresses {
    xds: SocketAddr,
    http: SocketAddr,
}

impl Addresses {
    fn of(listeners: &Listeners) -> Result<Self> {
        Ok(Self {
            xds: listeners.xds.local_addr().context("no xDS socket")?,
            http: listeners.http.local_addr().context("no HTTP socket")?,
        })
    }

    /// Says that the server is ready, and where.
    async fn announce(&self, options: &Options) -> Result<()> {
        let Self { xds, http } = self;
        info!(region = %options.region, %xds, %http, "listening");
        for what in exposed(*xds, *http) {
            warn!("{what}");
        }
        if let Some(path) = options.ready_file.clone() {
            let text = json!({ "xds": xds.to_string(), "http": http.to_string() });
            let write = spawn_blocking(move || write_at_once(&path, &text.to_string()));
            write.await.context("writing the ready file")??;
        }
        Ok(())
    }
}

/// What is given away to whoever reaches a socket from elsewhere: neither asks anybody who they are.
fn exposed(xds: SocketAddr, http: SocketAddr) -> Vec<&'static str> {
    let xds_says = "the xDS address is no loopback one: whoever reaches it is given the certificate and private key of \
                    any service or gateway of the region, and can change the registry";
    let http_says =
        "the HTTP address is no loopback one: whoever reaches it can read and change the registry";
    [(xds, xds_says), (http, http_says)]
        .into_iter()
        .filter(|(address, _)| !address.ip().is_loopback())
        .map(|(_, what)| what)
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_to_others_is_said() {
        for (xds, http, parts) in [
            ("127.0.0.1:1", "[::1]:2", &[][..]),
            ("0.0.0.0:1", "127.0.0.1:2", &["private key"]),
            ("127.0.0.1:1", "10.0.0.1:2", &["HTTP"]),
            ("[::]:1", "[::]:2", &["private key", "HTTP"]),
        ] {
            let said = exposed(xds.parse().unwrap(), http.parse().unwrap());
            assert_eq!(said.len(), parts.len(), "{xds} {http}: {said:?}");
            for (what, part) in said.iter().zip(parts) {
                assert!(what.contains(part), "{xds} {http}: {what}");
            }
        }
    }
}
