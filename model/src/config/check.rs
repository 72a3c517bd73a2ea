//! From the raw config to the checked one. Goes on after an error, so that one attempt shows all of them.

use std::{collections::BTreeMap, fmt::Display};

use super::{
    Config, ConfigError, DefaultRegion, Headers, Mode, RawConfig, RawHeaders, RawService, Service,
};
use crate::{
    access::{Identity, Pattern, Rule},
    limit::{
        check_limits, lease,
        question::{ALLOW_HEADER, DENY_HEADER},
    },
    name::{ANY_REGION, RegionName, ServiceName},
};

/// The trust domain where the config names none.
const TRUST_DOMAIN: &str = "mesh.internal";
const LONGEST_VERSION: usize = 128;
const LONGEST_HEADER: usize = 64;
const LONGEST_TRUST_DOMAIN: usize = 255;

#[derive(Default)]
struct Errors(Vec<ConfigError>);

impl Errors {
    fn add(&mut self, path: impl Into<String>, problem: impl Display) {
        self.0.push(ConfigError {
            path: path.into(),
            problem: problem.to_string(),
        });
    }

    /// Keeps a good value; notes a bad one.
    fn keep<T, E: Display>(&mut self, path: impl Into<String>, value: Result<T, E>) -> Option<T> {
        value.map_err(|problem| self.add(path, problem)).ok()
    }
}

pub(super) fn check(raw: RawConfig) -> Result<Config, Vec<ConfigError>> {
    let mut errors = Errors::default();
    check_version(&raw.version, &mut errors);
    let region = errors.keep("region", raw.region.parse::<RegionName>());
    let others = check_regions(&raw.regions, region.as_ref(), &mut errors);
    let default_region = check_default_region(&raw, region.as_ref(), &others, &mut errors);
    let caller = check_caller(&raw, &mut errors);
    let trust_domain = check_trust_domain(raw.trust_domain, &mut errors);
    let headers = headers(raw.headers).unwrap_or_else(|faults| {
        errors.0.extend(faults);
        Headers::default()
    });
    let services = check_services(raw.services, caller.as_ref(), &headers, &mut errors);
    match (region, errors.0.is_empty()) {
        (Some(region), true) => Ok(Config {
            version: raw.version,
            mode: raw.mode,
            region,
            others,
            default_region,
            caller,
            trust_domain,
            debug: raw.debug,
            headers,
            services,
        }),
        _ => Err(errors.0),
    }
}

fn check_version(version: &str, errors: &mut Errors) {
    if version.len() > LONGEST_VERSION {
        errors.add(
            "version",
            format_args!("is longer than {LONGEST_VERSION} bytes"),
        );
    }
    // It is put between quotes in a response header.
    if let Some(bad) = version
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '\\'))
    {
        errors.add(
            "version",
            format_args!(
                "has {bad:?}: only visible ASCII without quotes and backslashes can be shown in a receipt"
            ),
        );
    }
}

fn check_regions(raw: &[String], own: Option<&RegionName>, errors: &mut Errors) -> Vec<RegionName> {
    let mut regions: Vec<RegionName> = Vec::with_capacity(raw.len());
    for (at, text) in raw.iter().enumerate() {
        let path = format!("regions[{at}]");
        if let Some(region) = errors.keep(path.as_str(), text.parse::<RegionName>()) {
            if regions.contains(&region) {
                errors.add(path, format_args!("{region} is listed twice"));
            } else {
                regions.push(region);
            }
        }
    }
    regions.retain(|region| Some(region) != own);
    regions.sort();
    regions
}

fn check_default_region(
    raw: &RawConfig,
    own: Option<&RegionName>,
    others: &[RegionName],
    errors: &mut Errors,
) -> DefaultRegion {
    const PATH: &str = "default_region";
    let Some(text) = raw.default_region.as_deref() else {
        return DefaultRegion::Own;
    };
    let wanted = if text.eq_ignore_ascii_case(ANY_REGION) {
        DefaultRegion::Any
    } else {
        match errors.keep(PATH, text.parse::<RegionName>()) {
            // Without an own region there is an error already; more about this field would only distract.
            None => return DefaultRegion::Own,
            Some(region) if own.is_none_or(|own| *own == region) => DefaultRegion::Own,
            Some(region) => DefaultRegion::Other(region),
        }
    };
    match &wanted {
        DefaultRegion::Other(region) if !others.contains(region) => {
            errors.add(
                PATH,
                format_args!("{region} is not one of the regions: add it to regions"),
            );
        }
        DefaultRegion::Other(_) | DefaultRegion::Any if raw.mode == Mode::Gateway => {
            errors.add(PATH, "a gateway serves its own region only: leave this out");
        }
        _ => {}
    }
    wanted
}

