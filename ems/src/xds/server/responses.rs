//! One stream: the shell around [`Stream`].
//!
//! A stream is one HTTP body and no task: hyper asks the body for bytes when the client can take some, and the body
//! then looks at what the client sent, then at what changed. So a slow reader holds back only itself, and whatever
//! changes meanwhile merges. The bytes of resources are shared by all streams; tonic's own encoder would copy them for
//! each, which is why only its decoder is used.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::body::Body;
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use futures::Stream as _;
use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tonic::{
    Code,
    codec::{BufferSettings, DecodeBuf, Decoder, Streaming},
};

use super::{Server, load::Load};
use crate::{
    grpc,
    xds::{
        Changed, ResourceType, View, Witness,
        hub::{Inbox, News, StreamId},
        limits::Refusal,
        nodes::{self, Session, knows_ttl},
        request::Incoming,
        stream::{Action, Mode, Refused, Stream},
    },
};

/// Requests looked at before others get their turn.
const TURN: usize = 64;

/// Names of rejected resources that a line of the log has; of the others it says how many there are.
const LOGGED: usize = 10;

/// The responses of one stream.
pub(super) struct Responses {
    server: Arc<Server>,
    mode: Mode,
    only: Option<ResourceType>,
    /// Where the client is, as far as whoever serves it knows.
    peer: Option<SocketAddr>,
    id: StreamId,
    inbox: Arc<Inbox>,
    requests: Streaming<Incoming>,
    /// When the first request must have come; from then on, when something has to be refreshed.
    alarm: Pin<Box<Sleep>>,
    /// The alarm is set.
    armed: bool,
    /// Since the first request, which says who the node is.
    open: Option<Open>,
    load: Load,
    /// Something happened, so there may be something to send.
    owed: bool,
    /// Until then nothing is said: the client comes back, and has yet to say what it has.
    settling: Option<Pin<Box<Sleep>>>,
    /// Encoded, not yet taken. One response per type at most.
    out: VecDeque<Bytes>,
    end: Option<tonic::Status>,
    ended: bool,
}

struct Open {
    view: Arc<dyn View>,
    session: Arc<Session>,
}

