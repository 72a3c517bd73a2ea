//! What the server is told: flags, `EMS_*` variables and a YAML file, in that order of precedence, then defaults.
//!
//! Two stages. [`RawOptions`] is what was said, each field perhaps; [`Options`] is checked and complete, and the only
//! form that the rest knows. Checking reports every error, not the first.

mod file;
mod headers;
#[cfg(test)]
mod tests;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use isthmus_model::{Headers, RegionName};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::{
    ratelimit::redis::check_url,
    record::{FieldError, Invalid},
    serve::network::{CONNECTS_PER_SECOND, Keepalive},
    xds::limits::Limits,
};

/// Most seconds of a drain: who waits longer for a server to stop takes it for one that hangs.
const LONGEST_DRAIN: u32 = 3_600;
pub use headers::HeaderNames;

/// Options as they were said. In a file, fields have their names in camel case, and unknown ones are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RawOptions {
    /// Region that this server belongs to; required
    #[arg(long, env = "EMS_REGION")]
    pub region: Option<String>,

    /// Where Envoys connect (gRPC: xDS, registry, health, reflection) [default: 127.0.0.1:18000]
    #[arg(long, env = "EMS_XDS_ADDRESS", value_name = "IP:PORT")]
    pub xds_address: Option<String>,

    /// Where people and programs connect (HTTP and gRPC) [default: 127.0.0.1:18080]
    #[arg(long, env = "EMS_HTTP_ADDRESS", value_name = "IP:PORT")]
    pub http_address: Option<String>,

    /// Where records and keys are kept [default: ./ems-data]
    #[arg(long, env = "EMS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Redis in which the EMS of a region count for rate limits of the region, redis://HOST:PORT [default: none, each EMS counts
    /// by itself]
    #[arg(long, env = "EMS_REDIS", value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,

    /// First part of every identity: spiffe://<trust-domain>/… [default: mesh.internal]
    #[arg(long, env = "EMS_TRUST_DOMAIN", value_name = "NAME")]
    pub trust_domain: Option<String>,

    /// Where requests without a region go: a region, or "any" [default: the server's own]
    #[arg(long, env = "EMS_DEFAULT_REGION", value_name = "REGION")]
    pub default_region: Option<String>,

    /// Whether callers who ask for a receipt get one [default: true]
    #[arg(long, env = "EMS_DEBUG_RECEIPTS", value_name = "BOOL")]
    pub debug_receipts: Option<bool>,

    /// How log lines look: text or json [default: text]
    #[arg(long, env = "EMS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// What is logged: error, warn, info, debug, trace, or a filter such as info,ems::xds=debug [default: info]
    #[arg(long, env = "EMS_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// File to write once the server is ready, with the addresses it listens on, as JSON
    #[arg(long, env = "EMS_READY_FILE", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// Seconds over which Envoys are sent away when the server stops, 3600 at most [default: 2]
    #[arg(long, env = "EMS_DRAIN_SECONDS", value_name = "SECONDS")]
    pub drain_seconds: Option<u32>,

    /// Seconds without a word after which a client is pinged [default: 30]
    #[arg(long, env = "EMS_KEEPALIVE_SECONDS", value_name = "SECONDS")]
    pub keepalive_seconds: Option<u32>,

    /// Seconds within which a pinged client has to answer; then its connection and its streams end [default: 10]
    #[arg(long, env = "EMS_KEEPALIVE_TIMEOUT_SECONDS", value_name = "SECONDS")]
    pub keepalive_timeout_seconds: Option<u32>,

    /// Most streams of Envoys at a time [default: 20000]
    #[arg(long, env = "EMS_MAX_STREAMS", value_name = "COUNT")]
    pub max_streams: Option<u32>,

    /// Most streams of one Envoy at a time [default: 1000]
    #[arg(long, env = "EMS_MAX_STREAMS_PER_NODE", value_name = "COUNT")]
    pub max_streams_per_node: Option<u32>,

    /// Most connections of Envoys that are let in a second, when many come at once; the others wait [default: 2000]
    #[arg(long, env = "EMS_MAX_CONNECTS_PER_SECOND", value_name = "COUNT")]
    pub max_connects_per_second: Option<u32>,

    /// Most destinations that one Envoy may use and no record vouches for [default: 1000]
    #[arg(long, env = "EMS_MAX_NODE_DESTINATIONS", value_name = "COUNT")]
    pub max_node_destinations: Option<u32>,

    /// Most destinations that all Envoys together may use and no record vouches for [default: 20000]
    #[arg(long, env = "EMS_MAX_DESTINATIONS", value_name = "COUNT")]
    pub max_destinations: Option<u32>,

    /// Names of the headers of the request contract; a file has them under `headers`, by their last word
    #[command(flatten)]
    pub headers: HeaderNames,
}

