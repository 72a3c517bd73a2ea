//! What an Envoy says of itself in its bootstrap, checked.
//!
//! It is taken at its word: whoever reaches the xDS port may say to be any node of the region. See `docs/policy.md`.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::config::core::v3::Node as EnvoyNode,
    google::protobuf::{Struct, value::Kind},
};
use isthmus_model::{ClusterName, RegionName, ServiceName};

use crate::identity::SpiffeId;

/// Bytes of one text of a node, which is kept as long as the node is connected, by each of its streams.
const TEXT_BYTES: usize = 1_024;
/// What a node may use: as many entries as [`super::Limits`] lets one use of its own accord, each as long as a
/// destination's name can be.
const USES: usize = 1_000;
const USE_BYTES: usize = 512;

/// What sort of Envoy a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// Beside one service, for its requests only.
    Sidecar,
    /// One per machine, for several local callers.
    Host,
    /// Where requests of other regions come in.
    Gateway,
}

impl NodeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Sidecar, Self::Host, Self::Gateway];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Host => "host",
            Self::Gateway => "gateway",
        }
    }
}

impl std::fmt::Display for NodeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for NodeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no kind of Envoy: say sidecar, host or gateway"))
    }
}

/// One Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What tells it from all others.
    pub id: String,
    /// What sort.
    pub kind: NodeKind,
    /// Whose requests it carries.
    pub service: ServiceName,
    /// Its region.
    pub region: RegionName,
    /// Its zone.
    pub zone: Option<String>,
    /// Where its listener listens.
    pub listen: SocketAddr,
    /// Where the filter's Wasm file lies on its machine.
    pub filter: String,
    /// What it wants to have before the first request.
    pub uses: Vec<String>,
    /// Whether it wants every service before the first request.
    pub eager: bool,
}

impl Node {
    /// The id of its certificate.
    #[must_use]
    pub fn identity(&self, trust_domain: &str) -> SpiffeId {
        match self.kind {
            NodeKind::Sidecar | NodeKind::Host => {
                SpiffeId::service(trust_domain, &self.region, &self.service)
            }
            NodeKind::Gateway => SpiffeId::gateway(trust_domain, &self.region),
        }
    }

    /// Reads the metadata.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(node: &EnvoyNode) -> Result<Self, String> {
        let fields = metadata(node)
            .ok_or("node metadata has no `isthmus`: make the bootstrap with `ems bootstrap`")?;
        let mut errors = Vec::new();
        let parsed = (
            required(fields, "kind", &mut errors, |t| t.parse::<NodeKind>()),
            required(fields, "service", &mut errors, |t| t.parse::<ServiceName>()),
            required(fields, "region", &mut errors, |t| t.parse::<RegionName>()),
            required(fields, "listen", &mut errors, |t| t.parse::<SocketAddr>()),
            required(fields, "filter", &mut errors, |t| match t {
                "" => Err("is empty"),
                path => Ok(path.to_owned()),
            }),
        );
        let uses = uses(fields, &mut errors);
        let zone = node.locality.as_ref().map(|at| at.zone.clone());
        if let Some(zone) = &zone
            && let Err(error) = short(zone, TEXT_BYTES)
        {
            errors.push(format!("locality.zone: {error}"));
        }
        if let Err(error) = short(&node.id, TEXT_BYTES) {
            errors.push(format!("id: {error}"));
        }
        match parsed {
            (Some(kind), Some(service), Some(region), Some(listen), Some(filter))
                if errors.is_empty() =>
            {
                Ok(Self {
                    id: node.id.clone(),
                    kind,
                    service,
                    region,
                    zone: zone.filter(|zone| !zone.is_empty()),
                    listen,
                    filter,
                    uses,
                    eager: matches!(
                        fields.fields.get("eager").and_then(|v| v.kind.as_ref()),
                        Some(Kind::BoolValue(true))
                    ),
                })
            }
            _ => Err(format!("node metadata: {}", errors.join("; "))),
        }
    }
}

/// The list of texts `uses`, if there is one.
fn uses(fields: &Struct, errors: &mut Vec<String>) -> Vec<String> {
    let list = match fields.fields.get("uses").and_then(|v| v.kind.as_ref()) {
        None => return Vec::new(),
        Some(Kind::ListValue(list)) => &list.values,
        Some(_) => {
            errors.push("isthmus.uses must be a list of texts".to_owned());
            return Vec::new();
        }
    };
    if list.len() > USES {
        let found = list.len();
        errors.push(format!(
            "isthmus.uses has {found} entries; at most {USES} are allowed: the others are fetched when they are needed"
        ));
        return Vec::new();
    }
    let texts = list.iter().filter_map(|value| match &value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    });
    // The first is enough: all of them would be an answer as long as the list.
    let too_long = |text: &String| short(text, USE_BYTES).err();
    if let Some(error) = texts.clone().find_map(too_long) {
        errors.push(format!("isthmus.uses: an entry {error}"));
        return Vec::new();
    }
    texts.cloned().collect()
}

/// Refuses a text that is longer than what is kept of one.
fn short(text: &str, limit: usize) -> Result<&str, String> {
    if text.len() > limit {
        let found = text.len();
        return Err(format!("has {found} bytes; at most {limit} are allowed"));
    }
    Ok(text)
}

/// The destination that an entry of `uses` means: `ledger.us` where `us` is known as a region (or `any`), else the
/// service of that name in the local region.
pub(super) fn used_destination(
    entry: &str,
    local: &RegionName,
    is_region: impl Fn(&RegionName) -> bool,
) -> Option<ClusterName> {
    if let Ok(name) = ClusterName::parse(entry)
        && name.region.as_ref().is_none_or(is_region)
    {
        return Some(name);
    }
    Some(ClusterName {
        service: entry.parse().ok()?,
        version: None,
        region: Some(local.clone()),
    })
}

/// What `ems bootstrap` puts into a node.
pub(super) fn metadata(node: &EnvoyNode) -> Option<&Struct> {
    match node
        .metadata
        .as_ref()?
        .fields
        .get("isthmus")?
        .kind
        .as_ref()?
    {
        Kind::StructValue(fields) => Some(fields),
        _ => None,
    }
}

/// A text field, if it is one.
pub(super) fn text<'a>(fields: &'a Struct, key: &str) -> Option<&'a str> {
    match fields.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

/// A text field; what is wrong with it goes to `errors`.
pub(super) fn required<T, E: std::fmt::Display>(
    fields: &Struct,
    key: &str,
    errors: &mut Vec<String>,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    match fields.fields.get(key).and_then(|v| v.kind.as_ref()) {
        // The length first: what is wrong with a text may be said in its own words.
        Some(Kind::StringValue(text)) => short(text, TEXT_BYTES)
            .and_then(|text| read(text).map_err(|e| e.to_string()))
            .map_err(|e| errors.push(format!("isthmus.{key}: {e}")))
            .ok(),
        Some(_) => {
            errors.push(format!("isthmus.{key} must be a text"));
            None
        }
        None => {
            errors.push(format!("isthmus.{key} is missing"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
