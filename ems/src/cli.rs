//! The commands of the `ems` binary: arguments in, one call out. What a command does is in the module of its name.

mod client;
mod diff;
mod document;
mod explain;
mod files;
mod get;
mod limits;
mod rejections;
mod serve;
mod status;
mod table;

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::bootstrap::{BootstrapArgs, bootstrap};

/// The Envoy Management Service of Isthmus: registry and xDS server of one region
#[derive(Debug, Parser)]
#[command(name = "ems", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server of a region
    Serve(Box<serve::Args>),
    /// Print the bootstrap of an Envoy, as YAML, or of a gRPC library, as JSON
    Bootstrap(Box<BootstrapArgs>),
    /// Create or change records from files
    Apply(files::Apply),
    /// Print what apply would do, field by field; exits with 0: nothing, 1: something, 2: it cannot be told
    Diff(files::Diff),
    /// Check files of records, without a server
    Validate(files::Validate),
    /// Print records
    Get(get::Get),
    /// Delete records
    Delete(get::Delete),
    /// Print every connected Envoy, what it has and what it rejected
    Status(status::Status),
    /// Print the limits of the region: what each let pass and refused, and the budgets that are asked for most
    Limits(limits::Limits),
    /// Print what the mesh would do with a request, step by step
    Explain(explain::Explain),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// What went wrong, for a person to read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Diff(args) => {
                let differs = files::diff(&args, print)?;
                return Ok(ExitCode::from(u8::from(differs)));
            }
            Command::Serve(args) => serve::run(*args),
            Command::Bootstrap(args) => print(&bootstrap(&args, &crate::host::hostname())?),
            Command::Apply(args) => files::apply(&args, print),
            Command::Validate(args) => print(&files::validate(&args)?),
            Command::Get(args) => print(&get::get(&args)?),
            Command::Delete(args) => get::delete(&args, print),
            Command::Status(args) => print(&status::status(&args)?),
            Command::Limits(args) => limits::limits(&args, print),
            Command::Explain(args) => print(&explain::explain(&args)?),
        }?;
        Ok(ExitCode::SUCCESS)
    }

    /// What to exit with after an error: `diff` has another meaning for 1.
    #[must_use]
    pub fn failure(&self) -> ExitCode {
        match self.command {
            Command::Diff(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}
