//! Resources that clients forget by themselves unless they are told to keep them: what to send and when.
//!
//! In a delta stream the name, the version and the TTL go again, without the content. In the state of the world the
//! content goes with them: that refreshes a TTL too, while Envoy (1.40) takes a heartbeat and lets the TTL run out all
//! the same. What becomes of a resource that expires is the client's business. Envoy removes clusters and listeners; it
//! keeps endpoints.
//!
//! Pure: the time is an argument, counted from wherever the caller likes. When a response was sent is only known once
//! somebody says what time it is, so what was sent waits in a list for that.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::{Resource, digest, fate::Fate, field_len, put_envelope, put_field, put_header};

/// The type URL of a resource that is wrapped to carry its TTL.
const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// A TTL is refreshed this many times before it would run out.
const BEATS: u32 = 3;

/// Not more often than this, however short a TTL is.
const SHORTEST: Duration = Duration::from_millis(100);

/// The other forms of a resource that expires.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Expiry {
    ttl: Duration,
    pub(super) sotw_entry: Bytes,
    heartbeat: Arc<Resource>,
    endless: Arc<Resource>,
}

impl Resource {
    /// The same resource, to be forgotten by a client that hears nothing of it for this long. A client that knows of no
    /// TTLs gets it without.
    ///
    /// Its version says the TTL too, because a client that has the same content with another TTL has to be told.
    #[must_use]
    pub fn expiring(self, ttl: Duration) -> Self {
        let version: Arc<str> = format!("{}+{}s", self.version, ttl.as_secs_f64()).into();
        let encoded = prost_types::Duration {
            seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(ttl.subsec_nanos()).unwrap_or_default(),
        }
        .encode_to_vec();
        let any = self.wire.slice(self.any_at..);
        let body_in_any = self.body_at - self.any_at;
        let form = |ttl: Option<&[u8]>, any: &[u8], expiry| {
            let mut wire = put_envelope(&self.name, &version, ttl, any.len());
            let any_at = wire.len();
            wire.extend_from_slice(any);
            Self {
                name: self.name.clone(),
                version: version.clone(),
                any_at,
                body_at: (any_at + body_in_any).min(wire.len()),
                wire: wire.freeze(),
                expiry,
                digest: digest(&self.name, &version),
                fate: Fate::default(),
            }
        };
        let whole = form(Some(&encoded), &any, None);
        // The entry of a delta response without its key and length.
        let fields = [version.len(), self.name.len(), encoded.len()];
        let len: usize = fields.into_iter().map(field_len).sum::<usize>() + any.len();
        let message = whole.wire.slice(whole.wire.len() - len..);
        let mut sotw = BytesMut::new();
        let len = field_len(WRAPPER.len()) + field_len(message.len());
        put_header(&mut sotw, 2, len);
        put_field(&mut sotw, 1, WRAPPER.as_bytes());
        put_field(&mut sotw, 2, &message);
        let expiry = Expiry {
            ttl,
            sotw_entry: sotw.freeze(),
            heartbeat: Arc::new(form(Some(&encoded), &[], None)),
            endless: Arc::new(form(None, &any, None)),
        };
        Self {
            expiry: Some(Box::new(expiry)),
            ..whole
        }
    }

    /// How long a client keeps it without hearing of it; `None`: for ever.
    pub fn ttl(&self) -> Option<Duration> {
        self.expiry.as_ref().map(|expiry| expiry.ttl)
    }

    /// What refreshes its TTL, for one that has one.
    pub(super) fn heartbeat(&self) -> Option<&Arc<Self>> {
        self.expiry.as_ref().map(|expiry| &expiry.heartbeat)
    }

    /// Whether it only refreshes.
    pub(super) fn is_heartbeat(&self) -> bool {
        self.any_at == self.wire.len() && !self.wire.is_empty()
    }

    /// As a client that knows of no TTLs gets it.
    pub(super) fn endless(self: Arc<Self>) -> Arc<Self> {
        match &self.expiry {
            Some(expiry) => expiry.endless.clone(),
            None => self,
        }
    }
}

/// When the resources of one type on one stream have to be refreshed.
#[derive(Debug, Default)]
pub(super) struct Beats {
    running: BTreeMap<Arc<str>, Beat>,
    /// What ran before the response in flight was sent, of what that holds: a client that rejects it refreshes nothing.
    before: BTreeMap<Arc<str>, Option<Beat>>,
    /// Sent since somebody said what time it is.
    fresh: Vec<Arc<str>>,
    next: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    ttl: Duration,
    /// `None`: not known yet.
    sent: Option<Duration>,
    /// The client's time may have run out already.
    unsure: bool,
}

impl Beat {
    fn due(self, now: Duration) -> Duration {
        let interval = (self.ttl / BEATS).max(SHORTEST);
        self.sent.map_or(now, |sent| sent.saturating_add(interval))
    }

    fn late(self, now: Duration) -> bool {
        self.unsure
            || self
                .sent
                .is_some_and(|sent| now >= sent.saturating_add(self.ttl))
    }
}

impl Beats {
    /// A resource was sent, or refreshed. One without a TTL needs no more of that.
    pub(super) fn sent(&mut self, resource: &Resource, ttl: Option<Duration>) {
        let name = resource.name();
        let beat = |ttl, unsure| Beat {
            ttl,
            sent: None,
            unsure,
        };
        let before = match ttl {
            Some(ttl) => {
                self.fresh.push(name.clone());
                let before = self.running.insert(name.clone(), beat(ttl, false));
                // Of what a client has from an earlier stream nobody knows since when.
                before.or_else(|| resource.is_heartbeat().then(|| beat(ttl, true)))
            }
            None => self.running.remove(name),
        };
        self.before.insert(name.clone(), before);
    }

    /// The client took the response in flight.
    pub(super) fn accept(&mut self) {
        self.before.clear();
    }

    /// The client rejected the response in flight.
    pub(super) fn reject(&mut self) {
        for (name, before) in std::mem::take(&mut self.before) {
            match before {
                Some(beat) => {
                    match beat.sent {
                        Some(sent) => self.wake(beat.due(sent)),
                        None => self.fresh.push(name.clone()),
                    }
                    self.running.insert(name, beat);
                }
                None => self.forget(&name),
            }
        }
    }

    fn wake(&mut self, due: Duration) {
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.running.remove(name);
        self.before.remove(name);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Arc<str>) -> bool) {
        self.running.retain(|name, _| keep(name));
        self.before.retain(|name, _| keep(name));
        self.fresh.retain(keep);
    }

    /// When the next one has to be refreshed.
    pub(super) fn next(&mut self, now: Duration) -> Option<Duration> {
        for name in std::mem::take(&mut self.fresh) {
            if let Some(beat) = self.running.get_mut(&name) {
                beat.sent = Some(now);
                let due = beat.due(now);
                self.wake(due);
            }
        }
        self.next
    }

    /// Those that have to be refreshed now, each with whether it comes too late: the client has forgotten it. What is not
    /// sent thereupon has to be [forgotten](Self::forget).
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<(Arc<str>, bool)> {
        if self.next(now).is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut due = Vec::new();
        self.next = None;
        for (name, beat) in &self.running {
            let at = beat.due(now);
            if at > now {
                self.next = Some(self.next.map_or(at, |next| next.min(at)));
            } else {
                due.push((name.clone(), beat.late(now)));
            }
        }
        due
    }

    /// Names that it keeps a note of.
    pub(super) fn len(&self) -> usize {
        self.running.len() + self.before.len() + self.fresh.len()
    }
}

#[cfg(test)]
mod tests;
