//! Messages of the schema into checked records. Every limit of the schema is here, and every error is reported.

mod limits;
mod policy;

use std::time::Duration;

use isthmus_model::{RegionName, ServiceName, VersionLabel};
use isthmus_proto::v1;
use x509_parser::pem::Pem;

pub use policy::RETRY_CONDITIONS;

use super::{
    Address, CallerPattern, Endpoint, EndpointId, Host, Policy, Region, Service,
    field::{Errors, Invalid},
};

/// Most entries of an access list: all of them travel in the filter's config.
const ACCESS_LIMIT: usize = 1000;
const GATEWAY_LIMIT: usize = 64;
const BUNDLE_LIMIT: usize = 64 * 1024;
const ZONE_LIMIT: usize = 128;
/// Seconds in a day: an endpoint that is silent for longer is better registered without a lease.
const TTL_LIMIT: u32 = 86_400;
const DEFAULT_DISTANCE: u32 = 100;
/// Leaves room above every version that somebody may write, so that there always is a next one.
const VERSION_LIMIT: u64 = i64::MAX as u64;

impl Service {
    /// Checks a message.
    ///
    /// # Errors
    /// Every field at fault.
    pub fn parse(raw: &v1::Service) -> Result<Self, Invalid> {
        let mut errors = Errors::default();
        let name = errors.take("name", ServiceName::parse(raw.name.as_bytes()));
        version(raw.version, &mut errors);
        let policy = Policy::parse(raw, &mut errors);
        let access = raw.access.as_ref().map(|access| {
            errors.within("access", |errors| {
                errors.at_most("allow", access.allow.len(), ACCESS_LIMIT);
                let read = |(at, text): (usize, &String)| {
                    errors.take(&format!("allow[{at}]"), CallerPattern::parse(text))
                };
                access.allow.iter().enumerate().filter_map(read).collect()
            })
        });
        let rate_limits = limits::parse(name.as_ref(), &raw.rate_limits, &mut errors);
        errors.finish(name.map(|name| Self {
            name,
            version: raw.version,
            policy,
            access,
            allow_version_pins: raw.allow_version_pins,
            rate_limits,
        }))
    }
}

impl Endpoint {
    /// Checks a message. `expires_at` is the server's, so what it says there does not count.
    ///
    /// # Errors
    /// Every field at fault.
    pub fn parse(raw: &v1::Endpoint) -> Result<Self, Invalid> {
        let mut errors = Errors::default();
        let service = errors.take("service", ServiceName::parse(raw.service.as_bytes()));
        let id = errors.take("id", EndpointId::parse(&raw.id));
        version(raw.version, &mut errors);
        let address = address(&raw.address, raw.port, &mut errors);
        let version_label = match raw.version_label.as_str() {
            "" => None,
            label => errors.take("versionLabel", VersionLabel::parse(label.as_bytes())),
        };
        errors.text("zone", &raw.zone, ZONE_LIMIT, |b| b.is_ascii_graphic());
        let weight = errors.number("weight", raw.weight, 1, 1..=1_000_000);
        if raw.ttl > TTL_LIMIT {
            let detail = format!("must be at most {TTL_LIMIT} seconds, or 0 for no lease");
            errors.add("ttl", detail);
        }
        let all = service.zip(id).zip(address);
        errors.finish(all.map(|((service, id), address)| Self {
            service,
            id,
            version: raw.version,
            address,
            version_label,
            zone: (!raw.zone.is_empty()).then(|| raw.zone.clone()),
            weight,
            ttl: (raw.ttl > 0).then(|| Duration::from_secs(raw.ttl.into())),
            draining: raw.draining(),
        }))
    }
}

impl Region {
    /// Checks a message. `local` is the server's, so what it says there does not count.
    ///
    /// # Errors
    /// Every field at fault.
    pub fn parse(raw: &v1::Region) -> Result<Self, Invalid> {
        let mut errors = Errors::default();
        let name = errors.take("name", RegionName::parse(raw.name.as_bytes()));
        version(raw.version, &mut errors);
        errors.at_most("gateways", raw.gateways.len(), GATEWAY_LIMIT);
        let gateways = raw.gateways.iter().enumerate().filter_map(|(at, gateway)| {
            errors.within(format!("gateways[{at}]"), |errors| {
                address(&gateway.address, gateway.port, errors)
            })
        });
        let gateways = gateways.collect();
        if let Err(detail) = check_bundle(&raw.trust_bundle) {
            errors.add("trustBundle", detail);
        }
        errors.finish(name.map(|name| Self {
            name,
            version: raw.version,
            gateways,
            trust_bundle: raw.trust_bundle.clone(),
            distance: raw.distance.unwrap_or(DEFAULT_DISTANCE),
        }))
    }
}

impl CallerPattern {
    /// Reads `<region>/<service>`, either of which may be `*`.
    ///
    /// # Errors
    /// What is wrong with it, for a person to read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((region, service)) = text.split_once('/') else {
            return Err("must be <region>/<service>, either of which may be *".to_owned());
        };
        let region = match region {
            "*" => None,
            name => {
                let name = RegionName::parse(name.as_bytes());
                Some(name.map_err(|error| format!("its region {error}"))?)
            }
        };
        let service = match service {
            "*" => None,
            name => {
                let name = ServiceName::parse(name.as_bytes());
                Some(name.map_err(|error| format!("its service {error}"))?)
            }
        };
        Ok(Self { region, service })
    }
}

fn version(version: u64, errors: &mut Errors) {
    if version > VERSION_LIMIT {
        errors.add("version", format!("must be at most {VERSION_LIMIT}"));
    }
}

fn address(host: &str, port: u32, errors: &mut Errors) -> Option<Address> {
    let host = errors.take("address", Host::parse(host));
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    if port.is_none() {
        errors.add("port", "must be 1 to 65535");
    }
    host.zip(port).map(|(host, port)| Address { host, port })
}

/// A bundle that Envoy could not read would be rejected with the whole secret, and with it every connection to every
/// region, so each certificate is read here first.
fn check_bundle(bundle: &str) -> Result<(), String> {
    if bundle.len() > BUNDLE_LIMIT {
        return Err(format!("is longer than {BUNDLE_LIMIT} bytes"));
    }
    if bundle.trim().is_empty() {
        return Ok(());
    }
    let mut found = 0;
    for (at, pem) in Pem::iter_from_buffer(bundle.as_bytes()).enumerate() {
        let nth = at + 1;
        let pem = pem.map_err(|error| format!("block {nth} is no PEM: {error}"))?;
        if pem.label != "CERTIFICATE" {
            let label = &pem.label;
            return Err(format!(
                "block {nth} is a {label}; only certificates belong here"
            ));
        }
        pem.parse_x509()
            .map_err(|error| format!("block {nth} is no certificate: {error}"))?;
        found += 1;
    }
    if found == 0 {
        return Err("has no certificate: PEM blocks were expected".to_owned());
    }
    Ok(())
}
