//! Base images for a machine that reaches no image registry: the names and tags that the Dockerfile asks for, made from
//! Debian, the machine's own Rust toolchain and certificates, and the same Envoy binary.
//!
//! They stand in for the real ones as closely as an unmodified Dockerfile needs. What is particular to this machine
//! (cargo's configuration, proxies, certificates) goes into them and nowhere else.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use super::system::System;
use crate::interrupt::Interrupt;
use crate::setup::{debian, envoy};
use crate::shell;

/// Settings of cargo that a build inside a container needs as well. Credentials are not among them.
const SETTINGS: &[&str] = &[
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_SOURCE_",
    "CARGO_REGISTRIES_",
];

const PROXIES: &[&str] = &["http_proxy", "https_proxy", "no_proxy", "all_proxy"];

/// Where Debian and many others keep the certificates that they trust.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Images that were made here; they go with the value.
#[derive(Debug)]
pub(super) struct BaseImages {
    made: Vec<String>,
    keep: bool,
}

impl BaseImages {
    /// Sees to it that every image that the Dockerfile starts from can be had: it is here, can be pulled, or is made.
    pub(super) fn provide(keep: bool, interrupt: &Interrupt) -> Result<Self> {
        let mut images = Self {
            made: Vec::new(),
            keep,
        };
        let dockerfile = dockerfile()?;
        let absent: Vec<&str> = bases(&dockerfile)
            .into_iter()
            .filter(|image| !is_here(image))
            .collect();
        let Some(first) = absent.first() else {
            return Ok(images);
        };
        if shell::run(Command::new("docker").args(["pull", "--quiet", first])).is_ok() {
            // So the registry can be reached, and the build pulls the others.
            return Ok(images);
        }
        eprintln!(
            "compose-test: images cannot be pulled here; making {} from Debian",
            absent.join(", ")
        );
        debian::ensure(&debian::DEBOOTSTRAP)?;
        let smallest = System::bootstrap()?;
        for image in absent {
            interrupt.check()?;
            eprintln!("compose-test: making {image}");
            images.made.push(image.to_owned());
            make(image, &smallest)?;
        }
        Ok(images)
    }
}

impl Drop for BaseImages {
    fn drop(&mut self) {
        if !self.made.is_empty() && !self.keep {
            shell::clean_up(
                Command::new("docker")
                    .args(["rmi", "--force"])
                    .args(&self.made),
            );
        }
    }
}

fn make(image: &str, smallest: &System) -> Result<()> {
    match image.split_once(':') {
        Some(("debian", tag)) if tag.starts_with("bookworm") => smallest.import(image, &[]),
        Some(("rust", _)) => rust(image, smallest),
        Some(("envoyproxy/envoy", tag))
            if tag.trim_start_matches('v') == envoy::CURRENT.version =>
        {
            with_envoy(image, smallest)
        }
        _ => bail!("do not know how to stand in for the image {image}"),
    }
}

