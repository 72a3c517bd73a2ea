//! Who may call whom: identities, patterns over them, and a service's rule.

use std::{borrow::Cow, fmt};

use crate::name::{NameError, RegionName, ServiceName};

/// Who calls: a service in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    region: Cow<'a, str>,
    service: Cow<'a, str>,
}

impl<'a> Identity<'a> {
    /// Reads the SPIFFE id `spiffe://<trust domain>/region/<region>/service/<service>` of a peer certificate. Only the
    /// canonical spelling counts: two ids that differ must not mean the same caller. A gateway's id is no caller's.
    #[must_use]
    pub fn from_spiffe(uri: &'a [u8], trust_domain: &str) -> Option<Self> {
        let path = str::from_utf8(uri)
            .ok()?
            .strip_prefix("spiffe://")?
            .strip_prefix(trust_domain)?
            .strip_prefix("/region/")?;
        let (region, service) = path.split_once("/service/")?;
        let canonical = RegionName::check(region.as_bytes()).is_ok_and(|name| &*name == region)
            && ServiceName::check(service.as_bytes()).is_ok_and(|name| &*name == service);
        canonical.then_some(Self {
            region: Cow::Borrowed(region),
            service: Cow::Borrowed(service),
        })
    }

    /// Reads `<region>/<service>`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_owned(text: &str) -> Result<Identity<'static>, AccessError> {
        let (region, service) = text.split_once('/').ok_or(AccessError::NoSlash)?;
        let region = RegionName::parse(region.as_bytes()).map_err(AccessError::Region)?;
        let service = ServiceName::parse(service.as_bytes()).map_err(AccessError::Service)?;
        Ok(Identity {
            region: Cow::Owned(region.as_str().to_owned()),
            service: Cow::Owned(service.as_str().to_owned()),
        })
    }

    /// The region of the caller.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The service that calls.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The same identity without a copy.
    #[must_use]
    pub fn borrowed(&self) -> Identity<'_> {
        Identity {
            region: Cow::Borrowed(&self.region),
            service: Cow::Borrowed(&self.service),
        }
    }
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        f.write_str("/")?;
        f.write_str(&self.service)
    }
}

/// Why a text is no identity or pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// There is no slash.
    NoSlash,
    /// The part before the slash is no region.
    Region(NameError),
    /// The part after the slash is no service.
    Service(NameError),
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlash => f.write_str("has no slash: write <region>/<service>"),
            Self::Region(error) => write!(f, "the region {error}"),
            Self::Service(error) => write!(f, "the service {error}"),
        }
    }
}

impl std::error::Error for AccessError {}

/// `<region>/<service>`, where either may be `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    region: Option<RegionName>,
    service: Option<ServiceName>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        let (region, service) = text.split_once('/').ok_or(AccessError::NoSlash)?;
        let region = match region {
            "*" => None,
            name => Some(RegionName::parse(name.as_bytes()).map_err(AccessError::Region)?),
        };
        let service = match service {
            "*" => None,
            name => Some(ServiceName::parse(name.as_bytes()).map_err(AccessError::Service)?),
        };
        Ok(Self { region, service })
    }

    fn matches(&self, caller: &Identity<'_>) -> bool {
        self.region
            .as_ref()
            .is_none_or(|region| region.as_str() == caller.region())
            && self
                .service
                .as_ref()
                .is_none_or(|service| service.as_str() == caller.service())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.region.as_ref().map_or("*", RegionName::as_str))?;
        f.write_str("/")?;
        f.write_str(self.service.as_ref().map_or("*", ServiceName::as_str))
    }
}

/// Why a caller may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted<'a> {
    /// The service has no access rule.
    Open,
    /// This pattern of its rule matched.
    By(&'a Pattern),
    /// The destination is in another region, whose gateway applies that region's rules.
    Elsewhere,
}

impl fmt::Display for Granted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::By(pattern) => pattern.fmt(f),
            Self::Elsewhere => f.write_str("elsewhere"),
        }
    }
}

/// The rule of one service.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// `None`: everybody.
    allow: Option<Vec<Pattern>>,
    allow_pins: bool,
    /// The caller of the config is the same for every request, so its pattern is looked for once.
    own_caller: Option<Pattern>,
}

impl Rule {
    pub(crate) fn new(
        allow: Option<Vec<Pattern>>,
        allow_pins: bool,
        own_caller: Option<&Identity<'_>>,
    ) -> Self {
        let own_caller = allow
            .iter()
            .flatten()
            .find(|pattern| own_caller.is_some_and(|caller| pattern.matches(caller)))
            .cloned();
        Self {
            allow,
            allow_pins,
            own_caller,
        }
    }

    pub(crate) fn allow_pins(&self) -> bool {
        self.allow_pins
    }

    /// Whether the caller of the config may pass.
    pub(crate) fn grants_own_caller(&self) -> Option<Granted<'_>> {
        if self.allow.is_none() {
            return Some(Granted::Open);
        }
        self.own_caller.as_ref().map(Granted::By)
    }

    /// Whether this caller may pass.
    pub(crate) fn grants(&self, caller: &Identity<'_>) -> Option<Granted<'_>> {
        let Some(patterns) = &self.allow else {
            return Some(Granted::Open);
        };
        patterns
            .iter()
            .find(|pattern| pattern.matches(caller))
            .map(Granted::By)
    }
}

#[cfg(test)]
mod tests;
