//! The `ems` binary: see [`ems::cli`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let command = ems::cli::Cli::parse();
    let failure = command.failure();
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            // The only place that tells of an error: as one line, its causes behind it.
            eprintln!("ems: {error:#}");
            failure
        }
    }
}
