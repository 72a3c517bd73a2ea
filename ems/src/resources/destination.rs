//! What a destination leads to: said once, for the cluster that Envoy gets and for the words of `ems explain`.
//!
//! Pure: records in, a value out. Knows nothing of Envoy.

use std::sync::Arc;

use isthmus_model::{ClusterName, Kind, RegionName, VersionLabel, refusal::Code};

use super::{Facts, Settings};
use crate::{
    record::Region,
    registry::{EndpointEntry, RegionEntry, ServiceEntry},
};

/// Who says that there is something of a name. Names come from callers, and only records are as many as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A record of this region.
    Vouched,
    /// The caller: another region may know it.
    Claimed,
    /// Nobody.
    Unknown,
}

/// A destination with all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// Whether it is here, in another region, or wherever is nearest.
    pub(crate) kind: Kind,
    /// Who says that there is such a thing.
    pub(crate) standing: Standing,
    /// The service's record here.
    pub(crate) service: Option<Arc<ServiceEntry>>,
    /// Where requests go, the most preferred first. None is empty.
    pub(crate) tiers: Vec<Tier>,
}

/// Those of equal preference.
#[derive(Clone, Debug)]
pub(crate) enum Tier {
    /// Endpoints of this region: each address once, in order.
    Here(Vec<Arc<EndpointEntry>>),
    /// The gateways of another region.
    Region(Arc<RegionEntry>),
}

impl Tier {
    /// Whether somebody here may get requests.
    pub(crate) fn takes(&self) -> bool {
        match self {
            Self::Here(endpoints) => endpoints.iter().any(|endpoint| !endpoint.checked.draining),
            Self::Region(_) => true,
        }
    }
}

impl Destination {
    /// Why Envoy turns every request for it away, if it does.
    pub(crate) fn refusal(&self) -> Option<Code> {
        if self.standing == Standing::Unknown {
            return Some(Code::UnknownService);
        }
        (!self.tiers.iter().any(Tier::takes)).then_some(Code::NoHealthyEndpoint)
    }

    /// Where a request goes while nobody fails: here, or to another region.
    pub(crate) fn outcome(&self) -> Kind {
        match (self.kind, self.tiers.iter().find(|tier| tier.takes())) {
            (Kind::Any, Some(Tier::Here(_))) => Kind::Local,
            (Kind::Any, _) => Kind::Remote,
            (kind, _) => kind,
        }
    }

    fn unknown(kind: Kind) -> Self {
        Self {
            kind,
            standing: Standing::Unknown,
            service: None,
            tiers: Vec::new(),
        }
    }
}

/// Looks up a destination.
pub(crate) fn resolve(target: &ClusterName, facts: &dyn Facts, settings: &Settings) -> Destination {
    let kind = match &target.region {
        None => Kind::Any,
        Some(region) if *region == settings.region => Kind::Local,
        Some(_) => Kind::Remote,
    };
    known(target, kind, facts, settings).unwrap_or_else(|| Destination::unknown(kind))
}

fn known(
    target: &ClusterName,
    kind: Kind,
    facts: &dyn Facts,
    settings: &Settings,
) -> Option<Destination> {
    let service = facts.service(&target.service);
    let members = members(facts.endpoints(&target.service), target.version.as_ref());
    let standing = if service.is_some() && (target.version.is_none() || !members.is_empty()) {
        Standing::Vouched
    } else {
        Standing::Claimed
    };
    let here = (!members.is_empty()).then_some(Tier::Here(members));
    let tiers: Vec<Tier> = match (kind, &target.region) {
        (Kind::Remote, Some(region)) => {
            let region = facts.region(region)?;
            let reachable = is_reachable(&region.checked);
            reachable
                .then_some(Tier::Region(region))
                .into_iter()
                .collect()
        }
        (Kind::Any, _) | (Kind::Remote, None) => {
            let others = by_distance(facts, &settings.region);
            if service.is_none() && others.is_empty() {
                return None;
            }
            let others = others.into_iter().map(Tier::Region);
            here.into_iter().chain(others).collect()
        }
        (Kind::Local, _) => {
            let pins = service.as_ref()?.checked.allow_version_pins;
            if target.version.is_some() && !pins {
                return None;
            }
            here.into_iter().collect()
        }
    };
    Some(Destination {
        kind,
        standing,
        service,
        tiers,
    })
}

/// The endpoints that run `version`, or all of them. Two records of one address would be one host twice: the one that
/// takes requests counts.
fn members(
    mut endpoints: Vec<Arc<EndpointEntry>>,
    version: Option<&VersionLabel>,
) -> Vec<Arc<EndpointEntry>> {
    endpoints.retain(|entry| version.is_none() || entry.checked.version_label.as_ref() == version);
    endpoints.sort_by(|a, b| {
        let (a, b) = (&a.checked, &b.checked);
        (&a.address, a.draining, &a.id).cmp(&(&b.address, b.draining, &b.id))
    });
    endpoints.dedup_by(|a, b| a.checked.address == b.checked.address);
    endpoints
}

/// Regions that requests can be sent to, nearest first; equally near ones by name.
fn by_distance(facts: &dyn Facts, local: &RegionName) -> Vec<Arc<RegionEntry>> {
    let mut regions: Vec<_> = facts
        .regions()
        .into_iter()
        .filter(|region| region.checked.name != *local && is_reachable(&region.checked))
        .collect();
    regions.sort_by(|a, b| {
        let (a, b) = (&a.checked, &b.checked);
        (a.distance, &a.name).cmp(&(b.distance, &b.name))
    });
    regions
}

/// Without gateways there is nowhere to go; without roots no gateway could be believed.
fn is_reachable(region: &Region) -> bool {
    !region.gateways.is_empty() && !region.trust_bundle.trim().is_empty()
}
