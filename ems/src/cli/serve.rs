//! `ems serve`: options, log, sockets and signals around [`crate::serve::run`].

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::{
    options::{LogFormat, Options, RawOptions},
    record::FieldError,
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
    let (file, faults) = match &args.config {
        Some(path) => RawOptions::read(path).context("cannot read the config file")?,
        None => Default::default(),
    };
    let config = args.config.as_deref().unwrap_or(Path::new(""));
    let checked = args.raw.or(file).check();
    let mut lines: Vec<_> = faults
        .iter()
        .map(|error| format!("\n  {}: {error}", config.display()))
        .collect();
    if let Err(errors) = &checked {
        // What could not be read is not missing.
        let unread = faults.iter().any(|fault| fault.field == "region");
        let told = |error: &&FieldError| !(unread && error.field == "--region");
        lines.extend(
            errors
                .iter()
                .filter(told)
                .map(|error| format!("\n  {error}")),
        );
    }
    let options = match checked {
        Ok(options) if lines.is_empty() => options,
        _ => return Err(anyhow!("the options are not right:{}", lines.concat())),
    };
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
