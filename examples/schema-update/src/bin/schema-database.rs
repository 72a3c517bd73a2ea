//! A database of the example: serves gRPC, and registers itself at the EMS of its region.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use schema_update::{
    database::{self, Database, Identity},
    registration::{HEARTBEAT, Registration},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task,
    time::{self, MissedTickBehavior},
};

/// A database that takes schemas over gRPC.
#[derive(Debug, Parser)]
struct Options {
    /// Service name of the database
    #[arg(long, env = "DATABASE")]
    database: String,
    /// Region it runs in
    #[arg(long, env = "REGION")]
    region: String,
    /// Name of this process among those of the service
    #[arg(long, env = "INSTANCE", default_value = "1")]
    instance: String,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:0")]
    listen: String,
    /// Address that Envoys reach it at, when that is not the one it listens on
    #[arg(long, env = "ADVERTISE")]
    advertise: Option<String>,
    /// API of the region's EMS, such as http://127.0.0.1:18080; left out, somebody else registers it
    #[arg(long, env = "EMS_SERVER")]
    ems: Option<String>,
    /// Seconds between leaving the rotation and the end, for requests that are on their way
    #[arg(long, env = "DRAIN_SECONDS", default_value_t = 1)]
    drain_seconds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind(&options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let local = listener.local_addr()?;
    let identity = Identity {
        database: options.database.clone(),
        region: options.region,
        instance: options.instance.clone(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(database::serve(listener, Database::new(identity), async {
        let _ = stopped.await;
    }));
    println!("{} serves on {local}", options.database);

    let registration = match options.ems {
        Some(ems) => {
            let address = match options.advertise {
                Some(address) => address,
                None if local.ip().is_unspecified() => {
                    bail!("--advertise must say how to reach what listens on {local}")
                }
                None => local.ip().to_string(),
            };
            Some(Registration::new(
                &ems,
                &options.database,
                &options.instance,
                &address,
                local.port(),
            ))
        }
        None => None,
    };
    match registration {
        Some(registration) => {
            heartbeat_until_terminated(&registration).await?;
            leave(registration, Duration::from_secs(options.drain_seconds)).await;
        }
        None => terminated().await?,
    }
    let _ = stop.send(());
    serving.await??;
    Ok(())
}

/// Registers, and again every few seconds. A failure is told and tried again: EMS may be away for a while, and the
/// mesh goes on with what it knows.
async fn heartbeat_until_terminated(registration: &Registration) -> Result<()> {
    let mut terminated = std::pin::pin!(terminated());
    let mut beat = time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut terminated => return ended,
            _ = beat.tick() => tell(registration, Registration::put).await,
        }
    }
}

/// Out of rotation first, then a moment for what is on its way, then gone.
async fn leave(registration: Registration, patience: Duration) {
    tell(&registration, Registration::drain).await;
    time::sleep(patience).await;
    tell(&registration, Registration::delete).await;
}

/// Does one step with EMS off the event loop, and prints why it failed if it did.
async fn tell(registration: &Registration, step: fn(&Registration) -> Result<()>) {
    let registration = registration.clone();
    if let Ok(Err(error)) = task::spawn_blocking(move || step(&registration)).await {
        eprintln!("{error:#}");
    }
}

async fn terminated() -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
