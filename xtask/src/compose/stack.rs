//! The running stack: `docker-compose` on the file of the clone, under a name of its own, gone with the value.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::base;
use crate::{setup, shell};

/// What the compose file asks for each port that it publishes.
const PORTS: [&str; 8] = [
    "EMS_EU_PORT",
    "EMS_US_PORT",
    "HOST_EU_PORT",
    "HOST_EU_ADMIN_PORT",
    "HOST_US_PORT",
    "HOST_US_ADMIN_PORT",
    "GATEWAY_EU_ADMIN_PORT",
    "GATEWAY_US_ADMIN_PORT",
];

/// A stack of its own beside one that somebody may be running.
const PROJECT: &str = "isthmus-compose-test";

/// Containers, networks, volumes and images of the compose file.
#[derive(Debug)]
pub(super) struct Stack {
    /// Images that were there before.
    before: BTreeSet<String>,
    keep_images: bool,
}

impl Stack {
    /// Builds the images and starts everything; returns when what the last service waits for is healthy.
    pub(super) fn up(keep_images: bool) -> Result<Self> {
        let stack = Self {
            before: images()?,
            keep_images,
        };
        shell::run(compose().arg("build"))?;
        shell::run(compose().args(["up", "--detach"]))?;
        Ok(stack)
    }

    /// `host:port` of a service's published port.
    pub(super) fn address(&self, service: &str, port: u16) -> Result<String> {
        let address = shell::output(compose().args(["port", service, &port.to_string()]))?;
        ensure!(
            !address.trim().is_empty(),
            "{service} does not publish its port {port}"
        );
        Ok(address.trim().to_owned())
    }

    /// Whether a command in a service's container succeeds.
    pub(super) fn succeeds_in(&self, service: &str, command: &[&str]) -> bool {
        shell::output(compose().args(["exec", "-T", service]).args(command)).is_ok()
    }

    /// Names of the services that are on a network.
    pub(super) fn on_network(&self, network: &str) -> Result<BTreeSet<String>> {
        let format = r#"{{range .Containers}}{{.Name}} {{end}}"#;
        let network = format!("{PROJECT}_{network}");
        let names = shell::output(
            Command::new("docker").args(["network", "inspect", "--format", format, &network]),
        )?;
        names.split_whitespace().map(service_of).collect()
    }

    /// Takes a service off a network.
    pub(super) fn disconnect(&self, network: &str, service: &str) -> Result<()> {
        shell::run(
            Command::new("docker")
                .args(["network", "disconnect", &format!("{PROJECT}_{network}")])
                .arg(container(service)?),
        )
    }

    /// Puts a service back on a network.
    pub(super) fn connect(&self, network: &str, service: &str) -> Result<()> {
        // Compose gives a container its service's name as an alias; so must who connects it by hand.
        let mut command = Command::new("docker");
        command.args([
            "network",
            "connect",
            "--alias",
            service,
            &format!("{PROJECT}_{network}"),
        ]);
        shell::run(command.arg(container(service)?))
    }

    /// Prints the state and the last lines of every service, for somebody who looks at a failure.
    pub(super) fn show(&self) {
        for arguments in [&["ps"][..], &["logs", "--no-color", "--tail=40"][..]] {
            let _ = shell::run(compose().args(arguments));
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        eprintln!("compose-test: removing the stack");
        shell::clean_up(compose().args([
            "down",
            "--volumes",
            "--remove-orphans",
            "--timeout",
            "5",
        ]));
        if !self.keep_images
            && let Err(error) = remove_images(&self.before)
        {
            eprintln!("cannot clean up: {error:#}");
        }
    }
}

/// Removes what the build made, the layers of the build stage included: every image that was not there before and that
/// comes from one of the bases of our Dockerfile, and the containers in which steps of an interrupted build go on.
fn remove_images(before: &BTreeSet<String>) -> Result<()> {
    let bases = base::bases_here()?;
    loop {
        let new: BTreeSet<String> = images()?.difference(before).cloned().collect();
        let ours: BTreeSet<&String> = new
            .iter()
            .filter(|image| comes_from(image, &bases))
            .collect();
        if ours.is_empty() {
            return Ok(());
        }
        for (container, image) in containers()? {
            if ours.contains(&image) {
                shell::output(Command::new("docker").args(["rm", "--force", &container]))?;
            }
        }
        // An image goes once nothing is made from it any more, so what fails now may work in the next round.
        let failed = shell::output(Command::new("docker").args(["rmi", "--force"]).args(&ours));
        if images()?.difference(before).count() >= new.len() {
            failed?;
        }
    }
}

/// Every container, with the image that it was made from.
fn containers() -> Result<Vec<(String, String)>> {
    let ids = shell::output(Command::new("docker").args(["ps", "--all", "--quiet"]))?;
    let image_of = |id: &str| {
        let mut inspect = Command::new("docker");
        shell::output(inspect.args(["inspect", "--format", "{{.Image}}", id])).ok()
    };
    let pairs = ids
        .lines()
        .filter_map(|id| Some((id.to_owned(), image_of(id)?.trim().to_owned())));
    Ok(pairs.collect())
}

fn comes_from(image: &str, bases: &BTreeSet<String>) -> bool {
    let mut image = image.to_owned();
    loop {
        let parent = shell::output(Command::new("docker").args([
            "image",
            "inspect",
            "--format",
            "{{.Parent}}",
            &image,
        ]));
        match parent.map(|parent| parent.trim().to_owned()) {
            Ok(parent) if bases.contains(&parent) => return true,
            Ok(parent) if !parent.is_empty() => image = parent,
            _ => return false,
        }
    }
}

fn images() -> Result<BTreeSet<String>> {
    let list =
        shell::output(Command::new("docker").args(["images", "--all", "--quiet", "--no-trunc"]))?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn container(service: &str) -> Result<String> {
    let id = shell::output(compose().args(["ps", "--quiet", service]))?;
    Ok(id
        .lines()
        .next()
        .with_context(|| format!("{service} does not run"))?
        .to_owned())
}

/// `isthmus-compose-test_gateway-us_1` (or with dashes, in newer versions) is `gateway-us`.
fn service_of(container: &str) -> Result<String> {
    let rest = container
        .strip_prefix(PROJECT)
        .and_then(|rest| rest.get(1..));
    let service = rest
        .and_then(|rest| rest.rsplit_once(['_', '-']))
        .map(|(service, _)| service.to_owned());
    service.with_context(|| format!("{container} is no container of ours"))
}

/// `docker compose` where there is one, else `docker-compose`.
fn compose() -> Command {
    let mut command = if setup::has_compose_plugin() {
        let mut command = Command::new("docker");
        command.arg("compose");
        command
    } else {
        Command::new("docker-compose")
    };
    // Any free ports: what the compose file says may be in use on this machine.
    command.envs(PORTS.map(|name| (name, "")));
    command
        .args(["--project-name", PROJECT])
        .current_dir(shell::root());
    command
}

#[cfg(test)]
mod tests {
    use super::service_of;

    #[test]
    fn containers_are_named_after_services() {
        for (container, service) in [
            ("isthmus-compose-test_gateway-us_1", Some("gateway-us")),
            ("isthmus-compose-test-gateway-us-1", Some("gateway-us")),
            ("someone-else", None),
        ] {
            assert_eq!(service_of(container).ok().as_deref(), service);
        }
    }
}
