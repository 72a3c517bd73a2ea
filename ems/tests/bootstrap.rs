//! What `ems bootstrap` prints is what Envoy takes, in every version that is supported.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

use clap::Parser;
use ems::bootstrap::{BootstrapArgs, bootstrap};
use isthmus_tests::{WorkDir, artifact};

#[derive(Parser)]
struct Bootstrap {
    #[command(flatten)]
    args: BootstrapArgs,
}

#[test]
fn envoy_takes_every_kind() {
    let dir = WorkDir::new("bootstrap").unwrap();
    for version in artifact::OLDER_ENVOYS
        .into_iter()
        .chain([artifact::ENVOY_VERSION])
    {
        let binary = artifact::envoy_version(version).unwrap();
        for kind in ["sidecar", "host", "gateway"] {
            for more in [
                "",
                "--uses a,b.eu --zone z1 --listen [::1]:1 --xds ems-us:2",
            ] {
                let words = format!("x --kind {kind} --service s --region us {more}");
                let parsed = Bootstrap::try_parse_from(words.split_whitespace()).unwrap();
                let yaml = bootstrap(&parsed.args, "h").unwrap();
                let file = dir.write(&format!("{kind}.yaml"), &yaml).unwrap();
                let output = Command::new(&binary)
                    .args([
                        "--mode",
                        "validate",
                        "--disable-hot-restart",
                        "--log-level",
                        "warning",
                    ])
                    .arg("--config-path")
                    .arg(file)
                    .output()
                    .unwrap();
                let log = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{version} {words}: {log}\n{yaml}");
                // A field that is on its way out, or none that Envoy knows.
                assert!(!log.contains("[warning]"), "{version} {words}: {log}");
            }
        }
    }
}
