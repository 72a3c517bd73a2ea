//! Checked records: what the registry holds. A value of these types makes sense by itself; parsing from the schema's
//! raw messages reports every error with its path.
//!
//! What was written is what reads back: the registry keeps the message beside its checked form, and defaults show only
//! in the latter.
//!
//! Pure: knows nothing of how records are stored, served or turned into xDS resources.

mod field;
mod network;
mod parse;
#[cfg(test)]
mod tests;

pub use field::{FieldError, Invalid};
pub use parse::RETRY_CONDITIONS;

use std::{fmt, net::IpAddr, time::Duration};

use isthmus_model::{Limit, RegionName, ServiceName, VersionLabel};

/// A service and the policy of its cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Version of the record; greater than 0 once stored.
    pub version: u64,
    /// What its cluster does.
    pub policy: Policy,
    /// Who may call; `None`: everybody with an identity.
    pub access: Option<Vec<CallerPattern>>,
    /// Whether callers may pin a version.
    pub allow_version_pins: bool,
    /// How much callers may ask of each Envoy.
    pub rate_limits: Vec<Limit>,
}

/// How requests are sent to a service. `Default` is what a service has when nothing is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Protocol towards endpoints.
    pub protocol: Protocol,
    /// Limit for connecting.
    pub connect_timeout: Duration,
    /// Further attempts.
    pub retries: Retries,
    /// What consistent hashing looks at, in order.
    pub hash: Vec<HashKey>,
    /// Limits of one Envoy.
    pub circuit_breakers: CircuitBreakers,
    /// `None`: off.
    pub outlier_detection: Option<OutlierDetection>,
    /// Active health checks.
    pub health_check: Option<HealthCheck>,
    /// Limit of a request and its response together.
    pub max_stream_duration: Option<Duration>,
    /// How an endpoint is picked.
    pub load_balancing: LoadBalancing,
    /// Fewest endpoints for which zones count; `None`: zones never count.
    pub zone_min_cluster_size: Option<u32>,
}

/// Protocol towards endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// As the request came in.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// HTTP/2, for services that speak gRPC.
    Grpc,
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadBalancing {
    /// The less busy of two random ones.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// Consistent hashing on a ring.
    RingHash,
    /// Consistent hashing with a table.
    Maglev,
}

/// Further attempts after the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How many; 0: none.
    pub attempts: u32,
    /// Envoy's `retry_on` conditions.
    pub on: Vec<String>,
    /// Limit of each attempt.
    pub per_try_timeout: Option<Duration>,
}

/// What consistent hashing looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A request header.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The peer's address.
    SourceIp,
}

/// Limits of one Envoy towards a service; `None`: Envoy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// Connections.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    pub max_requests: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
}

/// When a failing endpoint is ejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Errors in a row.
    pub consecutive_errors: u32,
    /// Time between looks at the ejected.
    pub interval: Duration,
    /// How long, times the number of ejections.
    pub base_ejection_time: Duration,
    /// Share that may be ejected, 0-100.
    pub max_ejection_percent: u32,
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Time between checks.
    pub interval: Duration,
    /// Limit of one check.
    pub timeout: Duration,
    /// Failures in a row before an endpoint is unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row before it is healthy.
    pub healthy_threshold: u32,
    /// What is asked.
    pub probe: Probe,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// GET of a path; 200 is healthy.
    Http {
        /// The path, with its slash.
        path: String,
        /// Value of the Host header; empty: the cluster's name.
        host: String,
    },
    /// `grpc.health.v1` for a service; empty: the server.
    Grpc {
        /// The service asked for.
        service: String,
    },
    /// A connection is enough.
    Tcp,
}

/// Callers as `<region>/<service>`; `None` stands for `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerPattern {
    /// The caller's region.
    pub region: Option<RegionName>,
    /// The caller's service.
    pub service: Option<ServiceName>,
}

impl fmt::Display for CallerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.region.as_ref().map_or("*", RegionName::as_str);
        let service = self.service.as_ref().map_or("*", ServiceName::as_str);
        write!(f, "{region}/{service}")
    }
}

/// 1-128 of `A-Z a-z 0-9 . _ : -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(Box<str>);

/// One address and port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The service it belongs to.
    pub service: ServiceName,
    /// Unique within the service.
    pub id: EndpointId,
    /// Version of the record; greater than 0 once stored.
    pub version: u64,
    /// Where it listens.
    pub address: Address,
    /// Version of the software that runs there.
    pub version_label: Option<VersionLabel>,
    /// Its zone.
    pub zone: Option<String>,
    /// 1-1000000.
    pub weight: u32,
    /// Lease time; `None`: it stays until deleted.
    pub ttl: Option<Duration>,
    /// Takes no new requests.
    pub draining: bool,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The host.
    pub host: Host,
    /// 1-65535.
    pub port: u16,
}

/// An IP address or a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name, which Envoy resolves.
    Dns(Box<str>),
}

/// A region and how to get into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: RegionName,
    /// Version of the record; greater than 0 once stored.
    pub version: u64,
    /// Where requests enter it.
    pub gateways: Vec<Address>,
    /// PEM certificates of its roots; empty: none known.
    pub trust_bundle: String,
    /// How far; nearer is tried first by `any`.
    pub distance: u32,
}
