//! Building what the other commands start: the programs for this machine, and the filter for Envoy.

use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::{setup, shell};

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
/// The programs take longest, so they go first and alone show their progress; Envoy is a download, and the filter is
/// optimised by one thread at the time when the programs wait for their linker.
pub(crate) fn for_demo() -> Result<()> {
    let start = Instant::now();
    let filter_and_envoy = || -> Result<()> {
        setup::demo()?;
        filter()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(filter_and_envoy);
        let built = programs();
        let other = other
            .join()
            .map_err(|_| anyhow!("a thread of the build panicked"))?;
        built.and(other)
    })?;
    eprintln!("build: done ({:.1} s)", start.elapsed().as_secs_f32());
    Ok(())
}
