//! The `ems` binary: see [`ems::cli`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match ems::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The only place that tells of an error: as one line, its causes behind it.
            eprintln!("ems: {error:#}");
            ExitCode::FAILURE
        }
    }
}