/// Options that make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Region that this server belongs to.
    pub region: RegionName,
    /// Where Envoys connect.
    pub xds_address: SocketAddr,
    /// Where people and programs connect.
    pub http_address: SocketAddr,
    /// Where records and keys are kept.
    pub data_dir: PathBuf,
    /// Redis in which the EMS of the region count; `None`: this one counts by itself.
    pub redis: Option<String>,
    /// First part of every identity.
    pub trust_domain: String,
    /// Where requests without a region go; `None`: the own region.
    pub default_region: Option<String>,
    /// Whether callers who ask for a receipt get one.
    pub debug_receipts: bool,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: String,
    /// File to write once the server is ready.
    pub ready_file: Option<PathBuf>,
    /// Time over which Envoys are sent away when the server stops.
    pub drain: Duration,
    /// When a client that is silent is given up.
    pub keepalive: Keepalive,
    /// Most streams of Envoys.
    pub max_streams: usize,
    /// Most streams of one node.
    pub max_streams_per_node: usize,
    /// Most connections of Envoys that are let in a second.
    pub max_connects_per_second: NonZeroU32,
    /// Most destinations without a record, for one node.
    pub max_node_destinations: usize,
    /// Most destinations without a record, in all.
    pub max_destinations: usize,
    /// Names of the headers of the request contract.
    pub headers: Headers,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object each.
    Json,
}

