//! What gRPC libraries see that speak xDS themselves, without an Envoy ("proxyless"): `xds:///payments` in a channel.
//!
//! They reach the services of their own region, directly: another region is entered by mutual TLS with certificates that a
//! library cannot fetch here. No filter runs in them, so what the filter would decide is decided here, by the same
//! [`decide`](isthmus_model::decide), from what the node says of itself; a rule that takes a look at every request makes
//! a service unreachable this way.
//!
//! Every name has a listener, a cluster and endpoints. grpcio takes the absence of a listener or cluster that it never
//! had for one that is on its way, and waits 15 s (seen with 1.85). Endpoints that drop every request answer at once,
//! each time, with the reason in the error's text, and an update of them is all it takes when the reason goes.
//!
//! What is the same for all clients is built once, when the first one asks after a change, and what one of them says of it
//! counts for all.

mod client;
mod messages;
mod shelf;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use isthmus_model::{
    Caller, ClusterName, Config, Decision, Peer, RawService, RegionName, Request, ServiceName,
};

use super::{
    Inner, Names, NodeKind, cluster_name, filter,
    node::used_destination,
    reader::{Reader, Served},
    view::{labels, resource},
};
use crate::{
    record::{Protocol, Service},
    xds::{Labels, Resource, ResourceType, View, Witness},
};
pub(super) use client::Client;
pub(crate) use client::KIND;
pub(super) use shelf::Shelf;

/// Names of the listeners of a service of this region.
pub(super) fn announce(service: &ServiceName, local: &RegionName, names: &mut Names) {
    let full = cluster_name(service.as_str(), local.as_str());
    names.push((ResourceType::Listener, service.as_str().into()));
    names.push((ResourceType::Listener, full));
}

/// A region came or went: `<service>.<region>` means something else for the services that are known here.
pub(super) fn reinterpret(service: &ServiceName, region: &RegionName, names: &mut Names) {
    let name = cluster_name(service.as_str(), region.as_str());
    names.push((ResourceType::Listener, name));
    let dotted = service.as_str().strip_suffix(region.as_str());
    if dotted.is_some_and(|rest| rest.ends_with('.')) {
        names.push((ResourceType::Listener, service.as_str().into()));
    }
}

/// What one library sees.
pub(super) struct ClientView {
    inner: Arc<Inner>,
    client: Client,
    reader: Reader,
}

/// What a name leads to.
struct Destination {
    /// Its cluster's name, and that of its endpoints.
    cluster: Arc<str>,
    /// The service, or why there is no way to it.
    outcome: Result<Service, String>,
}

impl ClientView {
    pub(super) fn new(inner: Arc<Inner>, client: Client, witness: Witness) -> Self {
        Self {
            inner,
            client,
            reader: Reader::new(witness),
        }
    }

    fn look_up(&self, name: &str) -> Destination {
        let inner = &self.inner;
        let local = &inner.settings.region;
        let is_region =
            |region: &RegionName| region == local || inner.facts.region(region).is_some();
        let target = used_destination(name, local, is_region);
        let why = match target {
            None => format!(
                "bad_service: {name:?} is no name of a service: write <service> or <service>.{local}"
            ),
            Some(target) => {
                let cluster = target.to_string();
                if name == cluster || name == target.service.as_str() {
                    return Destination {
                        outcome: self.reach(&target),
                        cluster: cluster.into(),
                    };
                }
                // Names fold case. One spelling only, so that a change has one name.
                format!("bad_service: write {cluster} in lower case")
            }
        };
        Destination {
            cluster: name.into(),
            outcome: Err(why),
        }
    }