impl http_body::Body for Responses {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        for _ in 0..TURN {
            if let Some(bytes) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(status) = this.end.take() {
                this.ended = true;
                return Poll::Ready(Some(Ok(Frame::trailers(grpc::http::trailers(&status)))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match Pin::new(&mut this.requests).poll_next(cx) {
                Poll::Ready(Some(Ok(incoming))) => {
                    this.request(incoming);
                    continue;
                }
                Poll::Ready(Some(Err(status))) => {
                    match status.code() {
                        // What it sent is too long or makes no sense.
                        Code::OutOfRange | Code::InvalidArgument => this.refuse(status),
                        _ => this.end = Some(status),
                    }
                    continue;
                }
                Poll::Ready(None) => {
                    this.settling = None;
                    this.flush();
                    this.end = Some(tonic::Status::ok(""));
                    continue;
                }
                Poll::Pending => {}
            }
            if this.rings(cx) {
                this.tick();
                continue;
            }
            this.settle(cx);
            // All that is there was heard before anything is said: what a client is sent for one request may be new to the
            // stream.
            let news = this.inbox.take(cx.waker());
            if news.is_empty() && (!this.owed || this.settling.is_some()) {
                return Poll::Pending;
            }
            this.news(&news);
            this.flush();
        }
        // A client that talks without pause: the others first.
        if this.end.is_none() && this.rings(cx) {
            this.tick();
        }
        this.settle(cx);
        let news = this.inbox.take(cx.waker());
        this.news(&news);
        this.flush();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Responses {
    /// Those to the requests of a body, of a variant and a type, for whom the hub took up.
    pub(super) fn new(
        server: Arc<Server>,
        (mode, only): (Mode, Option<ResourceType>),
        (id, inbox): (StreamId, Arc<Inbox>),
        peer: Option<SocketAddr>,
        requests: Body,
    ) -> Self {
        let max = Some(server.limits.request_bytes);
        let requests = Streaming::new_request(Requests { mode }, requests, None, max);
        Self {
            mode,
            only,
            peer,
            id,
            inbox,
            requests,
            alarm: Box::pin(sleep(server.limits.first_request)),
            server,
            armed: true,
            open: None,
            load: Load::default(),
            owed: false,
            settling: None,
            out: VecDeque::new(),
            end: None,
            ended: false,
        }
    }

    fn request(&mut self, incoming: Incoming) {
        let Incoming { node, request } = incoming;
        let Some(open) = self.open.as_ref() else {
            // "Only the first request on a stream is guaranteed to carry the node identifier."
            match self.identify(node.unwrap_or_default()) {
                Ok(open) => {
                    self.open = Some(open);
                    if self.only.is_none() && request.returns() {
                        self.settling = Some(Box::pin(sleep(self.server.limits.settle)));
                    }
                    self.request(Incoming {
                        node: None,
                        request,
                    });
                }
                Err(status) => self.refuse(status),
            }
            return;
        };
        let (view, session) = (open.view.clone(), open.session.clone());
        let mut stream = session.stream();
        let before = self.server.hub.epoch();
        let kind = ResourceType::from_type_url(&request.type_url);
        let (actions, refusal) = match stream.on_request(request, &*view) {
            Ok(actions) => {
                let fits = self.load.check(&actions, &stream, &self.server.limits);
                (actions, fits.err())
            }
            Err(Refused { why, done }) => (done, Some(why)),
        };
        if let Some(why) = refusal {
            stream.hush(kind);
            drop(stream);
            // The stream no longer knows what it gave up: the index has to hear of it now or never.
            self.server.hub.follow(self.id, &actions);
            self.act(&session, actions);
            return self.refuse(status_of(&why));
        }
        let mut missed = Vec::new();
        let mut missed_any = false;
        for action in &actions {
            match action {
                Action::Follow(kind, name) => missed.push((*kind, name.clone())),
                Action::FollowAll(_) => missed_any = true,
                _ => {}
            }
        }
        let follows = actions.iter().any(|action| {
            matches!(
                action,
                Action::Follow(..)
                    | Action::Unfollow(..)
                    | Action::FollowAll(_)
                    | Action::UnfollowAll(_)
            )
        });
        // What changed between being read and being followed would otherwise be lost.
        if follows && self.server.hub.follow(self.id, &actions) != before {
            if missed_any {
                stream.on_doubt();
            } else {
                stream.on_change(&Changed::of(missed));
            }
        }
        drop(stream);
        self.owed = true;
        self.act(&session, actions);
    }

    fn tick(&mut self) {
        let Some(open) = &self.open else {
            let within = self.server.limits.first_request;
            return self.refuse(tonic::Status::deadline_exceeded(format!(
                "no request came within {within:?}"
            )));
        };
        open.session.stream().on_tick(self.server.now());
        self.owed = true;
    }

    fn news(&mut self, news: &News) {
        if news.closing {
            self.end = Some(tonic::Status::unavailable(
                "this server is shutting down, reconnect",
            ));
            return;
        }
        let Some(open) = &self.open else { return };
        let mut stream = open.session.stream();
        if news.missed {
            stream.on_doubt();
        }
        for changed in &news.changes {
            stream.on_change(changed);
        }
        self.owed |= !news.is_empty();
    }

    /// The alarm goes off, once.
    fn rings(&mut self, cx: &mut Context<'_>) -> bool {
        let rings = self.armed && self.alarm.as_mut().poll(cx).is_ready();
        self.armed &= !rings;
        rings
    }

    /// Looks whether the client had its time.
    fn settle(&mut self, cx: &mut Context<'_>) {
        let settling = self.settling.as_mut();
        if settling.is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
            self.settling = None;
        }
    }

    fn flush(&mut self) {
        if self.settling.is_some() {
            return;
        }
        let owed = std::mem::take(&mut self.owed);
        if let Some(open) = self.open.as_ref().filter(|_| owed) {
            let (view, session) = (open.view.clone(), open.session.clone());
            let actions = session.stream().flush(&*view);
            self.act(&session, actions);
        }
    }

    fn identify(&self, node: Node) -> Result<Open, tonic::Status> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut known = nodes::identify(&node, now.unwrap_or_default(), &self.server.limits)
            .map_err(|refusal| status_of(&refusal))?;
        let view = self
            .server
            .source
            .view(&node)
            .map_err(tonic::Status::invalid_argument)?;
        known.labels = view.labels();
        let stream = Stream::new(self.mode, self.only, self.server.limits.clone())
            .with_ttl(knows_ttl(&node, self.mode))
            .of(Witness::of(&node.id))
            .with_bundles(self.server.bundles.clone());
        let session = Arc::new(Session::new(known, stream));
        let limit = self.server.limits.streams_per_node;
        if !self.server.nodes.insert(self.id, session.clone(), limit) {
            return Err(tonic::Status::resource_exhausted(format!(
                "node {:?} has {limit} streams already; give each client a node id of its own",
                node.id
            )));
        }
        tracing::debug!(node = node.id, stream = self.id, "stream opened");
        Ok(Open { view, session })
    }

    fn act(&mut self, session: &Session, actions: Vec<Action>) {
        let counters = &self.server.counters;
        for action in actions {
            match action {
                Action::Send(response) => {
                    let (head, rest) = self.server.encoder.encode(&response);
                    if let Some(kind) = ResourceType::from_type_url(&response.type_url) {
                        let bytes = head.len() + rest.as_ref().map_or(0, Bytes::len);
                        let resources = response.resources.len() + response.removed.len();
                        counters.sent(kind, resources, bytes);
                    }
                    self.out.push_back(head);
                    self.out.extend(rest);
                }
                Action::Acked { kind } => counters.acked(kind),
                Action::Rejected {
                    kind,
                    names,
                    fresh,
                    error,
                } => {
                    counters.rejected(kind);
                    session.rejected();
                    let node = session.node_id();
                    let (names, more) = names.split_at(names.len().min(LOGGED));
                    let more = more.len();
                    // A client may repeat itself as often as it likes: the log has each rejected version once.
                    if fresh {
                        tracing::warn!(node, %kind, ?names, more, %error, "a node rejected resources");
                    } else {
                        tracing::debug!(node, %kind, ?names, more, %error, "a node rejected resources again");
                    }
                }
                Action::Ruled(kind, resource) => {
                    self.server
                        .publish(self.server.source.ruled(kind, &resource));
                }
                Action::Follow(..)
                | Action::Unfollow(..)
                | Action::FollowAll(_)
                | Action::UnfollowAll(_) => {}
            }
        }
        let now = self.server.now();
        let wake_at = session.stream().wake_at(now);
        // What is too far away to be a time does not come.
        let wake_at = wake_at.and_then(|at| self.server.started.checked_add(at));
        self.armed = wake_at.is_some();
        if let Some(at) = wake_at {
            self.alarm.as_mut().reset(at);
        }
    }

    fn refuse(&mut self, status: tonic::Status) {
        // What was asked for before it is answered.
        self.settling = None;
        self.flush();
        self.server.counters.refuse();
        let node = self.open.as_ref().map(|open| open.session.node_id());
        tracing::warn!(
            stream = self.id,
            node,
            peer = self.peer.map(tracing::field::display),
            reason = status.message(),
            "stream refused"
        );
        self.end = Some(status);
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        let followed: Vec<_> = match &self.open {
            Some(open) => {
                let stream = open.session.stream();
                stream.followed().collect()
            }
            None => Vec::new(),
        };
        self.server.nodes.remove(self.id);
        self.server.hub.leave(self.id, followed.into_iter());
    }
}

fn status_of(refusal: &Refusal) -> tonic::Status {
    let code = match refusal {
        Refusal::TooManyNames { .. } | Refusal::NamesTooLong { .. } => Code::ResourceExhausted,
        Refusal::NameTooLong { .. }
        | Refusal::NodeTooLong { .. }
        | Refusal::MissingType
        | Refusal::WrongType { .. } => Code::InvalidArgument,
    };
    tonic::Status::new(code, refusal.to_string())
}

/// Decodes the requests of either variant.
struct Requests {
    mode: Mode,
}

impl Decoder for Requests {
    type Item = Incoming;
    type Error = tonic::Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Incoming>, tonic::Status> {
        let incoming = Incoming::decode(self.mode, bytes);
        let malformed = |e| tonic::Status::invalid_argument(format!("malformed request: {e}"));
        incoming.map(Some).map_err(malformed)
    }

    fn buffer_settings(&self) -> BufferSettings {
        // Most requests are ACKs of some dozen bytes; the buffer grows for those that are not.
        BufferSettings::new(1_024, 8_192)
    }
}
