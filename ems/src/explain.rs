//! What the mesh would do with a request, step by step.
//!
//! The decision is the filter's own, [`decide`], with the config that an Envoy of this region has, so the two cannot
//! disagree. What is added is what Envoy does with it: which cluster, and who is behind it. Whom an Envoy has ejected or
//! found unhealthy is its own knowledge, and not known here.

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use isthmus_model::{
    Caller, ClusterName, Config, Decision, Identity, Kind, Limit, Peer, RawConfig, Refusal,
    RegionName, Request, Route, ServiceName, VersionLabel,
    limit::{Scope, lease, question},
    refusal::Code,
};
use isthmus_proto::v1::{ExplainRequest, ExplainStep, ExplainTarget, Explanation};

use crate::{
    identity::SpiffeId,
    lease::{Lent, division::PARTS},
    record::{Endpoint, Invalid, Region},
    registry::EndpointEntry,
    resources::{Destination, NodeKind, Resources, Tier, server_name},
};

/// What an Envoy would say about limits of the region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// What it would ask, if the request meets any that is not leased.
    pub question: Option<String>,
    /// The leased limit that the request meets, and the name of its budget.
    pub lease: Option<(Limit, String)>,
}

/// Explains a request, and says what its Envoy would ask about limits of the region. A caller of this region speaks through
/// its own Envoy, one of another region through that one's, and arrives at a gateway here.
///
/// # Errors
/// What makes no sense in the question.
pub fn explain(
    question: &ExplainRequest,
    resources: &Resources,
) -> Result<(Explanation, Asks), Invalid> {
    let settings = resources.settings();
    let caller = asker(question)?;
    let arrives = caller
        .as_ref()
        .is_some_and(|(region, _)| *region != settings.region);
    let kind = if arrives {
        NodeKind::Gateway
    } else {
        NodeKind::Host
    };
    let raw = resources.filter_config(kind, caller.as_ref().map(|(_, service)| service));
    let trust_domain = &settings.trust_domain;
    let (id, name) = caller
        .as_ref()
        .filter(|_| arrives)
        .map(|(region, service)| {
            (
                SpiffeId::service(trust_domain, region, service),
                server_name(region, trust_domain),
            )
        })
        .unzip();
    let peer = Peer {
        uri: id.as_ref().map(|id| id.as_str().as_bytes()),
        server_name: name.as_ref().map(String::as_bytes),
    };
    let mut answer = Answer::default();
    answer.step("caller", caller_words(&caller, arrives, &settings.region));
    let asked = decide_and_follow(question, raw, peer, resources, &mut answer)?;
    Ok((answer.0, asked))
}

type Asker = Option<(RegionName, ServiceName)>;

fn asker(question: &ExplainRequest) -> Result<Asker, Invalid> {
    if question.caller.is_empty() {
        return Ok(None);
    }
    let wrong = |error: &dyn std::fmt::Display| Invalid::one("caller", error.to_string());
    let identity = Identity::parse_owned(&question.caller).map_err(|e| wrong(&e))?;
    let region = identity.region().parse().map_err(|e| wrong(&e))?;
    let service = identity.service().parse().map_err(|e| wrong(&e))?;
    Ok(Some((region, service)))
}

fn caller_words(caller: &Asker, arrives: bool, here: &RegionName) -> String {
    match caller {
        None => format!("not given: an Envoy of {here} without an identity"),
        Some((region, service)) if arrives => {
            format!("{region}/{service}, at a gateway of {here}, by its certificate")
        }
        Some((region, service)) => format!("{region}/{service}, through its own Envoy"),
    }
}

