//! What filter configs and zone-aware balancing need of all records at once, kept up to date one by one so that
//! no change makes EMS look at every record.

use std::collections::{BTreeMap, HashMap, HashSet};

use isthmus_model::{RegionName, ServiceName, config::RawService, limit::Scope};

use super::{Facts, filter};

/// Rules and zones of all services, and the regions.
#[derive(Default)]
pub(super) struct Summary {
    rules: BTreeMap<ServiceName, RawService>,
    /// How many services have leased limits.
    leased: usize,
    /// Endpoints per zone, for services that have both record and zones, or just the record.
    services: HashMap<ServiceName, BTreeMap<String, usize>>,
    /// How many services have endpoints in a zone.
    zones: BTreeMap<String, usize>,
    regions: HashSet<RegionName>,
}

/// What differed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    /// The service came or went.
    pub(super) existence: bool,
    /// What filter configs say of it.
    pub(super) rules: bool,
    /// Whether any limit is leased.
    pub(super) leases: bool,
    /// How its endpoints are spread over zones.
    pub(super) spread: bool,
    /// Which zones there are.
    pub(super) zones: bool,
}

impl Summary {
    pub(super) fn of(facts: &dyn Facts) -> Self {
        let mut summary = Self::default();
        for service in facts.services() {
            summary.note(&service.checked.name, facts);
        }
        for region in facts.regions() {
            summary.regions.insert(region.checked.name.clone());
        }
        summary
    }

    /// Looks at one service again.
    pub(super) fn note(&mut self, name: &ServiceName, facts: &dyn Facts) -> Noted {
        let service = facts.service(name);
        let rules = service.as_ref().and_then(|s| filter::rules(&s.checked));
        let old_rules = match rules.clone() {
            Some(rules) => self.rules.insert(name.clone(), rules),
            None => self.rules.remove(name),
        };
        let leased_before = self.leases();
        self.leased += usize::from(leases(rules.as_ref()));
        self.leased -= usize::from(leases(old_rules.as_ref()));
        let spread = service.as_ref().map(|_| {
            let mut spread = BTreeMap::new();
            for endpoint in facts.endpoints(name) {
                if let Some(zone) = endpoint.checked.zone.clone() {
                    *spread.entry(zone).or_insert(0) += 1;
                }
            }
            spread
        });
        let old_spread = match spread.clone() {
            Some(spread) => self.services.insert(name.clone(), spread),
            None => self.services.remove(name),
        };
        let existence = spread.is_some() != old_spread.is_some();
        let (spread, old_spread) = (spread.unwrap_or_default(), old_spread.unwrap_or_default());
        let mut noted = Noted {
            existence,
            rules: rules != old_rules,
            leases: self.leases() != leased_before,
            spread: spread != old_spread,
            zones: false,
        };
        // First what came, so that a zone that stays is none that went.
        for (zone, _) in spread {
            let users = self.zones.entry(zone).or_insert(0);
            noted.zones |= *users == 0;
            *users += 1;
        }
        for (zone, _) in old_spread {
            if let Some(users) = self.zones.get_mut(&zone) {
                *users -= 1;
                if *users == 0 {
                    self.zones.remove(&zone);
                    noted.zones = true;
                }
            }
        }
        noted
    }

    /// Looks at one region again: whether it came or went.
    pub(super) fn note_region(&mut self, name: &RegionName, facts: &dyn Facts) -> bool {
        match facts.region(name) {
            Some(_) => self.regions.insert(name.clone()),
            None => self.regions.remove(name),
        }
    }

    /// The services that have rules.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&ServiceName, &RawService)> {
        self.rules.iter()
    }

    /// Whether a limit of any service is leased.
    pub(super) fn leases(&self) -> bool {
        self.leased > 0
    }

    /// Where callers run: as the endpoints of `service` if it is one that has zones, else evenly over all zones.
    pub(super) fn callers(&self, service: Option<&ServiceName>) -> BTreeMap<String, usize> {
        match service.and_then(|service| self.services.get(service)) {
            Some(spread) if !spread.is_empty() => spread.clone(),
            _ => self.zones.keys().map(|zone| (zone.clone(), 1)).collect(),
        }
    }
}

fn leases(rules: Option<&RawService>) -> bool {
    rules.is_some_and(|rules| rules.limits.iter().any(|l| l.scope == Scope::Lease))
}