impl RawOptions {
    /// Reads a YAML file: what it says, and what in it is at fault.
    ///
    /// # Errors
    /// It cannot be read, or is no YAML.
    pub fn read(path: &Path) -> Result<(Self, Vec<FieldError>), Invalid> {
        let at = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|e| Invalid::one(&*at, e.to_string()))?;
        file::parse(&text).map_err(|error| Invalid::one(at, error))
    }

    /// These, and what they do not say from others.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            region: self.region.or(other.region),
            xds_address: self.xds_address.or(other.xds_address),
            http_address: self.http_address.or(other.http_address),
            data_dir: self.data_dir.or(other.data_dir),
            redis: self.redis.or(other.redis),
            trust_domain: self.trust_domain.or(other.trust_domain),
            default_region: self.default_region.or(other.default_region),
            debug_receipts: self.debug_receipts.or(other.debug_receipts),
            log_format: self.log_format.or(other.log_format),
            log_level: self.log_level.or(other.log_level),
            ready_file: self.ready_file.or(other.ready_file),
            drain_seconds: self.drain_seconds.or(other.drain_seconds),
            keepalive_seconds: self.keepalive_seconds.or(other.keepalive_seconds),
            keepalive_timeout_seconds: self
                .keepalive_timeout_seconds
                .or(other.keepalive_timeout_seconds),
            max_streams: self.max_streams.or(other.max_streams),
            max_streams_per_node: self.max_streams_per_node.or(other.max_streams_per_node),
            max_connects_per_second: self
                .max_connects_per_second
                .or(other.max_connects_per_second),
            max_node_destinations: self.max_node_destinations.or(other.max_node_destinations),
            max_destinations: self.max_destinations.or(other.max_destinations),
            headers: self.headers.or(other.headers),
        }
    }

    /// Checks everything.
    ///
    /// # Errors
    /// Every option at fault, by its flag.
    pub fn check(self) -> Result<Options, Vec<FieldError>> {
        let mut errors = Vec::new();
        let region = match self.region.as_deref() {
            None => {
                let detail = "is required (also as EMS_REGION, or as region in the config file)";
                fault(&mut errors, "--region", detail);
                None
            }
            Some(name) => match RegionName::parse(name.as_bytes()) {
                Ok(name) => Some(name),
                Err(error) => {
                    fault(&mut errors, "--region", &error.to_string());
                    None
                }
            },
        };
        let xds_address = address(&mut errors, "--xds-address", self.xds_address, 18000);
        let http_address = address(&mut errors, "--http-address", self.http_address, 18080);
        if xds_address == http_address && xds_address.port() != 0 {
            let detail = "is the same as --xds-address: each needs its own";
            fault(&mut errors, "--http-address", detail);
        }
        let trust_domain = self
            .trust_domain
            .unwrap_or_else(|| "mesh.internal".to_owned());
        if !is_trust_domain(&trust_domain) {
            let detail = "must be 1 to 255 of a-z 0-9 . - _";
            fault(&mut errors, "--trust-domain", detail);
        }
        if let Some(url) = &self.redis
            && let Err(error) = check_url(url)
        {
            fault(&mut errors, "--redis", &error);
        }
        if let Some(name) = self.default_region.as_deref()
            && name != isthmus_model::name::ANY_REGION
            && let Err(error) = RegionName::parse(name.as_bytes())
        {
            fault(&mut errors, "--default-region", &error.to_string());
        }
        let log_format = match self.log_format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(_) => {
                fault(&mut errors, "--log-format", "must be text or json");
                LogFormat::Text
            }
        };
        let log_level = self.log_level.unwrap_or_else(|| "info".to_owned());
        if let Err(error) = EnvFilter::try_new(&log_level) {
            fault(&mut errors, "--log-level", &error.to_string());
        }
        let keepalive = Keepalive {
            after: seconds(
                &mut errors,
                "--keepalive-seconds",
                self.keepalive_seconds,
                Keepalive::default().after,
            ),
            within: seconds(
                &mut errors,
                "--keepalive-timeout-seconds",
                self.keepalive_timeout_seconds,
                Keepalive::default().within,
            ),
        };
        let max_connects_per_second = positive(
            &mut errors,
            "--max-connects-per-second",
            self.max_connects_per_second,
        )
        .unwrap_or(CONNECTS_PER_SECOND);
        let xds = Limits::default();
        let max_streams = positive(&mut errors, "--max-streams", self.max_streams);
        let max_streams_per_node = positive(
            &mut errors,
            "--max-streams-per-node",
            self.max_streams_per_node,
        );
        let drain = self.drain_seconds.unwrap_or(2);
        if drain > LONGEST_DRAIN {
            let detail = format!("must be {LONGEST_DRAIN} or less");
            fault(&mut errors, "--drain-seconds", &detail);
        }
        let headers = self.headers.check(&mut errors);
        match region {
            Some(region) if errors.is_empty() => Ok(Options {
                region,
                xds_address,
                http_address,
                data_dir: self.data_dir.unwrap_or_else(|| PathBuf::from("ems-data")),
                redis: self.redis,
                trust_domain,
                default_region: self.default_region,
                debug_receipts: self.debug_receipts.unwrap_or(true),
                log_format,
                log_level,
                ready_file: self.ready_file,
                drain: Duration::from_secs(drain.into()),
                keepalive,
                max_streams: count(max_streams.map(NonZeroU32::get), xds.streams),
                max_streams_per_node: count(
                    max_streams_per_node.map(NonZeroU32::get),
                    xds.streams_per_node,
                ),
                max_connects_per_second,
                max_node_destinations: count(self.max_node_destinations, 1_000),
                max_destinations: count(self.max_destinations, 20_000),
                headers,
            }),
            _ => Err(errors),
        }
    }
}

fn fault(errors: &mut Vec<FieldError>, flag: &str, detail: &str) {
    errors.push(FieldError {
        field: flag.to_owned(),
        detail: detail.to_owned(),
    });
}

fn address(
    errors: &mut Vec<FieldError>,
    flag: &str,
    said: Option<String>,
    port: u16,
) -> SocketAddr {
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let Some(text) = said else {
        return default;
    };
    text.parse().unwrap_or_else(|_| {
        let detail = format!("is {text:?}, and must be an IP address and a port, as in {default}");
        fault(errors, flag, &detail);
        default
    })
}

/// What was said, where it is a number that makes sense.
fn positive(errors: &mut Vec<FieldError>, flag: &str, said: Option<u32>) -> Option<NonZeroU32> {
    let number = said.map(NonZeroU32::new)?;
    if number.is_none() {
        fault(errors, flag, "must be 1 or more");
    }
    number
}

fn seconds(
    errors: &mut Vec<FieldError>,
    flag: &str,
    said: Option<u32>,
    default: Duration,
) -> Duration {
    let seconds = positive(errors, flag, said);
    seconds.map_or(default, |n| Duration::from_secs(n.get().into()))
}

fn is_trust_domain(text: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}

fn count(said: Option<u32>, default: usize) -> usize {
    said.and_then(|n| usize::try_from(n).ok())
        .unwrap_or(default)
}
