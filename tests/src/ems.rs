//! A running EMS and its HTTP API.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    artifact,
    envoy::{Envoy, EnvoyOptions},
    http::{self, Call, Reply},
    port::Port,
    process::{self, Process},
    workdir::WorkDir,
};

/// What an EMS is started with.
#[derive(Clone, Debug, Default)]
pub struct EmsOptions {
    /// The region it serves.
    pub region: String,
    /// Further arguments of `ems serve`.
    pub arguments: Vec<String>,
    /// The binary; [`artifact::ems`] where none is given.
    pub binary: Option<PathBuf>,
}

/// A running EMS. Its data are in the work folder, so a restart finds them again.
#[derive(Debug)]
pub struct Ems {
    process: Process,
    options: EmsOptions,
    dir: WorkDir,
    xds: Port,
    api: Port,
    client: ureq::Agent,
}

/// An Envoy to be, as `ems bootstrap` is asked for it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `sidecar`, `host` or `gateway`.
    pub kind: &'static str,
    /// The service that it speaks for; not for a gateway.
    pub service: String,
    /// Name of its files; made from the rest when empty.
    pub name: String,
    /// Envoy's version; the usual one when empty.
    pub version: String,
    /// Another way to EMS than its own port, such as a [`Link`](crate::Link); that when 0.
    pub xds_port: u16,
    /// Further arguments of `ems bootstrap`.
    pub arguments: Vec<String>,
    /// Further arguments of Envoy.
    pub envoy_arguments: Vec<String>,
    /// Envoy's worker threads; one when 0.
    pub workers: u32,
}

impl Ems {
    /// Starts `ems serve` for a region and waits until it is ready.
    pub fn start(dir: &WorkDir, region: &str) -> Result<Ems> {
        Ems::with(
            dir,
            EmsOptions {
                region: region.to_owned(),
                ..EmsOptions::default()
            },
        )
    }

    /// [`Ems::start`] with options.
    pub fn with(dir: &WorkDir, options: EmsOptions) -> Result<Ems> {
        let (xds, api) = (Port::reserve()?, Port::reserve()?);
        let process = launch(dir, &options, &xds, &api)?;
        let mut ems = Ems {
            process,
            options,
            dir: dir.clone(),
            xds,
            api,
            client: http::agent(Duration::from_secs(10)),
        };
        ems.wait_ready()?;
        Ok(ems)
    }

