//! Where the things under test are: built by cargo, or set up by `cargo xtask setup`. Each can be overridden.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The Envoy that Isthmus is made for.
pub const ENVOY_VERSION: &str = "1.40.0";

/// A release of each older line that is supported, oldest first.
pub const OLDER_ENVOYS: [&str; 4] = ["1.36.4", "1.37.0", "1.38.2", "1.39.3"];

/// The root of the workspace.
pub fn workspace() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().with_context(|| {
        format!(
            "the workspace {} is gone; run this from a checkout",
            root.display()
        )
    })
}

/// Cargo's target folder: `CARGO_TARGET_DIR`, or `target`.
pub fn target_dir() -> Result<PathBuf> {
    let root = workspace()?;
    Ok(match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root.join(dir),
        None => root.join("target"),
    })
}

/// Envoy of [`ENVOY_VERSION`], or the binary that `ENVOY_BIN` names.
pub fn envoy() -> Result<PathBuf> {
    match env::var_os("ENVOY_BIN") {
        Some(path) => existing(path.into(), "ENVOY_BIN names no file"),
        None => envoy_version(ENVOY_VERSION),
    }
}

/// Envoy of a given version, as `cargo xtask setup` fetches it.
pub fn envoy_version(version: &str) -> Result<PathBuf> {
    existing(
        workspace()?
            .join(".tools/envoy")
            .join(version)
            .join("envoy"),
        &format!("Envoy {version} is missing; run: cargo xtask setup"),
    )
}

/// The `ems` binary: `EMS_BIN`, or what cargo built.
pub fn ems() -> Result<PathBuf> {
    binary("EMS_BIN", "ems", "ems")
}

/// The filter: `ISTHMUS_FILTER`, or what cargo built.
pub fn filter() -> Result<PathBuf> {
    let built = target_dir()?.join("wasm32-wasip1/wasm/isthmus_filter.wasm");
    existing(
        env::var_os("ISTHMUS_FILTER").map_or(built, PathBuf::from),
        "the filter is missing; run: \
         cargo build -p isthmus-filter --profile wasm --target wasm32-wasip1",
    )
}

/// A binary of the running example, such as `schema-database`.
pub fn example(name: &str) -> Result<PathBuf> {
    binary("SCHEMA_UPDATE_BIN_DIR", name, "schema-update")
}

/// Python, with the gRPC packages that `cargo xtask setup` installs.
pub fn python() -> Result<Command> {
    let packages = workspace()?.join(".tools/python");
    if !packages.join("grpc").is_dir() {
        bail!("Python's grpcio is missing; run: cargo xtask setup");
    }
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages);
    Ok(python)
}

/// A binary of this workspace: the variable names it (or the folder that holds it), else cargo built it.
fn binary(variable: &str, name: &str, package: &str) -> Result<PathBuf> {
    let built = target_dir()?.join("debug").join(name);
    let path = match env::var_os(variable).map(PathBuf::from) {
        Some(dir) if dir.is_dir() => dir.join(name),
        Some(file) => file,
        None => built,
    };
    existing(
        path,
        &format!("{name} is missing; run: cargo build -p {package}"),
    )
}

fn existing(path: PathBuf, otherwise: &str) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("{otherwise} (looked for {})", path.display());
    }
    path.canonicalize()
        .with_context(|| format!("cannot resolve {}", path.display()))
}
