//! The `ems` binary.

use std::process::ExitCode;

use clap::Parser;
use ems::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ems: {error:#}");
            ExitCode::FAILURE
        }
    }
}
