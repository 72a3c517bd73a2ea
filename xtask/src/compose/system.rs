//! A small Debian in a folder: made, copied, added to, and handed to Docker as an image. The folder goes with the value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::shell;

/// A tree of files that a container could run.
#[derive(Debug)]
pub(super) struct System {
    root: PathBuf,
}

impl System {
    /// The smallest Debian there is.
    pub(super) fn bootstrap() -> Result<Self> {
        let system = Self::reserve()?;
        let mut command = Command::new("debootstrap");
        command
            .args(["--variant=minbase", "bookworm"])
            .arg(&system.root);
        eprintln!("$ {}", shell::shown(&command));
        shell::output(&mut command)
            .context("cannot make a small Debian; it takes root and a Debian mirror")?;
        system.run(&["apt-get", "clean"])?;
        Ok(system)
    }

    /// The same once more, to be changed.
    pub(super) fn copy(&self) -> Result<Self> {
        let system = Self::reserve()?;
        copy(&self.root.join("."), &system.root, false)?;
        Ok(system)
    }

    /// Runs a program of the system in the system.
    pub(super) fn run(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(words);
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        shell::output(&mut command).map(drop)
    }

    /// Installs Debian packages.
    pub(super) fn install(&self, packages: &[&str]) -> Result<()> {
        self.run(&["apt-get", "update", "--quiet"])?;
        let install = [
            "apt-get",
            "install",
            "--yes",
            "--quiet",
            "--no-install-recommends",
        ];
        self.run(&[&install, packages].concat())?;
        self.run(&["apt-get", "clean"])
    }

    /// Puts a file or folder of the machine at an absolute path of the system.
    pub(super) fn add(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.root.join(to.trim_start_matches('/'));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        // What is big is linked: nothing writes to it on its way into the image.
        copy(from, &to, true).or_else(|_| copy(from, &to, false))
    }

    /// Writes a file of the system.
    pub(super) fn write(&self, to: &str, text: &str) -> Result<()> {
        fs::write(self.root.join(to.trim_start_matches('/')), text)
            .with_context(|| format!("cannot write {to}"))
    }

    /// Makes it a Docker image; `changes` are instructions as in a Dockerfile.
    pub(super) fn import(&self, image: &str, changes: &[String]) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--numeric-owner", "--directory"])
            .arg(&self.root)
            .arg(".");
        let mut import = Command::new("docker");
        import.arg("import");
        for change in changes {
            import.args(["--change", change]);
        }
        import.args(["-", image]);
        shell::pipe(tar, import).with_context(|| format!("cannot import {image}"))
    }

    /// An empty folder with a name of its own.
    fn reserve() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "system-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        // Not in the folder for temporary files: that may be small, in memory, or forbid devices.
        let root = shell::root().join("target/compose-test").join(name);
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Self { root })
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // An interrupted debootstrap may have left something mounted: stay out of it.
        shell::clean_up(
            Command::new("rm")
                .args(["--recursive", "--force", "--one-file-system"])
                .arg(&self.root),
        );
    }
}

fn copy(from: &Path, to: &Path, link: bool) -> Result<()> {
    let mut command = Command::new("cp");
    command
        .arg("--archive")
        .args(link.then_some("--link"))
        .arg("--no-target-directory")
        .arg(from)
        .arg(to);
    shell::output(&mut command).map(drop)
}
