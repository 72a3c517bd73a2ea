//! A whole region, and a mesh of two.

use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::{
    ems::{Ems, EmsOptions, Node},
    envoy::Envoy,
    link::Link,
    wait::eventually,
    workdir::WorkDir,
};

/// A service that does not exist, to ask for when only the way there is of interest.
const NOBODY: &str = "nobody-at-all";

/// One region: EMS, a gateway, and a host Envoy with whom callers talk.
#[derive(Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Where callers of this region send their requests. Speaks as service `client`.
    pub host: Envoy,
    /// Where requests from other regions enter.
    pub gateway: Envoy,
    /// Its control plane. Dropped last, so that no Envoy logs that it is gone.
    pub ems: Ems,
    dir: WorkDir,
}

impl Region {
    /// Starts a region: EMS first, then both Envoys side by side.
    pub fn start(name: &str) -> Result<Region> {
        Region::with(EmsOptions {
            region: name.to_owned(),
            ..EmsOptions::default()
        })
    }

    /// [`Region::start`] with options for its EMS.
    pub fn with(options: EmsOptions) -> Result<Region> {
        let name = options.region.clone();
        let dir = WorkDir::new(&name)?;
        let ems = Ems::with(&dir, options)?;
        let (host, gateway) = both(
            || ems.envoy(&Node::host("client")),
            || ems.envoy(&Node::gateway()),
        )
        .with_context(|| format!("cannot start the Envoys of region {name}"))?;
        let region = Region {
            name,
            host,
            gateway,
            ems,
            dir,
        };
        region.announce(region.gateway.port())?;
        Ok(region)
    }

    /// Starts a further Envoy of the region.
    pub fn envoy(&self, node: &Node) -> Result<Envoy> {
        self.ems.envoy(node)
    }

    /// Registers a service with one endpoint, named as its port, on loopback.
    pub fn serve(&self, service: &str, record: Value, port: u16) -> Result<()> {
        self.ems.put_service(service, record)?;
        self.ems.put_endpoint(service, &format!("p{port}"), port)?;
        Ok(())
    }

    /// Tells another region of this one (its gateways and its roots), and waits until callers there may name it.
    pub fn introduce_to(&self, other: &Region) -> Result<()> {
        self.introduce_by(other, self.gateway.port())
    }

    /// [`Region::introduce_to`] by another way in than the gateway's own port, such as a [`Link`].
    pub fn introduce_by(&self, other: &Region, gateway: u16) -> Result<()> {
        let mut record = self.ems.get_region(&self.name)?;
        let fields = record
            .as_object_mut()
            .ok_or_else(|| anyhow!("the record of region {} is no object", self.name))?;
        // Versions, like distances, are those of the region that keeps the record.
        fields.remove("version");
        fields.remove("local");
        fields.insert("gateways".to_owned(), gateways(gateway));
        other.ems.put_region(&self.name, record)?;
        eventually(
            &format!("{} to know region {}", other.name, self.name),
            || {
                let reply = other.host.get(NOBODY, &self.name)?;
                ensure!(reply.error() != Some("unknown_region"), "{reply:?}");
                Ok(())
            },
        )
    }

    /// Waits until requests from here get into another region.
    fn wait_for_way_to(&self, other: &Region) -> Result<()> {
        let way = format!("a way from {} to {}", self.name, other.name);
        eventually(&way, || {
            let reply = self.host.get(NOBODY, &other.name)?;
            // Said by the gateway over there: both sides' Envoys have what they need.
            ensure!(reply.error() == Some("unknown_service"), "{reply:?}");
            Ok(())
        })
    }

    /// The folder of its files.
    pub fn dir(&self) -> &WorkDir {
        &self.dir
    }

    /// Prints the ends of its logs.
    pub fn show(&self) {
        self.ems.show();
        self.gateway.show();
        self.host.show();
    }

    fn announce(&self, gateway: u16) -> Result<()> {
        self.ems
            .put_region(&self.name, json!({"gateways": gateways(gateway)}))?;
        Ok(())
    }
}

fn gateways(port: u16) -> Value {
    json!([{"address": "127.0.0.1", "port": port}])
}

/// Two regions that know each other; what goes from one to the other goes through a [`Link`].
#[derive(Debug)]
pub struct Mesh {
    /// Region `eu`.
    pub eu: Region,
    /// Region `us`.
    pub us: Region,
    /// What `us` sends to `eu`.
    pub us_to_eu: Link,
    /// What `eu` sends to `us`.
    pub eu_to_us: Link,
}

impl Mesh {
    /// Starts both regions side by side, and introduces them to each other.
    pub fn start() -> Result<Mesh> {
        let (eu, us) = both(|| Region::start("eu"), || Region::start("us"))?;
        let us_to_eu = Link::to(&eu.gateway.address())?;
        let eu_to_us = Link::to(&us.gateway.address())?;
        eu.introduce_by(&us, us_to_eu.port())?;
        us.introduce_by(&eu, eu_to_us.port())?;
        us.wait_for_way_to(&eu)?;
        eu.wait_for_way_to(&us)?;
        Ok(Mesh {
            eu,
            us,
            us_to_eu,
            eu_to_us,
        })
    }

    /// Prints the ends of all logs.
    pub fn show(&self) {
        self.eu.show();
        self.us.show();
    }
}

/// Does two things side by side.
fn both<A: Send, B: Send>(
    a: impl FnOnce() -> Result<A> + Send,
    b: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    thread::scope(|scope| {
        let other = scope.spawn(b);
        let a = a();
        let b = other
            .join()
            .map_err(|_| anyhow!("a thread that starts processes panicked"))?;
        Ok((a?, b?))
    })
}
