//! `ems bootstrap`: the bootstrap of an Envoy, from the commented template of its kind in `envoy-configs/`, and that of a
//! gRPC library that speaks xDS itself.
//!
//! Pure: arguments in, YAML or JSON out.

#[cfg(test)]
mod tests;

use std::{fmt, net::SocketAddr, str::FromStr};

use isthmus_model::{RegionName, ServiceName};
use serde_json::json;

use crate::resources::{CALLERS, GRPC_KIND, NodeKind};

/// What to make a bootstrap of.
#[derive(Clone, Debug, clap::Args)]
pub struct BootstrapArgs {
    /// What sort of Envoy: sidecar (beside one service), host (for all callers of a machine) or gateway (where requests
    /// of other regions come in). Or grpc: a program whose gRPC library speaks xDS itself, without an Envoy; it finds
    /// what is printed, which is JSON, by GRPC_XDS_BOOTSTRAP=FILE
    #[arg(long)]
    pub kind: Kind,
    /// Who calls through this Envoy, or by this library; a gateway needs none
    #[arg(long, required_if_eq_any([("kind", "sidecar"), ("kind", "host"), ("kind", "grpc")]))]
    pub service: Option<ServiceName>,
    /// The region this Envoy, or program, is in
    #[arg(long)]
    pub region: RegionName,
    /// Where it listens; Envoys only [default: 127.0.0.1:10000, a gateway 0.0.0.0:15443]
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Where its admin page is; Envoys only [default: 127.0.0.1:9901]
    #[arg(long)]
    pub admin: Option<SocketAddr>,
    /// The xDS address of the region's EMS
    #[arg(long, default_value = "127.0.0.1:18000")]
    pub xds: HostPort,
    /// Where the Isthmus filter lies on the machine of this Envoy; Envoys only [default: /etc/envoy/isthmus_filter.wasm]
    #[arg(long)]
    pub filter: Option<String>,
    /// Its id, unique in the region [default: KIND-SERVICE-HOSTNAME]
    #[arg(long)]
    pub node_id: Option<String>,
    /// Its zone: an Envoy prefers endpoints of the same one
    #[arg(long)]
    pub zone: Option<String>,
    /// Destinations to have before the first request, such as payments,ledger.us; Envoys only
    #[arg(long, value_delimiter = ',')]
    pub uses: Vec<String>,
    /// Have every destination before the first request; Envoys only
    #[arg(long)]
    pub eager: bool,
}

/// What a bootstrap is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An Envoy.
    Envoy(NodeKind),
    /// A program with a gRPC library that speaks xDS.
    Grpc,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Envoy(kind) => kind.as_str(),
            Self::Grpc => GRPC_KIND,
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == GRPC_KIND {
            return Ok(Self::Grpc);
        }
        let kind = text.parse().map(Self::Envoy);
        kind.map_err(|_| format!("is no kind of node: say sidecar, host, gateway or {GRPC_KIND}"))
    }
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

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
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

/// What was said of an Envoy has no meaning for a gRPC library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{flags}: a gRPC library has none of this, only an Envoy; leave it out, or choose another --kind"
)]
pub struct EnvoysOnly {
    flags: String,
}

/// The bootstrap: YAML, or for gRPC JSON. `hostname` makes the node's id where none is given.
///
/// # Errors
/// What is asked for does not fit the kind.
pub fn bootstrap(args: &BootstrapArgs, hostname: &str) -> Result<String, EnvoysOnly> {
    let kind = args.kind.to_string();
    let service = match &args.service {
        Some(service) => service.as_str(),
        None => &kind,
    };
    let id = match &args.node_id {
        Some(id) => id.clone(),
        None if args.service.is_some() => format!("{kind}-{service}-{hostname}"),
        None => format!("{kind}-{hostname}"),
    };
    match args.kind {
        Kind::Envoy(kind) => Ok(envoy(args, kind, service, &id)),
        Kind::Grpc => {
            envoys_only(args)?;
            Ok(grpc(args, service, &id))
        }
    }
}

fn envoys_only(args: &BootstrapArgs) -> Result<(), EnvoysOnly> {
    let flags = [
        ("--listen", args.listen.is_some()),
        ("--admin", args.admin.is_some()),
        ("--filter", args.filter.is_some()),
        ("--uses", !args.uses.is_empty()),
        ("--eager", args.eager),
    ];
    let said: Vec<_> = flags
        .into_iter()
        .filter(|(_, said)| *said)
        .map(|(flag, _)| flag)
        .collect();
    if said.is_empty() {
        return Ok(());
    }
    Err(EnvoysOnly {
        flags: said.join(", "),
    })
}

/// For a gRPC library. Nobody is asked who they are by EMS, and no certificates are known before this file is read: so the
/// connection is a plain one, as that of Envoys is.
fn grpc(args: &BootstrapArgs, service: &str, id: &str) -> String {
    let bootstrap = json!({
        "xds_servers": [{
            "server_uri": args.xds.to_string(),
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {
            "id": id,
            "cluster": service,
            "locality": {
                "region": args.region,
                "zone": args.zone.as_deref().unwrap_or_default(),
            },
            "metadata": {
                "isthmus": {"kind": GRPC_KIND, "service": service, "region": args.region},
            },
        },
    });
    format!("{bootstrap:#}\n")
}

/// For an Envoy.
fn envoy(args: &BootstrapArgs, kind: NodeKind, service: &str, id: &str) -> String {
    let listen = args.listen.unwrap_or_else(|| match kind {
        NodeKind::Sidecar | NodeKind::Host => SocketAddr::from(([127, 0, 0, 1], 10_000)),
        NodeKind::Gateway => SocketAddr::from(([0, 0, 0, 0], 15_443)),
    });
    let admin = args
        .admin
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9_901)));
    let admin = HostPort::from(admin);
    let filter = args
        .filter
        .as_deref()
        .unwrap_or("/etc/envoy/isthmus_filter.wasm");
    // As JSON, which is YAML too, so that no value can mean anything but itself.
    let values = [
        ("<node-id>", quoted(id)),
        ("<service>", quoted(service)),
        ("<callers>", quoted(&format!("{CALLERS}/{service}"))),
        ("<region>", quoted(&args.region)),
        ("<zone>", quoted(&args.zone.as_deref().unwrap_or_default())),
        ("<listen>", quoted(&listen.to_string())),
        ("<filter>", quoted(filter)),
        ("<uses>", quoted(&args.uses)),
        ("<eager>", quoted(&args.eager)),
        ("<admin-host>", quoted(&admin.host)),
        ("<admin-port>", quoted(&admin.port)),
        ("<xds-host>", quoted(&args.xds.host)),
        ("<xds-port>", quoted(&args.xds.port)),
    ];
    let prefetch = args.eager || !args.uses.is_empty();
    let mut out = String::new();
    let mut left_out = false;
    for line in template(kind).lines() {
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

fn quoted<T: serde::Serialize + ?Sized>(value: &T) -> String {
    // Texts, numbers and lists of texts: nothing that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}