/// Like the official image: a compiler, cargo and rustup, under /usr/local. It has the version of this machine.
fn rust(image: &str, smallest: &System) -> Result<()> {
    let system = smallest.copy()?;
    system.install(&["ca-certificates", "gcc", "libc6-dev"])?;
    system.add(CERTIFICATES.as_ref(), CERTIFICATES)?;

    let sysroot = shell::output(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(shell::root()),
    )?;
    let sysroot = PathBuf::from(sysroot.trim()).canonicalize()?;
    let name = sysroot
        .file_name()
        .and_then(|name| name.to_str())
        .context("the Rust toolchain has no name")?;
    // Without its manuals, which are half of it.
    for part in ["bin", "etc", "lib", "libexec"] {
        let from = sysroot.join(part);
        if from.is_dir() {
            system.add(
                &from,
                &format!("/usr/local/rustup/toolchains/{name}/{part}"),
            )?;
        }
    }
    system.write(
        "/usr/local/rustup/settings.toml",
        &format!("version = \"12\"\ndefault_toolchain = \"{name}\"\n"),
    )?;
    let rustup = shell::find("rustup")
        .context("rustup is missing")?
        .canonicalize()?;
    for proxy in ["rustup", "cargo", "rustc"] {
        system.add(&rustup, &format!("/usr/local/cargo/bin/{proxy}"))?;
    }
    if let Some(config) = cargo_config() {
        system.add(&config, "/usr/local/cargo/config.toml")?;
    }

    let mut changes = vec![
        "ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo".to_owned(),
        "ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    ];
    let settings = env::vars().filter(|(name, _)| is_passed_on(name));
    changes.extend(settings.map(|(name, value)| format!("ENV {name}={value:?}")));
    system.import(image, &changes)
}

/// Like the official image: the binary in the path, and a user of its own.
fn with_envoy(image: &str, smallest: &System) -> Result<()> {
    let system = smallest.copy()?;
    system.run(&[
        "useradd",
        "--system",
        "--uid",
        "101",
        "--user-group",
        "envoy",
    ])?;
    system.add(&envoy::path(&envoy::CURRENT), "/usr/local/bin/envoy")?;
    system.import(image, &[])
}

/// Cargo's configuration of this machine, which may name a mirror.
fn cargo_config() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))?;
    ["config.toml", "config"]
        .into_iter()
        .map(|name| home.join(name))
        .find(|file| file.is_file())
}

fn is_passed_on(variable: &str) -> bool {
    let setting = SETTINGS.iter().any(|prefix| variable.starts_with(prefix));
    let proxy = PROXIES.contains(&variable.to_ascii_lowercase().as_str());
    (setting && !variable.ends_with("_TOKEN")) || proxy
}

fn is_here(image: &str) -> bool {
    shell::output(Command::new("docker").args(["image", "inspect", image])).is_ok()
}

/// The images that a Dockerfile starts from, its own stages left out.
fn bases(dockerfile: &str) -> Vec<&str> {
    let mut stages = Vec::new();
    let mut bases = Vec::new();
    for line in dockerfile.lines() {
        let mut words = line.split_whitespace();
        if !words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("from"))
        {
            continue;
        }
        let Some(image) = words.find(|word| !word.starts_with("--")) else {
            continue;
        };
        if !stages.contains(&image) && !bases.contains(&image) {
            bases.push(image);
        }
        if let (Some(_as), Some(stage)) = (words.next(), words.next()) {
            stages.push(stage);
        }
    }
    bases
}

/// Ids of the images that the Dockerfile starts from, as far as they are on this machine.
pub(super) fn bases_here() -> Result<BTreeSet<String>> {
    let id = |image: &str| {
        let mut inspect = Command::new("docker");
        shell::output(inspect.args(["image", "inspect", "--format", "{{.Id}}", image])).ok()
    };
    let dockerfile = dockerfile()?;
    Ok(bases(&dockerfile)
        .into_iter()
        .filter_map(id)
        .map(|id| id.trim().to_owned())
        .collect())
}

fn dockerfile() -> Result<String> {
    let file = shell::root().join("Dockerfile");
    fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_images_that_are_not_stages() {
        let text = "# FROM nothing\nFROM rust:1 AS build\nRUN true\nFROM --platform=linux/amd64 debian:12 as small\n\
                    FROM small AS ems\nFROM debian:12\nCOPY --from=build /a /b\n";
        assert_eq!(bases(text), ["rust:1", "debian:12"]);
    }

    #[test]
    fn settings_are_passed_on_and_secrets_are_not() {
        for (variable, expected) in [
            ("CARGO_HTTP_CAINFO", true),
            ("CARGO_REGISTRIES_MIRROR_INDEX", true),
            ("CARGO_REGISTRIES_MIRROR_TOKEN", false),
            ("CARGO_REGISTRY_TOKEN", false),
            ("CARGO_MANIFEST_DIR", false),
            ("HTTPS_PROXY", true),
            ("https_proxy", true),
            ("HOME", false),
        ] {
            assert_eq!(is_passed_on(variable), expected, "{variable}");
        }
    }
}
