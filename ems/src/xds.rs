//! xDS serving: a protocol engine that knows type URLs, names, versions and bytes, and nothing of services.
//!
//! What a node may see reaches it through [`Source`] and [`View`]; what changed reaches it as [`Changed`].

mod bundle;
pub mod counters;
mod drain;
mod fate;
pub mod hub;
pub mod limits;
pub mod memory;
pub mod nodes;
pub mod request;
pub mod server;
pub mod stream;
mod subscription;
mod ttl;
pub mod wire;

use std::{fmt, sync::Arc};

pub use bundle::{Bundle, Bundles};
use bytes::{BufMut, Bytes, BytesMut};
use fate::Fate;
pub use fate::Witness;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// The xDS resource types that are served, in the order in which changes are pushed on an aggregated stream: what is
/// pointed at goes before what points at it (make before break), but for routes, which follow the listeners that point
/// at them. Removals have an order of their own: see [`ResourceType::outlives`].
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

impl ResourceType {
    /// Every type, in the order of pushes.
    pub const ALL: [Self; 6] = [
        Self::Secret,
        Self::Cluster,
        Self::Endpoints,
        Self::ExtensionConfig,
        Self::Listener,
        Self::Route,
    ];

    /// The type URL of its resources and of the requests for them.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::ExtensionConfig => {
                "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
            }
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// A word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::ExtensionConfig => "extension_config",
            Self::Listener => "listener",
            Self::Route => "route",
        }
    }

    /// Whether a removal of this type waits until changes of another are through, because what is there until then may
    /// point at what is removed. Removals go in the reverse order of pushes, but listeners go before routes both times.
    pub(crate) fn outlives(self, other: Self) -> bool {
        match (self, other) {
            (Self::Listener, Self::Route) => false,
            (Self::Route, Self::Listener) => true,
            _ => self < other,
        }
    }

    /// The type of this URL, where it is one that is served.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One resource, encoded once as it goes over the wire and shared by every stream.
///
/// A delta response carries a `Resource` message around the `Any`, a state-of-the-world response the bare `Any`; both
/// have field number 2. With the `Any` last in the `Resource` message, one buffer serves both: the second form is the
/// end of the first.
///
/// All streams read it while others take hold of it or let go: so that reading does not wait for the counting, what is
/// read lies in another line of the processor's cache than the count of an [`Arc`].
#[repr(align(64))]
pub struct Resource {
    name: Arc<str>,
    version: Arc<str>,
    wire: Bytes,
    any_at: usize,
    body_at: usize,
    /// Only of one that expires.
    expiry: Option<Box<ttl::Expiry>>,
    /// Of name and version.
    digest: u64,
    fate: Fate,
}

impl Resource {
    /// A resource whose version is a hash of its content, so that EMS replicas agree and a reconnect re-sends only
    /// what differs. `body` is the encoded message.
    pub fn new(kind: ResourceType, name: impl Into<Arc<str>>, body: &[u8]) -> Self {
        let version = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(body));
        Self::with_version(kind, name, version, body)
    }

    /// A resource whose version somebody else decided. It must differ whenever the content does.
    pub fn with_version(
        kind: ResourceType,
        name: impl Into<Arc<str>>,
        version: impl Into<Arc<str>>,
        body: &[u8],
    ) -> Self {
        let (name, version) = (name.into(), version.into());
        let url = kind.type_url();
        let digest = digest(&name, &version);
        let any_len = field_len(url.len()) + field_len(body.len());
        let mut wire = put_envelope(&name, &version, None, field_len(any_len));
        let any_at = wire.len();
        put_header(&mut wire, 2, any_len);
        put_field(&mut wire, 1, url.as_bytes());
        put_header(&mut wire, 2, body.len());
        let body_at = wire.len();
        wire.put_slice(body);
        Self {
            name,
            version,
            wire: wire.freeze(),
            any_at,
            body_at,
            expiry: None,
            digest,
            fate: Fate::default(),
        }
    }

    /// Its name, unique within its type for one view.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// A resource of which only the version is known: what a client says it has from before.
    pub(crate) fn remembered(name: Arc<str>, version: Arc<str>) -> Self {
        let digest = digest(&name, &version);
        Self {
            name,
            version,
            wire: Bytes::new(),
            any_at: 0,
            body_at: 0,
            expiry: None,
            digest,
            fate: Fate::default(),
        }
    }

    /// What clients said of it.
    pub(crate) fn fate(&self) -> &Fate {
        &self.fate
    }

    /// Bytes of the whole as an entry of a response.
    pub(crate) fn entry_len(&self, mode: stream::Mode) -> usize {
        match (mode, &self.expiry) {
            (stream::Mode::Delta, _) => self.wire.len(),
            (stream::Mode::Sotw, None) => self.wire.len() - self.any_at,
            (stream::Mode::Sotw, Some(expiry)) => expiry.sotw_entry.len(),
        }
    }

    /// The whole as a `resources` entry of a response.
    pub(crate) fn entry(&self, mode: stream::Mode) -> Bytes {
        match (mode, &self.expiry) {
            (stream::Mode::Delta, _) => self.wire.clone(),
            (stream::Mode::Sotw, Some(expiry)) => expiry.sotw_entry.clone(),
            (stream::Mode::Sotw, None) => self.wire.slice(self.any_at..),
        }
    }

    /// The encoded message (the `value` of a `google.protobuf.Any`).
    pub fn body(&self) -> Bytes {
        self.wire.slice(self.body_at..)
    }
}

