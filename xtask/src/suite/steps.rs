//! The steps of the test command, in the order in which they are run: what fails soonest first.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use super::Scope;
use super::report::{Outcome, Tally};
use crate::{build, compose, demo, setup, shell};

/// One step.
pub(super) struct Step {
    pub(super) name: &'static str,
    /// The smallest scope that it belongs to.
    pub(super) scope: Scope,
    /// Nothing after it makes sense when it fails.
    pub(super) others_need_it: bool,
    pub(super) run: fn(Scope, &mut Tally) -> Result<Outcome>,
}

/// All of them.
pub(super) const ALL: &[Step] = &[
    Step {
        name: "setup",
        scope: Scope::Local,
        others_need_it: true,
        run: set_up,
    },
    Step {
        name: "format",
        scope: Scope::Ci,
        others_need_it: false,
        run: format,
    },
    Step {
        name: "build",
        scope: Scope::Local,
        others_need_it: true,
        run: build_all,
    },
    Step {
        name: "demo",
        scope: Scope::Ci,
        others_need_it: false,
        run: demo,
    },
    Step {
        name: "tests",
        scope: Scope::Local,
        others_need_it: false,
        run: tests,
    },
    Step {
        name: "decision tables on wasm32",
        scope: Scope::Local,
        others_need_it: false,
        run: wasm_tables,
    },
    Step {
        name: "clippy",
        scope: Scope::Ci,
        others_need_it: false,
        run: clippy,
    },
    Step {
        name: "cargo-deny",
        scope: Scope::Ci,
        others_need_it: false,
        run: deny,
    },
    Step {
        name: "advisories",
        scope: Scope::Ci,
        others_need_it: false,
        run: advisories,
    },
    Step {
        name: "Docker stack",
        scope: Scope::Ci,
        others_need_it: false,
        run: docker_stack,
    },
];

/// `cargo test` over everything that runs on this machine. Of names it takes one, while the tests' own programs take any
/// number, behind `--`.
pub(super) fn cargo_test(arguments: &[OsString]) -> Command {
    let mut command = shell::cargo(["test", "--workspace", "--no-fail-fast"]);
    let are_names = !arguments
        .iter()
        .any(|a| a.to_string_lossy().starts_with('-'));
    if arguments.len() > 1 && are_names {
        command.arg("--");
    }
    command.args(arguments);
    command
}

fn set_up(scope: Scope, _: &mut Tally) -> Result<Outcome> {
    if scope == Scope::Ci {
        setup::ci()?
    } else {
        setup::test()?
    }
    Ok(Outcome::Passed)
}

fn format(_: Scope, _: &mut Tally) -> Result<Outcome> {
    shell::run(&mut shell::cargo(["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed)
}

fn build_all(_: Scope, _: &mut Tally) -> Result<Outcome> {
    build::filter()?;
    build::programs()?;
    Ok(Outcome::Passed)
}

fn demo(_: Scope, _: &mut Tally) -> Result<Outcome> {
    demo::run(true)?;
    Ok(Outcome::Passed)
}

fn tests(_: Scope, tally: &mut Tally) -> Result<Outcome> {
    shell::run_watched(&mut cargo_test(&[]), |line| tally.read(line))?;
    Ok(Outcome::Passed)
}

/// The same tables as in the native run: they must decide alike on both.
fn wasm_tables(_: Scope, tally: &mut Tally) -> Result<Outcome> {
    let mut command = shell::cargo([
        "test",
        "--package",
        "isthmus-model",
        "--target",
        "wasm32-unknown-unknown",
    ]);
    command.env(
        "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER",
        setup::wasm_test_runner_path(),
    );
    shell::run_watched(&mut command, |line| tally.read(line))?;
    Ok(Outcome::Passed)
}

fn clippy(_: Scope, _: &mut Tally) -> Result<Outcome> {
    let strict = ["--", "--deny", "warnings"];
    let native = ["clippy", "--workspace", "--all-targets"];
    shell::run(shell::cargo(native).args(strict))?;
    let wasm = [
        "clippy",
        "--package",
        "isthmus-filter",
        "--target",
        "wasm32-wasip1",
    ];
    shell::run(shell::cargo(wasm).args(strict))?;
    // No member of the workspace, and nothing else would notice that it does not compile any more.
    let fuzz = ["clippy", "--manifest-path", "fuzz/Cargo.toml", "--locked"];
    let fuzz = [&fuzz[..], &["--target-dir", "target/fuzz-check"]].concat();
    let mut fuzz = shell::cargo(fuzz);
    shell::run(fuzz.args(strict).env("RUSTFLAGS", "--cfg fuzzing"))?;
    Ok(Outcome::Passed)
}

fn deny(_: Scope, _: &mut Tally) -> Result<Outcome> {
    let mut command = Command::new(setup::cargo_deny_path());
    command
        .args(["--workspace", "check", "bans", "licenses", "sources"])
        .current_dir(shell::root());
    shell::run(&mut command)?;
    Ok(Outcome::Passed)
}

/// The database of advisories is a git repository, which not every machine can reach.
fn advisories(_: Scope, _: &mut Tally) -> Result<Outcome> {
    let deny = |words: &[&str]| {
        let mut command = Command::new(setup::cargo_deny_path());
        command.args(words).current_dir(shell::root());
        command
    };
    if shell::output(&mut deny(&["fetch", "db"])).is_err() {
        return Ok(Outcome::LeftOut(
            "the advisory database cannot be fetched from this machine".into(),
        ));
    }
    shell::run(&mut deny(&[
        "--workspace",
        "check",
        "--disable-fetch",
        "advisories",
    ]))?;
    Ok(Outcome::Passed)
}

fn docker_stack(_: Scope, _: &mut Tally) -> Result<Outcome> {
    if let Some(why) = compose::obstacle() {
        return Ok(Outcome::LeftOut(why));
    }
    compose::test(false)?;
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_names() {
        for (words, expected) in [
            ("", ""),
            ("one", "one"),
            ("one two", "-- one two"),
            ("--package ems one", "--package ems one"),
            ("one -- --nocapture", "one -- --nocapture"),
        ] {
            let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
            let command = cargo_test(&words);
            let found: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
            let given: Vec<_> = expected.split_whitespace().collect();
            assert!(
                found.ends_with(&given.iter().map(|&a| a.into()).collect::<Vec<_>>()),
                "{found:?}"
            );
            assert_eq!(found.len(), 3 + given.len(), "{found:?}");
        }
    }
}
