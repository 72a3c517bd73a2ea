//! The test command: a list of steps, run to the end even when one fails, and a summary that hides nothing.
//!
//! There is one list for people and for continuous integration. The latter adds the steps that are too strict or too
//! slow for every edit, so that what the README tells people to run is what decides there as well.

mod report;
mod steps;

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::{build, interrupt::Interrupt, setup, shell};
use report::{Report, Tally};

/// How much to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// What a developer wants before a commit.
    Local,
    /// What must hold on the main branch.
    Ci,
}

/// Runs every step of the scope and prints the summary.
pub(crate) fn run(scope: Scope) -> Result<()> {
    let interrupt = Interrupt::catch()?;
    let mut report = Report::default();
    for step in steps::ALL.iter().filter(|step| step.scope <= scope) {
        eprintln!("\n== {} ==", step.name);
        let passed = report.time(step.name, |tally| (step.run)(scope, tally));
        if !passed && step.others_need_it {
            break;
        }
        interrupt.check()?;
    }
    if scope == Scope::Local {
        report.leave_out(
            "format, clippy, cargo-deny, demo, Docker stack",
            "they run with CI=true, or by cargo xtask ci",
        );
    }
    eprintln!("\n{report}");
    // On standard output and alone on its line, for whoever counts.
    println!("{}", report.tally());
    if report.failed() {
        bail!("not everything passed");
    }
    Ok(())
}

/// Runs the tests whose name matches.
pub(crate) fn filtered(filters: &[OsString]) -> Result<()> {
    setup::test()?;
    build::filter()?;
    build::programs()?;
    let mut tally = Tally::default();
    shell::run_watched(&mut steps::cargo_test(filters), |line| tally.read(line))?;
    let runs_none = ["--list", "--no-run", "--help"];
    if tally == Tally::default()
        && !filters
            .iter()
            .any(|word| runs_none.iter().any(|w| word == w))
    {
        bail!("no test has such a name; cargo xtask test -- --list names them all");
    }
    Ok(())
}

/// Runs the end-to-end tests alone.
pub(crate) fn e2e(arguments: &[OsString]) -> Result<()> {
    setup::test()?;
    build::filter()?;
    build::programs()?;
    shell::run_to(shell::cargo(["test", "--package", "isthmus-tests"]).args(arguments))
}

/// Runs a measurement: its output is the result, so nothing else may go to standard output.
pub(crate) fn bench(arguments: &[OsString]) -> Result<()> {
    let name = arguments.first().and_then(|name| name.to_str());
    let asks_for_help = name.is_none() || arguments.iter().any(|a| a == "--help" || a == "-h");
    let release: &[&str] = match name {
        // The list of measurements, which takes none of what measuring takes.
        _ if asks_for_help => {
            let mut bench = shell::cargo(["run", "--quiet", "--package", "isthmus-bench"]);
            return shell::run_to(bench.args(["--", "--help"]));
        }
        // What is measured here is our own programs, as people run them.
        Some("xds") => &["--package", "xds-fixture"],
        Some("ems") => &["--package", "ems"],
        Some("ratelimit") => {
            setup::ratelimit_bench()?;
            &["--package", "ems", "--package", "xds-fixture"]
        }
        // Before anything is built for it.
        Some(name) if name != "filter" => {
            bail!("no measurement '{name}'; cargo xtask bench lists them");
        }
        _ => {
            setup::bench()?;
            build::filter()?;
            let mut bench = shell::cargo(["run", "--quiet", "--package", "isthmus-bench", "--"]);
            return shell::run_to(bench.args(arguments));
        }
    };
    shell::run(shell::cargo(["build", "--release", "--package", "isthmus-bench"]).args(release))?;
    let mut bench = shell::cargo(["run", "--quiet", "--release", "--package", "isthmus-bench"]);
    shell::run_to(bench.arg("--").args(arguments))
}
