//! Every connected node and what it has, for people who look.
//!
//! Nothing is recorded twice: the state of a node's resources is that of its streams, read when somebody asks. What a node
//! is for, its view knows.
//!
//! Ten thousand nodes may have ten million resources: of so many, the list has numbers and what was rejected. Looking takes
//! its time all the same, so not where others wait.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use envoy_types::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};

use super::{
    Labels,
    hub::StreamId,
    limits::{Limits, Refusal},
    stream::{Mode, State, Status, Stream},
};

/// Resources of all nodes together of which the list has each.
const ROWS: usize = 10_000;
/// Of more than these, it has the rejected ones: so many of them,
const REJECTED_ROWS: usize = 1_000;
/// and of one node so many.
const REJECTED_ROWS_OF_NODE: usize = 20;

/// The connected nodes.
#[derive(Debug, Default)]
pub struct Nodes(Mutex<Connected>);

#[derive(Debug, Default)]
struct Connected {
    sessions: HashMap<StreamId, Arc<Session>>,
    /// Streams by the id of their node.
    streams: HashMap<String, usize>,
}

/// A connected node, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// The program that it is, and of which version.
    pub user_agent: String,
    /// What its [view](super::View::labels) says of it.
    pub labels: Labels,
    /// Since when, counted from the beginning of 1970 (UTC).
    pub connected_at: Duration,
    /// What it asked for or was sent, sorted by type and name; in a long [list](Nodes::list), only some of what it rejected.
    pub resources: Vec<Status>,
    /// How much of it there is, also of what is left out.
    pub counts: Counts,
    /// How often it rejected something.
    pub rejections: u64,
}

/// Numbers of resources by their [state](State).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent and not answered yet.
    pub sent: u64,
    /// Taken.
    pub acked: u64,
    /// Refused.
    pub rejected: u64,
    /// Asked for, and not there.
    pub absent: u64,
}

impl Counts {
    fn add(&mut self, state: State) {
        match state {
            State::Waiting => {}
            State::Sent => self.sent += 1,
            State::Acked => self.acked += 1,
            State::Rejected => self.rejected += 1,
            State::Absent => self.absent += 1,
        }
    }
}

/// One stream of a node.
#[derive(Debug)]
pub struct Session {
    node: Known,
    rejections: AtomicU64,
    pub(super) stream: Mutex<Stream>,
}

impl Session {
    /// A stream that a node opened: see [`identify`].
    pub fn new(node: Known, stream: Stream) -> Self {
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

    /// Every node by its id; the streams of one node count as one. Of many resources, only some that were rejected.
    pub fn list(&self) -> Vec<Known> {
        let sessions = self.sessions(|_| true);
        let total: usize = sessions
            .iter()
            .map(|session| session.stream().status().count())
            .sum();
        let (mut room, of_node) = match total <= ROWS {
            true => (ROWS, ROWS),
            false => (REJECTED_ROWS, REJECTED_ROWS_OF_NODE),
        };
        gather(&sessions, |node, status| {
            let wanted = total <= ROWS || status.state == State::Rejected;
            let fits = wanted && room > 0 && node.resources.len() < of_node;
            room -= usize::from(fits);
            fits
        })
    }

    /// The node of this id, with all of its resources.
    pub fn get(&self, id: &str) -> Option<Known> {
        let sessions = self.sessions(|node| node.id == id);
        gather(&sessions, |_, _| true).pop()
    }

    fn sessions(&self, wanted: impl Fn(&Known) -> bool) -> Vec<Arc<Session>> {
        let connected = self.lock();
        let sessions = connected.sessions.values();
        let sessions = sessions.filter(|session| wanted(&session.node));
        sessions.cloned().collect()
    }
}

/// The nodes of these streams, with those resources that are to be kept.
fn gather(sessions: &[Arc<Session>], mut keep: impl FnMut(&Known, &Status) -> bool) -> Vec<Known> {
    let mut nodes: BTreeMap<&str, Known> = BTreeMap::new();
    for session in sessions {
        let node = nodes
            .entry(session.node_id())
            .or_insert_with(|| session.node.clone());
        for status in session.stream().status() {
            node.counts.add(status.state);
            if keep(node, &status) {
                node.resources.push(status);
            }
        }
        node.rejections += session.rejections.load(Relaxed);
        node.connected_at = node.connected_at.min(session.node.connected_at);
    }
    let mut nodes: Vec<_> = nodes.into_values().collect();
    for node in &mut nodes {
        node.resources
            .sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    }
    nodes
}

/// What a node says of itself that any node may say, and when it came, counted from the beginning of 1970 (UTC).
///
/// # Errors
/// A text is longer than what is kept of a node.
pub fn identify(node: &Node, at: Duration, limits: &Limits) -> Result<Known, Refusal> {
    let known = Known {
        id: node.id.clone(),
        user_agent: user_agent(node),
        labels: Labels::new(),
        connected_at: at,
        resources: Vec::new(),
        counts: Counts::default(),
        rejections: 0,
    };
    limits.check_node("id", &known.id)?;
    limits.check_node("user agent", &known.user_agent)?;
    Ok(known)
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