    /// Stops it; the data stay.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Ends it at once, as a crash would; the data stay.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on its ports and data, after [`Ems::stop`] or [`Ems::kill`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = launch(&self.dir, &self.options, &self.xds, &self.api)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let ready = Call::on(
            &self.client,
            "GET",
            format!("http://{}/readyz", self.api.address()),
        );
        self.process.wait_ready(|| ready.send()?.ok().map(drop))
    }

    /// Its region.
    pub fn region(&self) -> &str {
        &self.options.region
    }

    /// Base URL of its API and pages.
    pub fn url(&self) -> String {
        format!("http://{}", self.api.address())
    }

    /// `127.0.0.1:<port>` of its xDS server.
    pub fn xds_address(&self) -> String {
        self.xds.address()
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

    /// A request to its API.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::on(&self.client, method, format!("{}{path}", self.url()))
    }

    /// A resource that must be there.
    pub fn get(&self, path: &str) -> Result<Value> {
        Ok(self.call("GET", path).send()?.ok()?.json())
    }

    /// Creates or replaces a service.
    pub fn put_service(&self, service: &str, record: Value) -> Result<Reply> {
        self.put(&format!("/v1/services/{service}"), &record)
    }

    /// Deletes a service and its endpoints.
    pub fn delete_service(&self, service: &str) -> Result<Reply> {
        self.delete(&format!("/v1/services/{service}"))
    }

    /// Registers an endpoint on loopback that stays until it is deleted.
    pub fn put_endpoint(&self, service: &str, id: &str, port: u16) -> Result<Reply> {
        self.put_endpoint_record(service, id, json!({"address": "127.0.0.1", "port": port}))
    }

    /// Registers an endpoint, or renews its lease.
    pub fn put_endpoint_record(&self, service: &str, id: &str, record: Value) -> Result<Reply> {
        self.put(&format!("/v1/services/{service}/endpoints/{id}"), &record)
    }

    /// Deletes an endpoint.
    pub fn delete_endpoint(&self, service: &str, id: &str) -> Result<Reply> {
        self.delete(&format!("/v1/services/{service}/endpoints/{id}"))
    }

    /// Takes an endpoint out of rotation.
    pub fn drain_endpoint(&self, service: &str, id: &str) -> Result<Reply> {
        self.call(
            "POST",
            &format!("/v1/services/{service}/endpoints/{id}/drain"),
        )
        .send()?
        .ok()
    }

    /// Names a region's gateways and roots.
    pub fn put_region(&self, region: &str, record: Value) -> Result<Reply> {
        self.put(&format!("/v1/regions/{region}"), &record)
    }

    /// A region's record.
    pub fn get_region(&self, region: &str) -> Result<Value> {
        self.get(&format!("/v1/regions/{region}"))
    }

    /// Every connected Envoy.
    pub fn nodes(&self) -> Result<Vec<Value>> {
        Ok(self
            .get("/v1/nodes")?
            .get("nodes")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default())
    }

    /// The value of a Prometheus metric, summed over the label sets that hold `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let page = self.call("GET", "/metrics").send()?.ok()?.body;
        let value = |line: &str| {
            let (key, value) = line.rsplit_once(' ')?;
            let (family, rest) = key.split_once('{').unwrap_or((key, ""));
            (family == name && rest.contains(labels)).then(|| value.parse::<f64>().ok())?
        };
        Ok(page.lines().filter_map(value).sum())
    }

    /// Runs a command of the `ems` binary against this server and returns what it printed.
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: I,
    ) -> Result<String> {
        let mut command = Command::new(artifact::ems()?);
        command.args(arguments).env("EMS_SERVER", self.url());
        process::output(command)
    }

    /// What `ems bootstrap` prints for a node of this region.
    pub fn bootstrap(&self, node: &Node, admin: &Port, listen: &Port) -> Result<String> {
        let mut command = Command::new(artifact::ems()?);
        let xds = match node.xds_port {
            0 => self.xds_address(),
            port => format!("127.0.0.1:{port}"),
        };
        command.args(["bootstrap", "--kind", node.kind]);
        command.args(["--region", self.region()]);
        command.args(["--node-id", &node.file_name(self.region())]);
        if !node.service.is_empty() {
            command.args(["--service", &node.service]);
        }
        command
            .args(["--listen", &listen.address()])
            .args(["--admin", &admin.address()])
            .args(["--xds", &xds])
            .arg("--filter")
            .arg(artifact::filter()?)
            .args(&node.arguments);
        process::output(command).context("ems bootstrap failed")
    }

    /// Starts an Envoy of this region and waits until it listens.
    pub fn envoy(&self, node: &Node) -> Result<Envoy> {
        let (admin, listen) = (Port::reserve()?, Port::reserve()?);
        let options = EnvoyOptions {
            name: node.file_name(self.region()),
            binary: match node.version.as_str() {
                "" => artifact::envoy()?,
                version => artifact::envoy_version(version)?,
            },
            bootstrap: self.bootstrap(node, &admin, &listen)?,
            arguments: node.envoy_arguments.clone(),
            admin,
            listen,
            workers: node.workers.max(1),
        };
        Envoy::start(&self.dir, options)
    }

    fn put(&self, path: &str, record: &Value) -> Result<Reply> {
        self.call("PUT", path)
            .json(record)
            .send()?
            .ok()
            .with_context(|| format!("PUT {path} {record}"))
    }

    fn delete(&self, path: &str) -> Result<Reply> {
        self.call("DELETE", path)
            .send()?
            .ok()
            .with_context(|| format!("DELETE {path}"))
    }
}

impl Node {
    /// A gateway.
    pub fn gateway() -> Node {
        Node {
            kind: "gateway",
            ..Node::default()
        }
    }

    /// A host Envoy whose callers speak as `service`.
    pub fn host(service: &str) -> Node {
        Node {
            kind: "host",
            service: service.to_owned(),
            ..Node::default()
        }
    }

    /// A sidecar of `service`.
    pub fn sidecar(service: &str) -> Node {
        Node {
            kind: "sidecar",
            service: service.to_owned(),
            ..Node::default()
        }
    }

    /// Gives its files a name, for a second node of the same kind and service.
    #[must_use]
    pub fn named(mut self, name: &str) -> Node {
        name.clone_into(&mut self.name);
        self
    }

    /// Runs it on another version of Envoy.
    #[must_use]
    pub fn version(mut self, version: &str) -> Node {
        version.clone_into(&mut self.version);
        self
    }

    /// Lets it reach EMS by another port than its own.
    #[must_use]
    pub fn through(mut self, xds_port: u16) -> Node {
        self.xds_port = xds_port;
        self
    }

    /// Gives it so many worker threads.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Node {
        self.workers = workers;
        self
    }

    /// Adds arguments of `ems bootstrap`.
    #[must_use]
    pub fn with<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Node {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    fn file_name(&self, region: &str) -> String {
        match (self.name.as_str(), self.service.as_str()) {
            ("", "") => format!("{region}-{}", self.kind),
            ("", service) => format!("{region}-{}-{service}", self.kind),
            (name, _) => format!("{region}-{name}"),
        }
    }
}

fn launch(dir: &WorkDir, options: &EmsOptions, xds: &Port, api: &Port) -> Result<Process> {
    let name = format!("{}-ems", options.region);
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => artifact::ems()?,
    };
    let mut command = Command::new(binary);
    command
        .args(["serve", "--region", &options.region])
        .args(["--xds-address", &xds.address()])
        .args(["--http-address", &api.address()])
        .arg("--data-dir")
        .arg(dir.path().join(format!("{name}-data")))
        .args(&options.arguments);
    Process::start(&name, dir, command)
}
