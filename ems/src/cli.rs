//! The commands of the `ems` binary: arguments in, one call out. What a command does is in the module of its name.

mod serve;

use std::io::Write;

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
    /// Print the bootstrap of an Envoy, as YAML
    Bootstrap(Box<BootstrapArgs>),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// What went wrong, for a person to read.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(args) => serve::run(*args),
            Command::Bootstrap(args) => print(&bootstrap(&args, &hostname())),
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to stdout")
}

/// This machine's name.
fn hostname() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
