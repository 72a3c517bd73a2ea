//! What goes into a stream and what comes out of it, and what can be said of where it stands.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use crate::xds::{Bundle, Resource, ResourceType, limits::Refusal};

/// The protocol variant of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Incremental xDS.
    Delta,
    /// State of the world.
    Sotw,
}

/// A request, whichever variant it is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// As sent; may be empty on a stream of one type.
    pub type_url: String,
    /// Of the response that is answered; empty: none.
    pub nonce: String,
    /// What the client says when it rejects that response.
    pub error: Option<String>,
    /// What it subscribes to.
    pub ask: Ask,
}

impl Request {
    /// Whether the client says what it has from an earlier stream.
    pub fn returns(&self) -> bool {
        matches!(&self.ask, Ask::Delta { initial, .. } if !initial.is_empty())
    }
}

/// The subscription part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Changes of the subscription.
    Delta {
        /// Names from now on.
        subscribe: Vec<String>,
        /// Names no longer.
        unsubscribe: Vec<String>,
        /// What the client has from an earlier stream, name to version. Only looked at in the first request of a type.
        initial: HashMap<String, String>,
    },
    /// The whole subscription.
    Sotw {
        /// All names.
        names: Vec<String>,
        /// What the client has.
        version: String,
    },
}

impl Default for Ask {
    fn default() -> Self {
        Self::Delta {
            subscribe: Vec::new(),
            unsubscribe: Vec::new(),
            initial: HashMap::new(),
        }
    }
}

/// What has to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A response goes to the client.
    Send(Response),
    /// The client took a response.
    Acked {
        /// Of this type.
        kind: ResourceType,
    },
    /// The client rejected a response.
    Rejected {
        /// Of this type.
        kind: ResourceType,
        /// The resources at fault, as far as the text names them; else all that may be: what was new to the
        /// client or, where nothing was, what is gone.
        names: Vec<Arc<str>>,
        /// One of these is rejected in this version for the first time; else nothing is known now that was not before.
        fresh: bool,
        /// The client's words.
        error: Arc<str>,
    },
    /// By what this client said, and others did not say, a resource has become bad, or good again.
    Ruled(ResourceType, Arc<Resource>),
    /// The stream is to be told when this name changes.
    Follow(ResourceType, Arc<str>),
    /// No longer.
    Unfollow(ResourceType, Arc<str>),
    /// The stream is to be told of every change of this type.
    FollowAll(ResourceType),
    /// No longer, but for the names that it follows.
    UnfollowAll(ResourceType),
}

/// A request that ends its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// What it made necessary until then: it may have been a verdict, and have given names up, before it went too far.
    pub done: Vec<Action>,
}

/// A response, not yet encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The protocol variant that it is for.
    pub mode: Mode,
    /// Its type.
    pub type_url: Cow<'static, str>,
    /// `version_info` or `system_version_info`.
    pub version: Arc<str>,
    /// Its number on the stream.
    pub nonce: u64,
    /// Sorted by name.
    pub resources: Arc<Bundle>,
    /// Sorted; always empty in state of the world.
    pub removed: Arc<[Arc<str>]>,
}

/// How far the client is with a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It asked; nothing was said yet.
    #[default]
    Waiting,
    /// Sent, no answer yet.
    Sent,
    /// It took it.
    Acked,
    /// It rejected it, or that it is gone.
    Rejected,
    /// It was told that no such thing exists.
    Absent,
}

/// One resource as the client has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its type.
    pub kind: ResourceType,
    /// Its name.
    pub name: Arc<str>,
    /// The version sent last.
    pub version: Option<Arc<str>>,
    /// How far the client is with it.
    pub state: State,
    /// Its words when it rejected it.
    pub error: Option<Arc<str>>,
}
