//! Fuzzing: arbitrary input for what reads bytes of strangers, for as long as one likes.
//!
//! The code under test is safe Rust, so no sanitizer is needed, and with that no nightly toolchain: what finds new paths
//! are counters that stable compilers can put in.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::setup;
use crate::shell;

/// Runs one target, or each in turn, for a number of seconds.
pub(crate) fn run(target: Option<&str>, seconds: u32) -> Result<()> {
    let all = targets()?;
    let targets = match target {
        Some(target) if all.iter().any(|name| name == target) => vec![target.to_owned()],
        Some(target) => bail!("no target '{target}'; there are {}", all.join(", ")),
        None => all,
    };
    setup::fuzz()?;
    for target in targets {
        let build = [
            "--sanitizer",
            "none",
            "--target-dir",
            "target/fuzz",
            &target,
        ];
        let limit = format!("-max_total_time={seconds}");
        let limits = ["--", &limit, "-max_len=4096", "-timeout=25"];
        shell::run(cargo_fuzz("run", &build).args(limits))?;
    }
    Ok(())
}

/// The names of all targets: each is a file.
fn targets() -> Result<Vec<String>> {
    let folder = shell::root().join("fuzz/fuzz_targets");
    let files =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|end| end == "rs") {
            names.extend(
                path.file_stem()
                    .map(|name| name.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    Ok(names)
}

fn cargo_fuzz(verb: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(setup::cargo_fuzz_path());
    command
        .args([verb, "--fuzz-dir", "fuzz"])
        .args(arguments)
        .current_dir(shell::root());
    command
}
