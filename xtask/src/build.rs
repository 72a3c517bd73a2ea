//! Building what the other commands start: the programs for this machine, and the filter for Envoy.

use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::setup::{self, envoy};
use crate::shell;

/// The programs that a mesh and the example are made of.
pub(crate) fn programs() -> Result<()> {
    shell::run(&mut shell::cargo([
        "build",
        "--package",
        "ems",
        "--package",
        "schema-update",
    ]))
}

/// The filter.
pub(crate) fn filter() -> Result<()> {
    shell::run(&mut filter_build())
}

fn filter_build() -> Command {
    let mut cargo = shell::cargo(["build", "--package", "isthmus-filter", "--quiet"]);
    cargo.args(["--profile", "wasm", "--target", "wasm32-wasip1"]);
    cargo
}

/// Everything that the demo starts, from nothing: what can go side by side does.
///
/// The programs take longest, so they come first and alone show their progress. Near their end a single crate keeps one
/// processor busy; the filter, at a lower priority, takes the others then. Envoy is a download.
pub(crate) fn for_demo() -> Result<()> {
    let start = Instant::now();
    thread::scope(|scope| {
        let envoy = scope.spawn(|| envoy::ensure(&envoy::CURRENT));
        let filter = scope.spawn(|| {
            setup::filter().and_then(|()| shell::run(&mut shell::yielding(&filter_build())))
        });
        let programs = programs();
        let others = [envoy.join(), filter.join()];
        others.into_iter().fold(programs, |so_far, other| {
            so_far.and(other.map_err(|_| anyhow!("a thread of the build panicked"))?)
        })
    })?;
    eprintln!("build: done ({:.1} s)", start.elapsed().as_secs_f32());
    Ok(())
}