fn decide_and_follow(
    question: &ExplainRequest,
    raw: RawConfig,
    peer: Peer<'_>,
    resources: &Resources,
    answer: &mut Answer,
) -> Result<Asks, Invalid> {
    let config = Config::check(raw).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Invalid::one("", format!("the filter's config: {}", errors.join("; ")))
    })?;
    answer.step(
        "config",
        format!(
            "version {}, {} mode",
            config.version(),
            config.mode().as_str()
        ),
    );
    let headers = headers(question, &config);
    let pairs = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let request = Request::collect(config.headers(), pairs.clone());
    let caller = match Caller::parse(&config, &request, peer) {
        Ok(caller) => caller,
        Err(refusal) => {
            answer.refuse("request", &refusal);
            return Ok(Asks::default());
        }
    };
    answer.step("request", format!("service {}", &*caller.service));
    match isthmus_model::decide(&config, &caller) {
        Decision::Reject(refusal) => {
            answer.refuse("decision", &refusal);
            Ok(Asks::default())
        }
        Decision::Route(route) => {
            answer.step("region", region_words(&route));
            answer.step("access", format!("granted: {}", route.granted));
            answer.step("limits", limit_words(&route));
            follow(&route, resources, answer);
            let mut asked = String::new();
            let wanted = question::write(&mut asked, &route, request.is_grpc(), pairs);
            let mut bucket = String::new();
            let leased = lease::write(&mut bucket, &route).and(lease::met(&route));
            Ok(Asks {
                question: wanted.map(|_| asked),
                lease: leased.map(|limit| (limit.clone(), bucket)),
            })
        }
    }
}

/// The headers of the request, names in lower case as Envoy has them.
fn headers(question: &ExplainRequest, config: &Config) -> Vec<(String, String)> {
    let names = config.headers();
    let mut headers = vec![(":path".to_owned(), "/".to_owned())];
    for (name, value) in &question.headers {
        let name = match name.to_ascii_lowercase() {
            name if name == "host" => ":authority".to_owned(),
            name => name,
        };
        headers.retain(|(other, _)| *other != name);
        headers.push((name, value.clone()));
    }
    for (name, value) in [
        (&names.service, &question.service),
        (&names.region, &question.region),
    ] {
        if !value.is_empty() {
            headers.retain(|(other, _)| other != name);
            headers.push((name.clone(), value.clone()));
        }
    }
    headers
}

fn region_words(route: &Route<'_>) -> String {
    match route.kind {
        Kind::Local => format!("{}: this one", route.region),
        Kind::Remote => format!("{}: through its gateways", route.region),
        Kind::Any => "any: the nearest with healthy endpoints, this one first".to_owned(),
    }
}

/// What is leased out of a budget. An Envoy that was told to give its share up counts until it must have heard that.
#[must_use]
pub fn lease_step(limit: &Limit, lent: Lent) -> ExplainStep {
    let Lent { envoys, rate } = lent;
    let envoys = match envoys {
        0 => "no Envoy holds a share now".to_owned(),
        1 => format!("1 Envoy holds {}", Parts(rate)),
        more => format!("{more} Envoys hold {}", Parts(rate)),
    };
    let (requests, unit) = (limit.requests(), limit.unit().as_str());
    ExplainStep {
        name: "lease".to_owned(),
        detail: format!(
            "of {requests} requests a {unit}: {envoys}; how full its share is only the Envoy knows"
        ),
    }
}

/// Thousandths of requests.
struct Parts(u64);

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, parts) = (self.0 / PARTS, self.0 % PARTS);
        let text = format!("{whole}.{parts:03}");
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Whose budgets are asked. What is left of the local ones only the Envoy knows.
fn limit_words(route: &Route<'_>) -> String {
    if route.kind == Kind::Remote {
        return "those of the other region, at its gateway".to_owned();
    }
    let names = |scope| {
        let limits = route.limits.of_scope(scope).map(Limit::to_string);
        limits.collect::<Vec<_>>().join(", ")
    };
    let places = [
        (
            Scope::Local,
            "at this Envoy, which alone knows how full they are",
        ),
        (Scope::Region, "at EMS, for the whole region"),
        (Scope::Lease, "of which this Envoy holds a share"),
    ];
    let words = places.map(|(scope, place)| match names(scope) {
        none if none.is_empty() => none,
        names => format!("{names}, {place}"),
    });
    let words: Vec<_> = words
        .into_iter()
        .filter(|words| !words.is_empty())
        .collect();
    let met = match &*words {
        [] => "none".to_owned(),
        words => words.join("; "),
    };
    let unmet: Vec<_> = route.limits.unmet().map(Limit::to_string).collect();
    match &*unmet {
        [] => met,
        unmet => format!("{met}; not of this :path: {}", unmet.join(", ")),
    }
}

