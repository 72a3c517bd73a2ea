//! Two regions on this machine, and a schema change that goes to every database in both.
//!
//! Everything that runs here is what would run anywhere: EMS, stock Envoys, services that know no address. It is started
//! by the guards of the end-to-end tests, so that Ctrl-C, a failure or a kill leaves nothing behind.

use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use isthmus_tests::ems::Node;
use isthmus_tests::{Envoy, Mesh, Process, WorkDir, artifact, eventually};

use crate::interrupt::Interrupt;
use crate::{build, shell};

const DATABASES: &[&str] = &["billing-db", "orders-db"];

const REGIONS: &[&str] = &["eu", "us"];

/// The schema that the example's caller finds.
const SCHEMA: &str = "examples/schema-update/schema.sql";

/// Builds, starts, shows, and stays until Ctrl-C unless it is to be `once`.
pub(crate) fn run(once: bool) -> Result<()> {
    let start = Instant::now();
    let interrupt = Interrupt::catch()?;
    build::for_demo()?;
    interrupt.check()?;

    say("starting two regions: in each an EMS, a gateway, a host Envoy and two databases");
    let stage = Stage::set()?;
    interrupt.check()?;

    say(
        "a schema change: one request per database, with its service and its region and nothing else",
    );
    stage.update_schema()?;
    say(&format!(
        "{:.0} s from the command to here",
        start.elapsed().as_secs_f32()
    ));
    stage.show_refusals()?;
    stage.show_encryption()?;
    if once {
        return Ok(());
    }
    stage.show_what_to_try();
    interrupt.wait();
    eprintln!("\nstopping");
    Ok(())
}

/// Everything that runs. What is first here is stopped first: services leave while there is an EMS to tell.
#[derive(Debug)]
struct Stage {
    databases: Vec<Process>,
    sidecar: Envoy,
    mesh: Mesh,
}

impl Stage {
    fn set() -> Result<Self> {
        let mesh = Mesh::start()?;
        let sidecar = mesh.us.envoy(&Node::sidecar("schema-updater"))?;
        let mut databases = Vec::new();
        for region in [&mesh.eu, &mesh.us] {
            for database in DATABASES {
                databases.push(start_database(
                    database,
                    &region.name,
                    &region.ems.url(),
                    region.dir(),
                )?);
            }
        }
        for region in [&mesh.eu, &mesh.us] {
            for database in DATABASES {
                eventually("the databases to register", || {
                    region
                        .ems
                        .get(&format!("/v1/services/{database}/endpoints/1"))
                        .map(drop)
                })?;
            }
        }
        Ok(Self {
            databases,
            sidecar,
            mesh,
        })
    }

    /// The example's caller, which talks to nobody but the Envoy beside it.
    fn update_schema(&self) -> Result<()> {
        let mut updater = Command::new(artifact::example("schema-updater")?);
        updater.arg("--schema").arg(shell::root().join(SCHEMA));
        updater
            .arg("--envoy")
            .arg(format!("http://{}", self.sidecar.address()));
        updater.args([
            "--databases",
            &DATABASES.join(","),
            "--regions",
            &REGIONS.join(","),
        ]);
        updater.args(["--receipts", "--once"]);
        shell::run_to(&mut updater).context("the schema did not reach every database")
    }

    fn show_refusals(&self) -> Result<()> {
        say("what cannot be routed is told so, each in its own way");
        for (service, region, error) in [
            ("orders-db", "mars", "unknown_region"),
            ("nobody", "eu", "unknown_service"),
        ] {
            let reply = self.mesh.us.host.get(service, region)?;
            println!(
                "{service} in {region}: HTTP {}, {}",
                reply.status,
                reply.body.trim_end()
            );
            ensure!(
                reply.error() == Some(error),
                "expected the error {error}, got {reply:?}"
            );
        }
        Ok(())
    }

    /// By Envoy's own count on both ends of the way.
    fn show_encryption(&self) -> Result<()> {
        let sent = self.sidecar.stat_sum(".ssl.handshake")?;
        let received = self.mesh.eu.gateway.stat_sum(".ssl.handshake")?;
        let (_, version) = self
            .mesh
            .eu
            .gateway
            .stats()?
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .find_map(|(name, count)| {
                Some((count, name.split_once(".ssl.versions.")?.1.to_owned()))
            })
            .ok_or_else(|| anyhow!("the gateway of eu has seen no TLS"))?;
        ensure!(
            sent > 0 && received > 0,
            "the way between the regions is not encrypted: {sent} and {received}"
        );
        say(&format!(
            "between the regions: {version}, {sent} handshakes by the sidecar, {received} at the gateway of eu, each \
             with a certificate from both sides"
        ));
        Ok(())
    }

    fn show_what_to_try(&self) {
        say("look at");
        for region in [&self.mesh.eu, &self.mesh.us] {
            println!(
                "  region {}: EMS           {}/v1/nodes, /v1/services, /metrics",
                region.name,
                region.ems.url()
            );
            println!("             host Envoy    {}", region.host.admin_url());
            println!("             gateway Envoy {}", region.gateway.admin_url());
        }
        println!("  sidecar of the caller    {}", self.sidecar.admin_url());
        say("try");
        let host = self.mesh.us.host.address();
        println!(
            "  curl -i http://{host}/schema -H 'x-mesh-service: orders-db' -H 'x-mesh-region: eu' -H 'x-mesh-debug: 1'"
        );
        println!("\nCtrl-C stops everything.");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Each takes a moment to leave in good order; together they take one.
        thread::scope(|scope| {
            for mut database in self.databases.drain(..) {
                scope.spawn(move || database.stop());
            }
        });
    }
}

fn start_database(database: &str, region: &str, ems: &str, dir: &WorkDir) -> Result<Process> {
    let mut command = Command::new(artifact::example("schema-database")?);
    command.args(["--database", database, "--region", region, "--ems", ems]);
    Process::start(database, dir, command)
}

fn say(what: &str) {
    println!("\n== {what} ==");
}
