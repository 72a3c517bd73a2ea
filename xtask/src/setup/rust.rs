//! Rust's own parts: targets and components by rustup, two tools by `cargo install` into `.tools/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::say;
use crate::shell;

/// cargo-deny: the version that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

/// cargo-fuzz: any of these days will do; this one was tried.
const CARGO_FUZZ: &str = "0.13.2";

/// A compilation target.
pub(super) fn target(name: &str) -> Result<()> {
    let sysroot = shell::output(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(shell::root()),
    )
    .context("rustc is missing; install Rust with rustup")?;
    if PathBuf::from(sysroot.trim())
        .join("lib/rustlib")
        .join(name)
        .join("lib")
        .is_dir()
    {
        return Ok(());
    }
    if shell::find("rustup").is_none() {
        bail!(
            "the Rust target {name} is missing, and so is rustup: install the target as you installed Rust"
        );
    }
    say(name, "adding the target by rustup");
    shell::run(
        Command::new("rustup")
            .args(["target", "add", name])
            .current_dir(shell::root()),
    )
}

/// A part of the toolchain.
pub(super) fn component(name: &str) -> Result<()> {
    // Each is a cargo subcommand or a proxy of rustup, which exists without the component: only running it tells.
    let mut probe = match name {
        "rustfmt" => Command::new("rustfmt"),
        _ => shell::cargo([name]),
    };
    if shell::output(probe.arg("--version").current_dir(shell::root())).is_ok() {
        return Ok(());
    }
    say(name, "adding the component by rustup");
    shell::run(
        Command::new("rustup")
            .args(["component", "add", name])
            .current_dir(shell::root()),
    )
}

/// Runs tests for wasm32-unknown-unknown in Node.js; it must match the wasm-bindgen of Cargo.lock to the patch level.
pub(super) fn wasm_test_runner() -> Result<()> {
    let lock =
        fs::read_to_string(shell::root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let version =
        locked_version(&lock, "wasm-bindgen").context("Cargo.lock has no wasm-bindgen")?;
    install(
        "wasm-bindgen-test-runner",
        "wasm-bindgen-cli",
        version,
        &wasm_test_runner_path(),
        "about 2 minutes, once",
    )
}

/// Where [`wasm_test_runner`] is.
pub(crate) fn wasm_test_runner_path() -> PathBuf {
    shell::tools().join("bin/wasm-bindgen-test-runner")
}

/// Checks licences, bans, sources and advisories.
pub(super) fn cargo_deny() -> Result<()> {
    install(
        "cargo-deny",
        "cargo-deny",
        CARGO_DENY,
        &cargo_deny_path(),
        "about 3 minutes, once",
    )
}

/// Where [`cargo_deny`] is.
pub(crate) fn cargo_deny_path() -> PathBuf {
    shell::tools().join("bin/cargo-deny")
}

/// Builds and runs fuzz targets.
pub(super) fn cargo_fuzz() -> Result<()> {
    install(
        "cargo-fuzz",
        "cargo-fuzz",
        CARGO_FUZZ,
        &cargo_fuzz_path(),
        "about 1 minute, once",
    )
}

/// Where [`cargo_fuzz`] is.
pub(crate) fn cargo_fuzz_path() -> PathBuf {
    shell::tools().join("bin/cargo-fuzz")
}

fn install(
    binary: &str,
    package: &str,
    version: &str,
    path: &PathBuf,
    how_long: &str,
) -> Result<()> {
    let present = shell::output(Command::new(path).arg("--version")).unwrap_or_default();
    if present.split_whitespace().any(|word| word == version) {
        return Ok(());
    }
    say(
        &format!("{binary} {version}"),
        &format!("compiling ({how_long})"),
    );
    let install = |locked: Option<&str>| {
        let mut command = shell::cargo(["install", package, "--version", version, "--bin", binary]);
        command
            .args(locked)
            .arg("--force")
            .arg("--root")
            .arg(shell::tools());
        // Built for small work: what counts is the time to build it.
        command.arg("--debug").env("CARGO_PROFILE_DEV_DEBUG", "0");
        shell::run(&mut command)
    };
    // With the dependencies that its authors tested; where one of those has been withdrawn, with what cargo finds.
    install(Some("--locked"))
        .or_else(|_| {
            say(
                &format!("{binary} {version}"),
                "its own list of dependencies cannot be had here; compiling with what cargo finds",
            );
            install(None)
        })
        .with_context(|| format!("cannot install {binary} {version}"))
}

/// The version of a package in a lock file.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name).skip(1);
    lines
        .next()?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::locked_version;

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"wasm-bindgen-test\"\nversion = \"0.3.1\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.9\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.9"));
        assert_eq!(locked_version(lock, "wasm"), None);
    }
}
