//! xDS serving: a protocol engine that knows type URLs, names, versions and bytes, and nothing of services.
//!
//! What a node may see reaches it through [`Source`] and [`View`]; what changed reaches it as [`Changed`].

use std::sync::Arc;

use bytes::Bytes;

/// The xDS resource types that are served, in the order in which changes are pushed on an aggregated stream: what is
/// pointed at goes before what points at it (make before break). Removals go in reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// Secrets (SDS).
    Secret,
    /// Clusters (CDS).
    Cluster,
    /// Endpoints (EDS).
    Endpoints,
    /// Filter configs (ECDS).
    ExtensionConfig,
    /// Listeners (LDS).
    Listener,
    /// Routes (RDS).
    Route,
}

/// One resource as it goes over the wire. Encoded once, shared by every stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name, unique within its type for one view.
    pub name: Arc<str>,
    /// A hash of the content, so that EMS replicas agree and a reconnect re-sends only what differs.
    pub version: Arc<str>,
    /// The encoded message (the `value` of a `google.protobuf.Any`).
    pub body: Bytes,
}

/// Everything that one node may see, now. Two calls with no [`Changed`] between give the same answers.
pub trait View: Send + Sync {
    /// The resource of this name, made on demand; `None` where no such thing exists.
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>>;
    /// The names that a wildcard subscription covers for this node.
    fn wildcard(&self, kind: ResourceType) -> Vec<Arc<str>>;
}

/// Gives each node its view.
pub trait Source: Send + Sync + 'static {
    /// The view of a node, from what it says of itself. An error is told to the node as `INVALID_ARGUMENT`.
    fn view(
        &self,
        node: &envoy_types::pb::envoy::config::core::v3::Node,
    ) -> Result<Arc<dyn View>, String>;
}

/// Names whose content, or existence, may differ from before, by type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Pairs without order; a pair may be here although nothing differs for some node.
    pub names: Vec<(ResourceType, Arc<str>)>,
}
