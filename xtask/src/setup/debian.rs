//! Programs that come as Debian packages: installed when we may, named when we may not.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::say;
use crate::shell;

/// A program and the package that has it.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

pub(crate) const NODE: Program = Program {
    name: "node",
    package: "nodejs",
};
pub(crate) const WRK: Program = Program {
    name: "wrk",
    package: "wrk",
};
pub(crate) const REDIS: Program = Program {
    name: "redis-server",
    package: "redis-server",
};
pub(crate) const DOCKER: Program = Program {
    name: "docker",
    package: "docker.io",
};
pub(crate) const COMPOSE: Program = Program {
    name: "docker-compose",
    package: "docker-compose",
};
pub(crate) const DEBOOTSTRAP: Program = Program {
    name: "debootstrap",
    package: "debootstrap",
};

/// Installs the package unless the program is there.
pub(crate) fn ensure(program: &Program) -> Result<()> {
    if shell::find(program.name).is_some() {
        return Ok(());
    }
    install(program.name, program.package)
}

/// Installs a package for something that was found missing.
pub(super) fn install(what: &str, package: &str) -> Result<()> {
    if shell::find("apt-get").is_none() {
        bail!(
            "{what} is missing: install it and try again (in Debian it is in the package {package})"
        );
    }
    if !is_root() {
        bail!(
            "{what} is missing: run 'sudo apt-get install --no-install-recommends {package}' and try again"
        );
    }
    say(what, "installing by apt-get");
    let install = || {
        let mut command = Command::new("apt-get");
        command.args([
            "install",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            package,
        ]);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        shell::output(&mut command)
    };
    // A fresh machine has no package lists, an old one has stale ones: both show only as a failed install.
    install()
        .or_else(|_| {
            shell::output(Command::new("apt-get").args(["update", "--quiet"]))?;
            install()
        })
        .with_context(|| format!("cannot install the Debian package {package}"))?;
    Ok(())
}

fn is_root() -> bool {
    // Who owns our own process, without a call into libc.
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