/// The same content under the same name, whatever was said of it.
impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.version, &self.wire) == (&other.name, &other.version, &other.wire)
    }
}

impl Eq for Resource {}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_heartbeat() { "~" } else { "" };
        write!(f, "{mark}{}@{}", self.name, self.version)
    }
}

/// Tells names and versions apart.
fn digest(name: &str, version: &str) -> u64 {
    // The length keeps the two apart.
    let seed = name.len() as u64;
    xxhash_rust::xxh3::xxh3_64_with_seed(format!("{name}{version}").as_bytes(), seed)
}

/// A `Resource` message as an entry of `resources`, up to the `Any` of `rest` bytes that ends it.
fn put_envelope(name: &str, version: &str, ttl: Option<&[u8]>, rest: usize) -> BytesMut {
    let ttl_len = ttl.map_or(0, |ttl| field_len(ttl.len()));
    let len = field_len(version.len()) + field_len(name.len()) + ttl_len + rest;
    let mut wire = BytesMut::with_capacity(field_len(len));
    put_header(&mut wire, 2, len);
    put_field(&mut wire, 1, version.as_bytes());
    put_field(&mut wire, 3, name.as_bytes());
    if let Some(ttl) = ttl {
        put_field(&mut wire, 6, ttl);
    }
    wire
}

/// The length of a length-delimited field whose number is below 16.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn put_header(to: &mut BytesMut, number: u32, len: usize) {
    encode_key(number, WireType::LengthDelimited, to);
    encode_varint(len as u64, to);
}

fn put_field(to: &mut BytesMut, number: u32, value: &[u8]) {
    put_header(to, number, value.len());
    to.put_slice(value);
}

/// Words for what something is: which sort of word, and the word.
pub type Labels = Vec<(&'static str, String)>;

/// Everything that one node may see, now. Two calls with no [`Changed`] between give the same answers, with two
/// exceptions: the client may have [refused](Self::refused) a resource between them, or it may have become [bad](fate). That
/// wakes nobody to whom it was sent before. A client that rejects it and has no other version of it is looked at again when
/// it does so.
pub trait View: Send + Sync {
    /// The resource of this name, made on demand; `None` where no such thing exists.
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>>;

    /// The same for each of several names, in their order, where that is cheaper than one by one.
    fn get_all(&self, kind: ResourceType, names: &[&str]) -> Vec<Option<Arc<Resource>>> {
        names.iter().map(|name| self.get(kind, name)).collect()
    }

    /// The client rejected a resource. As long as that is what there is, it gets what was good before, if anything was.
    fn refused(&self, _kind: ResourceType, _resource: &Resource) {}

    /// The version that there is, where the client gets what was good before.
    fn withheld(&self, _kind: ResourceType, _name: &str) -> Option<Arc<str>> {
        None
    }

    /// The client has no more use for this name: it neither asks for it nor has it by a wildcard. It may be asked for again.
    fn unused(&self, _kind: ResourceType, _name: &str) {}

    /// The names that a wildcard subscription covers for this node.
    fn wildcard(&self, kind: ResourceType) -> Vec<Arc<str>>;

    /// All names that a wildcard subscription may ever cover, where these are few: a stream then hears of no others.
    /// `None`: there is no such list, and the stream hears of every change of the type.
    fn wildcard_within(&self, _kind: ResourceType) -> Option<Vec<Arc<str>>> {
        None
    }

    /// Whether a wildcard subscription covers this name: asked for each changed name on each wildcard stream, so
    /// worth answering faster than by a search.
    fn covers(&self, kind: ResourceType, name: &str) -> bool {
        self.wildcard(kind).iter().any(|known| &**known == name)
    }

    /// What the node is, for people who look. As long as the view's maker lets it be.
    fn labels(&self) -> Labels {
        Labels::new()
    }

    /// What `version_info` and `system_version_info` shall say; `None`: a hash of what is sent.
    fn type_version(&self, _kind: ResourceType) -> Option<Arc<str>> {
        None
    }
}

/// Gives each node its view.
pub trait Source: Send + Sync + 'static {
    /// The view of a node, from what it says of itself. An error is told to the node as `INVALID_ARGUMENT`.
    fn view(
        &self,
        node: &envoy_types::pb::envoy::config::core::v3::Node,
    ) -> Result<Arc<dyn View>, String>;

    /// A resource has become [bad](fate), or good again. Gives what views show differently from now on.
    fn ruled(&self, _kind: ResourceType, _resource: &Arc<Resource>) -> Changed {
        Changed::default()
    }
}

/// Names whose content, or existence, may differ from before, by type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Sorted, each once; one may be here although nothing differs for some node.
    names: Vec<(ResourceType, Arc<str>)>,
}

impl Changed {
    /// Of names in any order.
    pub fn of(names: impl IntoIterator<Item = (ResourceType, Arc<str>)>) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort();
        names.dedup();
        Self { names }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceType, &Arc<str>)> {
        self.names.iter().map(|(kind, name)| (*kind, name))
    }

    /// The names of one type.
    pub fn of_type(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<str>> {
        let from = self.names.partition_point(|(other, _)| *other < kind);
        let rest = self.names.get(from..).unwrap_or_default();
        let names = rest.iter().take_while(move |(other, _)| *other == kind);
        names.map(|(_, name)| name)
    }
}
