//! `cargo xtask …`: everything a developer runs, in one place and in the language of the project.
//!
//! It is the first thing that a clean clone compiles, so it depends on next to nothing: what other programs do well
//! (pip checks a download, docker-compose runs a stack) is left to them. All talk goes to standard error; standard
//! output belongs to results.

mod args;
mod build;
mod compose;
mod demo;
mod fuzz;
mod interrupt;
mod setup;
mod shell;
mod suite;

use std::process::ExitCode;

use args::Task;

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Help(text) => {
            println!("{text}");
            Ok(())
        }
        Task::Demo { once } => demo::run(once),
        Task::Setup(purpose) => setup::run(purpose),
        Task::Test { filters } if !filters.is_empty() => suite::filtered(&filters),
        Task::Test { .. } => suite::run(if on_ci() {
            suite::Scope::Ci
        } else {
            suite::Scope::Local
        }),
        Task::Ci => suite::run(suite::Scope::Ci),
        Task::E2e { arguments } => suite::e2e(&arguments),
        Task::ComposeTest { keep_images } => compose::test(keep_images),
        Task::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Task::Bench { arguments } => suite::bench(&arguments),
    }
}

/// Continuous integration services set `CI=true`; there the test command also runs what is too slow or too strict for
/// every edit.
fn on_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}