fn check_caller(raw: &RawConfig, errors: &mut Errors) -> Option<Identity<'static>> {
    let text = raw.caller.as_deref()?;
    if raw.mode == Mode::Gateway {
        errors.add(
            "caller",
            "a gateway takes the caller from the peer certificate: leave this out",
        );
        return None;
    }
    errors.keep("caller", Identity::parse_owned(text))
}

fn check_trust_domain(raw: Option<String>, errors: &mut Errors) -> String {
    const PATH: &str = "trust_domain";
    let Some(text) = raw else {
        return TRUST_DOMAIN.to_owned();
    };
    if text.is_empty() {
        errors.add(PATH, "is empty: leave it out to get mesh.internal");
    }
    if text.len() > LONGEST_TRUST_DOMAIN {
        errors.add(
            PATH,
            format_args!("is longer than {LONGEST_TRUST_DOMAIN} bytes"),
        );
    }
    if let Some(bad) = text
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_'))
    {
        errors.add(
            PATH,
            format_args!("has {bad:?}: a trust domain has only a-z 0-9 . - _"),
        );
    }
    text
}

pub(super) fn headers(mut raw: RawHeaders) -> Result<Headers, Vec<ConfigError>> {
    // Names that Envoy or HTTP give a meaning of their own.
    const TAKEN: [&str; 12] = [
        "host",
        "content-type",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "grpc-status",
        "grpc-message",
        // And our own, between two filters of one Envoy.
        ALLOW_HEADER,
        DENY_HEADER,
        lease::ALLOW_HEADER,
        lease::DENY_HEADER,
    ];
    let mut errors = Errors::default();
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let names = [
        ("service", &mut raw.service),
        ("region", &mut raw.region),
        ("version", &mut raw.version),
        ("destination", &mut raw.destination),
        ("caller", &mut raw.caller),
        ("hops", &mut raw.hops),
        ("receipt", &mut raw.receipt),
        ("debug", &mut raw.debug),
        ("error", &mut raw.error),
    ];
    for (field, name) in names {
        let path = format!("headers.{field}");
        name.make_ascii_lowercase();
        if name.is_empty() {
            errors.add(path.as_str(), "is empty");
        }
        if name.len() > LONGEST_HEADER {
            errors.add(
                path.as_str(),
                format_args!("is longer than {LONGEST_HEADER} bytes"),
            );
        }
        if let Some(bad) = name
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        {
            errors.add(
                path.as_str(),
                format_args!("has {bad:?}: a header name has only a-z 0-9 - _ ."),
            );
        }
        // Envoy takes headers of its own prefix off what callers send.
        if TAKEN.contains(&name.as_str()) || name.starts_with("x-envoy-") {
            errors.add(
                path.as_str(),
                format_args!("{name} has a meaning of its own: choose another name"),
            );
        }
        if let Some(other) = seen.insert(name.clone(), field) {
            errors.add(
                path,
                format_args!("{name} is also headers.{other}: each needs a name of its own"),
            );
        }
    }
    if errors.0.is_empty() {
        Ok(Headers(raw))
    } else {
        Err(errors.0)
    }
}

fn check_services(
    raw: BTreeMap<String, RawService>,
    caller: Option<&Identity<'_>>,
    headers: &Headers,
    errors: &mut Errors,
) -> BTreeMap<ServiceName, Service> {
    let mut services = BTreeMap::new();
    for (key, service) in raw {
        let path = format!("services.{key}");
        let allow = service.allow.map(|texts| {
            let mut patterns = Vec::with_capacity(texts.len());
            for (at, text) in texts.iter().enumerate() {
                patterns.extend(errors.keep(format!("{path}.allow[{at}]"), Pattern::parse(text)));
            }
            patterns
        });
        let Some(name) = errors.keep(path.as_str(), key.parse::<ServiceName>()) else {
            continue;
        };
        let rule = Rule::new(allow, service.allow_pins, caller);
        let (mut limits, wrong) = check_limits(&name, &service.limits);
        for error in wrong {
            errors.add(format!("{path}.limits{}", error.path), error.problem);
        }
        for limit in &mut limits {
            limit.trust_no_header(&headers.caller);
        }
        if let Some(_earlier) = services.insert(name, Service { rule, limits }) {
            errors.add(path, "is listed twice: names do not differ by case alone");
        }
    }
    services
}
