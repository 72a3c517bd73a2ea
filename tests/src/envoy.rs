//! A running Envoy, and what its admin page says.

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    artifact,
    http::{self, Call, Reply},
    port::Port,
    process::Process,
    workdir::WorkDir,
};

/// What an Envoy is started with.
#[derive(Debug)]
pub struct EnvoyOptions {
    /// Name of its bootstrap and log in the work folder.
    pub name: String,
    /// The binary; see [`artifact::envoy`].
    pub binary: PathBuf,
    /// Its bootstrap, YAML.
    pub bootstrap: String,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The port that the bootstrap gives its admin page.
    pub admin: Port,
    /// The port that its listener will have.
    pub listen: Port,
    /// Worker threads; one, unless a test is about several.
    pub workers: u32,
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: Port,
    listen: Port,
    client: ureq::Agent,
}

impl Envoy {
    /// Starts an Envoy, and waits until it is live and listens.
    pub fn start(dir: &WorkDir, options: EnvoyOptions) -> Result<Envoy> {
        let mut envoy = Envoy::launch(dir, options)?;
        envoy.wait_ready()?;
        Ok(envoy)
    }

    /// Starts an Envoy of the usual version on a bootstrap made from two free ports: the admin page's and the listener's.
    pub fn with_bootstrap(
        dir: &WorkDir,
        name: &str,
        bootstrap: impl FnOnce(&Port, &Port) -> Result<String>,
    ) -> Result<Envoy> {
        Envoy::with_workers(dir, name, 1, bootstrap)
    }

    /// [`Envoy::with_bootstrap`] with so many worker threads.
    pub fn with_workers(
        dir: &WorkDir,
        name: &str,
        workers: u32,
        bootstrap: impl FnOnce(&Port, &Port) -> Result<String>,
    ) -> Result<Envoy> {
        let (admin, listen) = (Port::reserve()?, Port::reserve()?);
        let options = EnvoyOptions {
            name: name.to_owned(),
            binary: artifact::envoy()?,
            bootstrap: bootstrap(&admin, &listen)?,
            arguments: Vec::new(),
            admin,
            listen,
            workers,
        };
        Envoy::start(dir, options)
    }

    /// Starts an Envoy and does not wait.
    pub fn launch(dir: &WorkDir, options: EnvoyOptions) -> Result<Envoy> {
        let config = dir.write(&format!("{}.yaml", options.name), &options.bootstrap)?;
        let mut command = Command::new(&options.binary);
        command
            .arg("--config-path")
            .arg(config)
            // Several Envoys share this machine; what hot restarts need would stay in shared memory after them.
            .arg("--disable-hot-restart")
            .args(["--concurrency", &options.workers.to_string()])
            .args(["--log-level", "warning"])
            .args(&options.arguments);
        Ok(Envoy {
            process: Process::start(&options.name, dir, command)?,
            admin: options.admin,
            listen: options.listen,
            client: http::agent(Duration::from_secs(10)),
        })
    }

    /// Waits until it is live and listens.
    pub fn wait_ready(&mut self) -> Result<()> {
        let (client, admin, port) = (&self.client, &self.admin, self.listen.number());
        self.process.wait_ready(|| {
            get(client, admin, "/ready")?.ok()?;
            let listeners = get(client, admin, "/listeners?format=json")?.ok()?.json();
            let listens = listeners
                .pointer("/listener_statuses")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .any(|listener| {
                    listener.pointer("/local_address/socket_address/port_value")
                        == Some(&Value::from(port))
                });
            ensure!(listens, "live, but does not listen on {port} yet");
            Ok(())
        })
    }

    /// The port of its listener.
    pub fn port(&self) -> u16 {
        self.listen.number()
    }

    /// `127.0.0.1:<port>` of its listener.
    pub fn address(&self) -> String {
        self.listen.address()
    }

    /// Base URL of its admin page.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin.address())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        self.process.log_text()
    }

    /// Prints the end of its log.
    pub fn show(&self) {
        self.process.show();
    }

    /// A request to its listener.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::on(
            &self.client,
            method,
            format!("http://{}{path}", self.address()),
        )
    }

    /// `GET /` for a service in a region: all that a caller says.
    pub fn get(&self, service: &str, region: &str) -> Result<Reply> {
        self.call("GET", "/").service(service).region(region).send()
    }

    /// A page of its admin interface.
    pub fn admin(&self, path: &str) -> Result<Reply> {
        get(&self.client, &self.admin, path)?.ok()
    }

    /// All counters and gauges.
    pub fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let page = self.admin("/stats")?.body;
        let number = |line: &str| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(page.lines().filter_map(number).collect())
    }

    /// One counter or gauge; 0 when Envoy has none of the name.
    pub fn stat(&self, name: &str) -> Result<u64> {
        Ok(self.stats()?.get(name).copied().unwrap_or_default())
    }

    /// The sum of all counters and gauges whose names hold `part`.
    pub fn stat_sum(&self, part: &str) -> Result<u64> {
        let stats = self.stats()?;
        Ok(stats
            .iter()
            .filter(|(name, _)| name.contains(part))
            .map(|(_, value)| value)
            .sum())
    }

    /// The whole config dump, endpoints included.
    pub fn config_dump(&self) -> Result<Value> {
        Ok(self.admin("/config_dump?include_eds")?.json())
    }

    /// A cluster as the control plane sent it.
    pub fn cluster(&self, name: &str) -> Result<Value> {
        let page = self.admin("/config_dump?resource=dynamic_active_clusters")?;
        let page = page.json();
        let found = page
            .pointer("/configs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.get("cluster"))
            .find(|cluster| cluster.get("name").and_then(Value::as_str) == Some(name));
        match found {
            Some(cluster) => Ok(cluster.clone()),
            None => bail!("no cluster {name} in {}", self.process.name()),
        }
    }

    /// Whether it has a cluster.
    pub fn has_cluster(&self, name: &str) -> bool {
        self.clusters()
            .is_ok_and(|clusters| clusters.contains_key(name))
    }

    /// The addresses of every cluster, with their health flags.
    pub fn clusters(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
        let page = self.admin("/clusters")?.body;
        let mut clusters: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for line in page.lines() {
            let Some((name, rest)) = line.split_once("::") else {
                continue;
            };
            let hosts = clusters.entry(name.to_owned()).or_default();
            if let Some((address, flags)) = rest.split_once("::health_flags::") {
                hosts.insert(address.to_owned(), flags.to_owned());
            }
        }
        Ok(clusters)
    }

    /// Whether a cluster has a host on a port, and Envoy would send requests there.
    pub fn sends_to(&self, cluster: &str, port: u16) -> bool {
        let suffix = format!(":{port}");
        self.clusters().is_ok_and(|clusters| {
            clusters.get(cluster).is_some_and(|hosts| {
                hosts
                    .iter()
                    .any(|(address, flags)| address.ends_with(&suffix) && flags == "healthy")
            })
        })
    }

    /// Stops it.
    pub fn stop(&mut self) {
        self.process.stop();
    }
}

fn get(client: &ureq::Agent, admin: &Port, path: &str) -> Result<Reply> {
    Call::on(client, "GET", format!("http://{}{path}", admin.address()))
        .send()
        .context("the admin page of Envoy does not answer")
}
