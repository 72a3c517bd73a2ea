//! The servers that are compared: EMS's engine and the floor, each in a process of its own.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use isthmus_tests::{Call, Process, WorkDir, http};

use crate::usage;

/// How long the slowest request to the control port may take: that which makes 10,000 resources.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// EMS's engine, with raw resources.
    Engine,
    /// Bytes that are ready, and no protocol.
    Floor,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    process: Process,
    xds: SocketAddr,
    ctl: SocketAddr,
    client: ureq::Agent,
}

/// A set of endpoint resources, as the control port is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// Resources.
    pub(crate) resources: u64,
    /// Endpoints of each.
    pub(crate) endpoints: u64,
    /// What the content depends on.
    pub(crate) version: u64,
    /// How many change.
    pub(crate) change: u64,
}

impl Server {
    /// Starts one on free ports.
    pub(crate) fn start(dir: &WorkDir, kind: Kind) -> Result<Self> {
        let name = match kind {
            Kind::Engine => "xds-fixture",
            Kind::Floor => "xds-floor",
        };
        let mut command = Command::new(sibling(name)?);
        command.args(["--xds", "127.0.0.1:0", "--ctl", "127.0.0.1:0"]);
        // The log is read for where it listens, and must not be that of the one before.
        let log = dir.path().join(format!("{name}.log"));
        let _ = fs::remove_file(&log);
        let mut process = Process::start(name, dir, command)?;
        let mut found = None;
        process.wait_ready(|| {
            let text = fs::read_to_string(&log)?;
            found = Some((address(&text, "xds ")?, address(&text, "ctl ")?));
            Ok(())
        })?;
        let (xds, ctl) = found.context("it does not say where it listens")?;
        Ok(Self {
            kind,
            process,
            xds,
            ctl,
            client: http::agent(PATIENCE),
        })
    }

    /// Where it serves xDS.
    pub(crate) fn xds(&self) -> SocketAddr {
        self.xds
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What may be done before the clock of a [`Server::set`] starts.
    pub(crate) fn prepare(&self, set: Set) -> Result<()> {
        match self.kind {
            Kind::Engine => Ok(()),
            Kind::Floor => self.ask("prepare", set),
        }
    }

    /// Changes resources.
    pub(crate) fn set(&self, set: Set) -> Result<()> {
        self.ask("set", set)
    }

    fn ask(&self, page: &str, set: Set) -> Result<()> {
        let Set {
            resources,
            endpoints,
            version,
            change,
        } = set;
        let query = format!("n={resources}&e={endpoints}&v={version}&change={change}");
        let url = format!("http://{}/{page}?{query}", self.ctl);
        Call::on(&self.client, "GET", url).send()?.ok().map(drop)
    }
}

/// A program that lies where this one does, and so was built alike.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let path = env::current_exe()
        .context("cannot tell where this program lies")?
        .with_file_name(name);
    if !path.is_file() {
        bail!(
            "{} is missing; cargo xtask bench builds what it needs",
            path.display()
        );
    }
    Ok(path)
}

/// Waits until a process has nothing left to do, and gives the CPU time that it has used: what a change costs includes
/// what comes after the last receipt.
pub(crate) fn settled(pid: u32) -> Result<f64> {
    const STEP: Duration = Duration::from_millis(25);
    const LIMIT: Duration = Duration::from_secs(20);
    /// A process that rests still has timers.
    const NOISE: f64 = 0.0005;
    let begin = Instant::now();
    let mut before = usage::cpu_seconds(pid)?;
    let mut calm = 0;
    while calm < 2 && begin.elapsed() < LIMIT {
        thread::sleep(STEP);
        let now = usage::cpu_seconds(pid)?;
        calm = if now - before < NOISE { calm + 1 } else { 0 };
        before = now;
    }
    Ok(before)
}

/// The address that a log says after a word.
pub(crate) fn address(log: &str, prefix: &str) -> Result<SocketAddr> {
    let line = log.lines().find_map(|line| line.strip_prefix(prefix));
    let text = line.with_context(|| format!("no line {prefix:?} in its output yet"))?;
    text.parse()
        .with_context(|| format!("{text} is no address"))
}