/// What Envoy does with the cluster's name.
fn follow(route: &Route<'_>, resources: &Resources, answer: &mut Answer) {
    let mut name = String::new();
    // Writing to a String cannot fail.
    let _ = route.write_cluster(&mut name);
    let Ok(target) = ClusterName::parse(&name) else {
        return;
    };
    let found = resources.resolve(&target);
    answer.targets(&found);
    if let Some(code) = found.refusal() {
        let why = match code {
            Code::UnknownService => "no service of this name is registered",
            _ => "nobody can take the request",
        };
        answer.step("cluster", format!("{name}: {why}"));
        answer.refused(code);
        return;
    }
    let decides = match found.kind {
        Kind::Remote => "its gateways decide again, by their region's rules",
        Kind::Local | Kind::Any => "as the service's policy says",
    };
    answer.step("cluster", format!("{name}: {decides}"));
    found.outcome().as_str().clone_into(&mut answer.0.outcome);
    answer.0.destination = name;
}

#[derive(Default)]
struct Answer(Explanation);

impl Answer {
    fn step(&mut self, name: &str, detail: String) {
        self.0.steps.push(ExplainStep {
            name: name.to_owned(),
            detail,
        });
    }

    /// The filter turns the request away.
    fn refuse(&mut self, step: &str, refusal: &Refusal) {
        self.step(step, format!("refused: {}", refusal.message()));
        self.refused(refusal.code());
    }

    fn refused(&mut self, code: Code) {
        "refused".clone_into(&mut self.0.outcome);
        code.as_str().clone_into(&mut self.0.error);
    }

    fn targets(&mut self, found: &Destination) {
        for tier in &found.tiers {
            match tier {
                Tier::Here(endpoints) => self.endpoints(endpoints),
                Tier::Region(region) => self.gateways(&region.checked),
            }
        }
    }

    /// Those that take no requests last.
    fn endpoints(&mut self, endpoints: &[Arc<EndpointEntry>]) {
        let mut all: Vec<&Endpoint> = endpoints.iter().map(|entry| &entry.checked).collect();
        all.sort_by(|a, b| (a.draining, &a.id).cmp(&(b.draining, &b.id)));
        self.0
            .targets
            .extend(all.into_iter().map(|endpoint| ExplainTarget {
                address: endpoint.address.to_string(),
                kind: "endpoint".to_owned(),
                detail: endpoint_words(endpoint),
            }));
    }

    fn gateways(&mut self, region: &Region) {
        let Region { name, distance, .. } = region;
        self.0
            .targets
            .extend(region.gateways.iter().map(|address| ExplainTarget {
                address: address.to_string(),
                kind: "gateway".to_owned(),
                detail: format!("of {name}, distance {distance}, over mutual TLS"),
            }));
    }
}

fn endpoint_words(endpoint: &Endpoint) -> String {
    let mut words = Vec::new();
    if endpoint.draining {
        words.push("draining: takes no new requests".to_owned());
    }
    words.push(format!("weight {}", endpoint.weight));
    if let Some(zone) = &endpoint.zone {
        words.push(format!("zone {zone}"));
    }
    if let Some(version) = endpoint.version_label.as_ref().map(VersionLabel::as_str) {
        words.push(format!("version {version}"));
    }
    words.join(", ")
}
