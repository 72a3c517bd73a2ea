//! Building what the other commands start: the programs for this machine, and the filter for Envoy.

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
    let arguments = [
        "build",
        "--package",
        "isthmus-filter",
        "--profile",
        "wasm",
        "--target",
        "wasm32-wasip1",
    ];
    shell::run(shell::cargo(arguments).arg("--quiet"))
}

/// Everything that the demo starts, from nothing: what can go side by side does.
///
/// The programs take longest, so they alone show their progress. The filter is optimised by one thread, and Envoy is a
/// download: both fit beside them.
pub(crate) fn for_demo() -> Result<()> {
    let start = Instant::now();
    thread::scope(|scope| {
        let envoy = scope.spawn(|| envoy::ensure(&envoy::CURRENT));
        let filter = scope.spawn(|| setup::filter().and_then(|()| filter()));
        let programs = programs();
        let others = [envoy.join(), filter.join()];
        others.into_iter().fold(programs, |so_far, other| {
            so_far.and(other.map_err(|_| anyhow!("a thread of the build panicked"))?)
        })
    })?;
    eprintln!("build: done ({:.1} s)", start.elapsed().as_secs_f32());
    Ok(())
}