    fn look(&self, kind: ResourceType, name: &str) -> Option<Served> {
        if !matches!(
            kind,
            ResourceType::Listener | ResourceType::Cluster | ResourceType::Endpoints
        ) {
            return None;
        }
        let Destination { cluster, outcome } = self.look_up(name);
        // Other names are the listeners' alone.
        if kind != ResourceType::Listener && *cluster != *name {
            return None;
        }
        let why = match outcome {
            Ok(service) => {
                let inner = &self.inner;
                let (facts, settings) = (&*inner.facts, &inner.settings);
                let shelved = inner.shelf.get(&service.name, facts, settings)?;
                return shelved.served(kind, name, &self.reader);
            }
            Err(why) => why,
        };
        let none = match kind {
            ResourceType::Listener => {
                resource(kind, name, &messages::listener(name, &cluster, None))
            }
            ResourceType::Cluster => resource(kind, name, &messages::plain(name)),
            _ => resource(kind, name, &messages::refusing(name, &why)),
        };
        none.map(Served::now)
    }

    fn reach(&self, target: &ClusterName) -> Result<Service, String> {
        let inner = &self.inner;
        let local = &inner.settings.region;
        if target.region.as_ref() != Some(local) {
            return Err(format!(
                "{target} is not in region {local}, and gRPC without Envoy reaches no other: send the request through an Envoy"
            ));
        }
        if target.version.is_some() {
            return Err(format!(
                "{target} pins a version, which takes an Envoy: send the request through one, or ask for {}",
                target.service
            ));
        }
        // First, so that a change from here on is announced.
        let shelf = &inner.shelf;
        let known = shelf.has(&target.service, &*inner.facts, &inner.settings);
        let entry = inner.facts.service(&target.service);
        let Some(entry) = entry.filter(|_| known) else {
            return Err(format!(
                "unknown_service: region {local} has no service {}",
                target.service
            ));
        };
        let service = entry.checked.clone();
        if service.policy.protocol == Protocol::Http1 {
            return Err(format!("{target} speaks HTTP/1.1, which is not gRPC"));
        }
        self.admit(target, &service)?;
        Ok(service)
    }

    /// Whether the client may call the service: what the filter beside it would say.
    fn admit(&self, target: &ClusterName, service: &Service) -> Result<(), String> {
        let settings = &self.inner.settings;
        let Some(rules) = filter::rules(service) else {
            return Ok(());
        };
        if looks_at_every_request(rules.clone()) {
            return Err(format!(
                "{target} has rules that only an Envoy can apply: send the request through one"
            ));
        }
        let raw = filter::config(
            NodeKind::Host,
            Some(&self.client.service),
            &[],
            std::iter::once((&service.name, &rules)),
            settings,
        );
        let config = Config::check(raw).map_err(|errors| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            format!("the rules of {target} make no sense: {}", errors.join("; "))
        })?;
        let names = config.headers();
        let headers = [
            (":path", "/"),
            (names.service.as_str(), service.name.as_str()),
            (names.region.as_str(), settings.region.as_str()),
        ];
        let headers = headers.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let request = Request::collect(config.headers(), headers);
        let refused = |refusal: &isthmus_model::Refusal| {
            format!("{}: {target}: {}", refusal.code(), refusal.message())
        };
        let caller = Caller::parse(&config, &request, Peer::default()).map_err(|e| refused(&e))?;
        match isthmus_model::decide(&config, &caller) {
            Decision::Route(_) => Ok(()),
            Decision::Reject(refusal) => Err(refused(&refusal)),
        }
    }
}

/// Whether there is more to say than who may call: pins are not offered here, so leave to pin is no rule.
fn looks_at_every_request(mut rules: RawService) -> bool {
    rules.allow = None;
    rules.allow_pins = false;
    rules != RawService::default()
}

impl View for ClientView {
    fn labels(&self) -> Labels {
        labels(KIND, &self.client.service, &self.client.region)
    }

    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>> {
        Some(self.look(kind, name)?.resource)
    }

    fn refused(&self, kind: ResourceType, resource: &Resource) {
        if let Some(served) = self.look(kind, resource.name()) {
            self.reader.refuse(kind, resource, &served);
        }
    }

    fn withheld(&self, kind: ResourceType, name: &str) -> Option<Arc<str>> {
        self.look(kind, name)?.withheld
    }

    fn unused(&self, kind: ResourceType, name: &str) {
        self.reader.forget(kind, name);
    }

    /// Libraries ask for what they use, by name.
    fn wildcard(&self, _kind: ResourceType) -> Vec<Arc<str>> {
        Vec::new()
    }
}
