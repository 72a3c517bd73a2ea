//! `ems serve`: options, log, sockets and signals around [`crate::serve::run`].

use std::{io::IsTerminal, path::PathBuf};

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::{
    options::{LogFormat, Options, RawOptions},
    serve::{self, Listeners, room::Room},
};

/// Flags of `ems serve`. Each is also a variable and, in camel case (xdsAddress), a field of the config file; flags
/// come before variables, and both before the file
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// YAML file with options
    #[arg(long, env = "EMS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    raw: RawOptions,
}

pub(super) fn run(args: Args) -> Result<()> {
    let file = match &args.config {
        Some(path) => RawOptions::read(path).context("cannot read the config file")?,
        None => RawOptions::default(),
    };
    let options = args.raw.or(file).check().map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(|error| format!("\n  {error}")).collect();
        anyhow!("the options are not right:{}", lines.concat())
    })?;
    start_log(&options)?;
    // Shells and service managers allow a process some thousand files unless it asks for more itself.
    let open_files = rlimit::increase_nofile_limit(u64::MAX)
        .context("cannot ask the system how many files may be open")?;
    let (room, too_few) = Room::of(open_files, options.max_streams);
    if let Some(too_few) = too_few {
        warn!("{too_few}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
        let listeners = Listeners::bind(&options, room).await?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve::run(options, listeners, shutdown).await
    })
}

fn start_log(options: &Options) -> Result<()> {
    let filter = EnvFilter::try_new(&options.log_level).context("--log-level")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow!(error).context("cannot start the log"))
}
