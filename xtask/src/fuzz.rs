//! Fuzzing: arbitrary input for what reads bytes of strangers, for as long as one likes.
//!
//! The code under test is safe Rust, so no sanitizer is needed, and with that no nightly toolchain: what finds new paths
//! are counters that stable compilers can put in.

use std::process::Command;

use anyhow::{Result, bail};

use crate::setup;
use crate::shell;

/// Runs one target, or each in turn, for a number of seconds.
pub(crate) fn run(target: Option<&str>, seconds: u32) -> Result<()> {
    setup::fuzz()?;
    let all = shell::output(&mut cargo_fuzz("list", &[]))?;
    let all: Vec<&str> = all.split_whitespace().collect();
    let targets = match target {
        Some(target) if all.contains(&target) => vec![target],
        Some(target) => bail!("no target '{target}'; there are {}", all.join(", ")),
        None => all,
    };
    for target in targets {
        let build = ["--sanitizer", "none", "--target-dir", "target/fuzz", target];
        let limit = format!("-max_total_time={seconds}");
        let limits = ["--", &limit, "-max_len=4096", "-timeout=25"];
        shell::run(cargo_fuzz("run", &build).args(limits))?;
    }
    Ok(())
}

fn cargo_fuzz(verb: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(setup::cargo_fuzz_path());
    command
        .args([verb, "--fuzz-dir", "fuzz"])
        .args(arguments)
        .current_dir(shell::root());
    command
}
