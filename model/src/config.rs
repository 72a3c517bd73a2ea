//! The filter's config, in two stages: [`RawConfig`] is what the JSON says, [`Config`] is what was found to make sense.
//!
//! EMS builds the raw form and the filter reads it, so there is one schema. The checked form also holds what can be
//! computed once instead of per request. It stays small on purpose: it lists regions and the services that have rules,
//! never all services.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    access::{Identity, Rule},
    limit::{Limit, RawLimit, Scope},
    name::{Name, RegionName, ServiceName},
};

mod check;

/// On which side of the mesh a filter works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Beside callers: requests go out.
    #[default]
    Outbound,
    /// At a region's entrance: requests of other regions come in.
    Gateway,
}

impl Mode {
    /// The mode as the config spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Gateway => "gateway",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The config as JSON has it. Unknown fields are refused; only `region` must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Names this config in receipts; free text, visible ASCII without quotes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// `outbound` (default) or `gateway`.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// The region this Envoy is in.
    pub region: String,
    /// All regions that may be asked for; the own one need not be listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// Where requests without a region go: a region or `any`. The own region unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_region: Option<String>,
    /// `<region>/<service>` of the local callers; outbound only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The trust domain of the SPIFFE ids that a gateway believes; `mesh.internal` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// Whether receipts are given to those who ask.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub debug: bool,
    /// Header names, where the defaults do not suit.
    #[serde(default, skip_serializing_if = "RawHeaders::is_default")]
    pub headers: RawHeaders,
    /// Rules of the services of this region that have any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, RawService>,
}

/// Header names as JSON has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHeaders {
    /// Destination service.
    pub service: String,
    /// Destination region.
    pub region: String,
    /// Pinned version.
    pub version: String,
    /// Destination cluster, set by the filter.
    pub destination: String,
    /// Who calls, set by the filter.
    pub caller: String,
    /// Gateways passed, set by the filter.
    pub hops: String,
    /// Receipt on the response, set by the filter.
    pub receipt: String,
    /// Asks for a receipt.
    pub debug: String,
    /// Code of a refusal, on the response.
    pub error: String,
}

impl RawHeaders {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for RawHeaders {
    fn default() -> Self {
        Self {
            service: "x-mesh-service".into(),
            region: "x-mesh-region".into(),
            version: "x-mesh-version".into(),
            destination: "x-mesh-destination".into(),
            caller: "x-mesh-caller".into(),
            hops: "x-mesh-hops".into(),
            receipt: "x-mesh-receipt".into(),
            debug: "x-mesh-debug".into(),
            error: "x-mesh-error".into(),
        }
    }
}

/// A service's rules as JSON has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawService {
    /// Who may call: `<region>/<service>`, either part may be `*`. Absent: everybody. Empty: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// Whether callers may pin a version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_pins: bool,
    /// How much callers may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<RawLimit>,
}

/// One thing wrong with a config, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The field, such as `services.payments.allow[1]`.
    pub path: String,
    /// What is wrong with it and what to do.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Whether a path is another one, or leads through it: what is wrong with the whole says it of the part as well.
#[must_use]
pub fn is_within(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole)
        .is_some_and(|rest| whole.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Header names, lower case and distinct.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(RawHeaders);

impl Headers {
    /// Checks names.
    ///
    /// # Errors
    /// Everything that is wrong with them, each by its path in the filter's config.
    pub fn check(raw: RawHeaders) -> Result<Self, Vec<ConfigError>> {
        check::headers(raw)
    }
}

impl std::ops::Deref for Headers {
    type Target = RawHeaders;

    fn deref(&self) -> &RawHeaders {
        &self.0
    }
}

/// Where a request without a region goes.
#[derive(Clone, Debug)]
pub(crate) enum DefaultRegion {
    Own,
    Other(RegionName),
    Any,
}

/// A config that makes sense.
#[derive(Clone, Debug)]
pub struct Config {
    version: String,
    mode: Mode,
    region: RegionName,
    /// Sorted, without the own one.
    others: Vec<RegionName>,
    default_region: DefaultRegion,
    caller: Option<Identity<'static>>,
    trust_domain: String,
    debug: bool,
    headers: Headers,
    services: BTreeMap<ServiceName, Service>,
}

/// What is said of one service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) rule: Rule,
    pub(crate) limits: Vec<Limit>,
}

impl Config {
    /// Checks a raw config.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(raw: RawConfig) -> Result<Self, Vec<ConfigError>> {
        check::check(raw)
    }

    /// The version, as receipts show it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The side of the mesh.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The region this Envoy is in.
    #[must_use]
    pub fn region(&self) -> &RegionName {
        &self.region
    }

    /// Who the local callers are, if that is known.
    #[must_use]
    pub fn caller(&self) -> Option<&Identity<'static>> {
        self.caller.as_ref()
    }

    /// The trust domain of peers.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Whether receipts are given.
    #[must_use]
    pub fn debug(&self) -> bool {
        self.debug
    }

    /// The header names.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The known region of this name, other than the own one.
    pub(crate) fn other_region(&self, name: &str) -> Option<&RegionName> {
        let at = self
            .others
            .binary_search_by(|region| region.as_str().cmp(name))
            .ok()?;
        self.others.get(at)
    }

    /// Whether a label names a region that may be asked for.
    pub(crate) fn knows_region(&self, name: &str) -> bool {
        self.region.as_str() == name || self.other_region(name).is_some()
    }

    pub(crate) fn default_region(&self) -> &DefaultRegion {
        &self.default_region
    }

    /// What is said of a service of this region.
    pub(crate) fn service(&self, service: &Name<'_>) -> Option<&Service> {
        if self.services.is_empty() {
            return None;
        }
        self.services.get(service.as_str())
    }

    /// Whether any service has limits whose budgets are kept there.
    #[must_use]
    pub fn has_limits(&self, scope: Scope) -> bool {
        self.services
            .values()
            .flat_map(|service| &service.limits)
            .any(|limit| limit.scope() == scope)
    }
}

#[cfg(test)]
mod tests;
