//! Every connected node and what it has, for people who look.
//!
//! Nothing is recorded twice: the state of a node's resources is that of its streams, read when somebody asks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use envoy_types::pb::{
    envoy::config::core::v3::{Node, node::UserAgentVersionType},
    google::protobuf::{Struct, value::Kind},
};
use isthmus_proto::v1::{self, node_resource};

use super::{
    hub::StreamId,
    limits::{Limits, Refusal},
    stream::{Mode, State, Status, Stream},
};

/// The connected nodes.
#[derive(Debug, Default)]
pub struct Nodes(Mutex<Connected>);

#[derive(Debug, Default)]
struct Connected {
    sessions: HashMap<StreamId, Arc<Session>>,
    /// Streams by the id of their node.
    streams: HashMap<String, usize>,
}

/// One stream of a node.
#[derive(Debug)]
pub struct Session {
    node: v1::Node,
    rejections: AtomicU64,
    pub(super) stream: Mutex<Stream>,
}

impl Session {
    /// A stream that a node opened: see [`identify`].
    pub fn new(node: v1::Node, stream: Stream) -> Self {
        Self {
            node,
            rejections: AtomicU64::new(0),
            stream: Mutex::new(stream),
        }
    }

    /// The node's id.
    pub fn node_id(&self) -> &str {
        &self.node.id
    }

    pub(super) fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rejected(&self) {
        self.rejections.fetch_add(1, Relaxed);
    }
}

impl Nodes {
    /// Takes up a stream, unless its node has `limit` already.
    pub(super) fn insert(&self, id: StreamId, session: Arc<Session>, limit: usize) -> bool {
        let mut connected = self.lock();
        let of_node = connected.streams.get(session.node_id()).copied();
        let of_node = of_node.unwrap_or_default();
        if of_node >= limit {
            return false;
        }
        let node = session.node_id().to_owned();
        connected.streams.insert(node, of_node + 1);
        connected.sessions.insert(id, session);
        true
    }

    pub(super) fn remove(&self, id: StreamId) {
        let mut connected = self.lock();
        let Some(session) = connected.sessions.remove(&id) else {
            return;
        };
        if let Some(of_node) = connected.streams.get_mut(session.node_id()) {
            *of_node -= 1;
            if *of_node == 0 {
                connected.streams.remove(session.node_id());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every node by its id; the streams of one node count as one.
    pub fn list(&self) -> Vec<v1::Node> {
        let sessions: Vec<_> = {
            let connected = self.lock();
            connected.sessions.values().cloned().collect()
        };
        let mut nodes: BTreeMap<String, v1::Node> = BTreeMap::new();
        for session in sessions {
            let resources = {
                let stream = session.stream();
                stream.status().filter_map(describe).collect::<Vec<_>>()
            };
            let node = nodes
                .entry(session.node.id.clone())
                .or_insert_with(|| session.node.clone());
            node.resources.extend(resources);
            node.rejections += session.rejections.load(Relaxed);
            let since = |node: &v1::Node| node.connected_at.map(|at| (at.seconds, at.nanos));
            if since(&session.node) < since(node) {
                node.connected_at = session.node.connected_at;
            }
        }
        let mut nodes: Vec<_> = nodes.into_values().collect();
        for node in &mut nodes {
            node.resources
                .sort_by(|a, b| (&a.type_url, &a.name).cmp(&(&b.type_url, &b.name)));
        }
        nodes
    }
}

fn describe(status: Status) -> Option<v1::NodeResource> {
    let state = match status.state {
        State::Waiting => return None,
        State::Sent => node_resource::State::Sent,
        State::Acked => node_resource::State::Acked,
        State::Rejected => node_resource::State::Rejected,
        State::Absent => node_resource::State::Absent,
    };
    Some(v1::NodeResource {
        type_url: status.kind.type_url().to_owned(),
        name: (*status.name).to_owned(),
        version: status.version.as_deref().unwrap_or_default().to_owned(),
        state: state.into(),
        error: status.error.as_deref().unwrap_or_default().to_owned(),
    })
}

/// What a node says of itself, as far as it can be told; kind, service and region are in what `ems bootstrap` puts
/// into its metadata.
///
/// # Errors
/// A text is longer than what is kept of a node.
pub fn identify(node: &Node, at: SystemTime, limits: &Limits) -> Result<v1::Node, Refusal> {
    let mesh = node
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.fields.get("isthmus"))
        .and_then(|value| match &value.kind {
            Some(Kind::StructValue(mesh)) => Some(mesh),
            _ => None,
        });
    let text = |field| mesh.map(|mesh| text(mesh, field)).unwrap_or_default();
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let node = v1::Node {
        id: node.id.clone(),
        kind: text("kind"),
        service: text("service"),
        region: text("region"),
        user_agent: user_agent(node),
        connected_at: Some(prost_types::Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or_default(),
            nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
        }),
        resources: Vec::new(),
        rejections: 0,
    };
    for (what, text) in [
        ("id", &node.id),
        ("user agent", &node.user_agent),
        ("kind", &node.kind),
        ("service", &node.service),
        ("region", &node.region),
    ] {
        limits.check_node(what, text)?;
    }
    Ok(node)
}

/// Whether a node takes resources with a TTL. Envoy does since 1.17 and says so nowhere; others name the feature. In the
/// state of the world it takes another one, for the TTL is in a wrapper.
pub(super) fn knows_ttl(node: &Node, mode: Mode) -> bool {
    let has = |feature| node.client_features.iter().any(|known| known == feature);
    let unwraps = mode == Mode::Delta
        || has("xds.config.resource-in-sotw")
        || has("xds.config.supports-resource-in-sotw");
    node.user_agent_name == "envoy" || (has("xds.config.supports-resource-ttl") && unwraps)
}

fn text(mesh: &Struct, field: &str) -> String {
    match mesh.fields.get(field).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

fn user_agent(node: &Node) -> String {
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .as_ref()
            .map(|v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch))
            .unwrap_or_default(),
        None => String::new(),
    };
    match (&*node.user_agent_name, &*version) {
        (name, "") => name.to_owned(),
        (name, version) => format!("{name}/{version}"),
    }
}

#[cfg(test)]
mod tests;
