//! What the other commands need, checked and installed. Quick and silent about what is there already.
//!
//! Everything of ours goes to `.tools/` in the clone; only Rust targets and Debian packages change the machine.

pub(crate) mod debian;
pub(crate) mod envoy;
mod python;
mod rust;

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::args::Purpose;
use crate::shell;

/// Installs what is missing for a purpose.
pub(crate) fn run(purpose: Purpose) -> Result<()> {
    let start = Instant::now();
    match purpose {
        Purpose::Demo => demo()?,
        Purpose::Test => test()?,
        Purpose::Bench => bench()?,
        Purpose::Ci => ci()?,
        Purpose::ComposeTest => compose_test()?,
    }
    eprintln!("setup: all there ({:.1} s)", start.elapsed().as_secs_f32());
    Ok(())
}

/// What the demo needs.
pub(crate) fn demo() -> Result<()> {
    filter()?;
    envoy::ensure(&envoy::CURRENT)
}

/// What building the filter needs.
pub(crate) fn filter() -> Result<()> {
    rust::target("wasm32-wasip1")
}

/// What the tests need.
pub(crate) fn test() -> Result<()> {
    demo()?;
    rust::target("wasm32-unknown-unknown")?;
    for release in &envoy::OLDER {
        envoy::ensure(release)?;
    }
    debian::ensure(&debian::NODE)?;
    debian::ensure(&debian::REDIS)?;
    rust::wasm_test_runner()?;
    python::grpcio()
}

/// What the measurements need.
pub(crate) fn bench() -> Result<()> {
    demo()?;
    debian::ensure(&debian::WRK)
}

/// What measuring limits of the region needs.
pub(crate) fn ratelimit_bench() -> Result<()> {
    debian::ensure(&debian::REDIS)
}

/// What fuzzing needs.
pub(crate) fn fuzz() -> Result<()> {
    rust::cargo_fuzz()
}

/// What continuous integration needs, Docker apart: that is used where it is there.
pub(crate) fn ci() -> Result<()> {
    test()?;
    rust::component("rustfmt")?;
    rust::component("clippy")?;
    rust::cargo_deny()
}

/// What the test of the Docker stack needs.
pub(crate) fn compose_test() -> Result<()> {
    demo()?;
    debian::ensure(&debian::DOCKER)?;
    if has_compose_plugin() {
        return Ok(());
    }
    debian::ensure(&debian::COMPOSE)
}

/// Whether `docker compose` works, so that `docker-compose` is not needed.
pub(crate) fn has_compose_plugin() -> bool {
    shell::output(Command::new("docker").args(["compose", "version"])).is_ok()
}

pub(crate) use rust::{cargo_deny_path, cargo_fuzz_path, wasm_test_runner_path};

/// One line about one tool.
fn say(what: &str, state: &str) {
    eprintln!("setup: {what}: {state}");
}
