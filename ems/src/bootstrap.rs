//! `ems bootstrap`: the bootstrap of an Envoy, from the commented template of its kind in `envoy-configs/`.
//!
//! Pure: arguments in, YAML out.

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, str::FromStr};

use isthmus_model::{RegionName, ServiceName};

use crate::resources::{CALLERS, NodeKind};

/// What to make a bootstrap of.
#[derive(Clone, Debug, clap::Args)]
pub struct BootstrapArgs {
    /// What sort of Envoy: sidecar (beside one service), host (for all callers of a machine) or gateway (where requests
    /// of other regions come in)
    #[arg(long)]
    pub kind: NodeKind,
    /// Who calls through this Envoy; a gateway needs none
    #[arg(long, required_if_eq_any([("kind", "sidecar"), ("kind", "host")]))]
    pub service: Option<ServiceName>,
    /// The region this Envoy is in
    #[arg(long)]
    pub region: RegionName,
    /// Where it listens [default: 127.0.0.1:10000, a gateway 0.0.0.0:15443]
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Where its admin page is
    #[arg(long, default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
    /// The xDS address of the region's EMS
    #[arg(long, default_value = "127.0.0.1:18000")]
    pub xds: HostPort,
    /// Where the Isthmus filter lies on the machine of this Envoy
    #[arg(long, default_value = "/etc/envoy/isthmus_filter.wasm")]
    pub filter: String,
    /// Its id, unique in the region [default: KIND-SERVICE-HOSTNAME]
    #[arg(long)]
    pub node_id: Option<String>,
    /// Its zone: endpoints of the same zone are preferred
    #[arg(long)]
    pub zone: Option<String>,
    /// Destinations to have before the first request, such as payments,ledger.us
    #[arg(long, value_delimiter = ',')]
    pub uses: Vec<String>,
    /// Have every destination before the first request
    #[arg(long)]
    pub eager: bool,
}

/// A host, by address or name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("has no port: write host:port")?;
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if host.is_empty() || !host.bytes().all(name) {
            return Err(format!("{host:?} is no address and no name"));
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(format!("{port:?} is no port: write 1 to 65535")),
        }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

/// The template of a kind.
fn template(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Sidecar => include_str!("../../envoy-configs/sidecar.yaml"),
        NodeKind::Host => include_str!("../../envoy-configs/host.yaml"),
        NodeKind::Gateway => include_str!("../../envoy-configs/gateway.yaml"),
    }
}

/// The bootstrap, as YAML. `hostname` makes the node's id where none is given.
#[must_use]
pub fn bootstrap(args: &BootstrapArgs, hostname: &str) -> String {
    let service = match &args.service {
        Some(service) => service.as_str(),
        None => args.kind.as_str(),
    };
    let listen = args.listen.unwrap_or_else(|| match args.kind {
        NodeKind::Sidecar | NodeKind::Host => SocketAddr::from(([127, 0, 0, 1], 10_000)),
        NodeKind::Gateway => SocketAddr::from(([0, 0, 0, 0], 15_443)),
    });
    let id = match &args.node_id {
        Some(id) => id.clone(),
        None if args.service.is_some() => format!("{}-{service}-{hostname}", args.kind),
        None => format!("{}-{hostname}", args.kind),
    };
    let admin = HostPort::from(args.admin);
    // As JSON, which is YAML too, so that no value can mean anything but itself.
    let values = [
        ("<node-id>", json(&id)),
        ("<service>", json(&service)),
        ("<callers>", json(&format!("{CALLERS}/{service}"))),
        ("<region>", json(&args.region)),
        ("<zone>", json(&args.zone.as_deref().unwrap_or_default())),
        ("<listen>", json(&listen.to_string())),
        ("<filter>", json(&args.filter)),
        ("<uses>", json(&args.uses)),
        ("<eager>", json(&args.eager)),
        ("<admin-host>", json(&admin.host)),
        ("<admin-port>", json(&admin.port)),
        ("<xds-host>", json(&args.xds.host)),
        ("<xds-port>", json(&args.xds.port)),
    ];
    let prefetch = args.eager || !args.uses.is_empty();
    let mut out = String::new();
    let mut left_out = false;
    for line in template(args.kind).lines() {
        match line.trim() {
            "# begin uses" => left_out = !prefetch,
            "# end uses" => left_out = false,
            _ if left_out => {}
            _ => {
                out.push_str(&fill(line, &values));
                out.push('\n');
            }
        }
    }
    out
}

/// Replaces placeholders in one pass, so that a value that looks like one stays what it is. Comments stay as they are.
fn fill(line: &str, values: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut rest, comment) = match line.find('#') {
        Some(at) => line.split_at(at),
        None => (line, ""),
    };
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        match values.iter().find(|(name, _)| from.starts_with(name)) {
            Some((name, value)) => {
                out.push_str(value);
                rest = from.get(name.len()..).unwrap_or_default();
            }
            None => {
                out.push('<');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out.push_str(comment);
    out
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    // Texts, numbers and lists of texts: nothing that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}
