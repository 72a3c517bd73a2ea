//! Responses as bytes: a few of its own for each stream, and the resources, which all streams share.
//!
//! Delta and state-of-the-world responses have the same field numbers for version, resources, type and nonce, so one
//! encoder writes both.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::ControlPlane;
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    Resource, put_field,
    stream::{Mode, Response},
};

/// gRPC's prefix of a message: not compressed, then its length.
const PREFIX: usize = 5;

/// Resources below this many bytes in all are copied behind the head: one frame costs more than the copy.
const COPIED: usize = 2 * 1024;

/// How many joined batches are kept for the streams that have yet to send them.
const KEPT: usize = 16;

/// Batches of resources joined lately. A change that reaches a thousand streams is joined once and not a thousand
/// times.
#[derive(Debug, Default)]
pub struct Batches {
    joined: Mutex<VecDeque<Joined>>,
    /// The `ControlPlane` message of every response; empty: none.
    control_plane: Vec<u8>,
}

/// The first stream that needs one makes it; others that need the same one wait, and nobody else does.
#[derive(Debug)]
struct Joined {
    key: u128,
    resources: Arc<[Arc<Resource>]>,
    bytes: Arc<OnceLock<Bytes>>,
}

impl Batches {
    /// Those of a server that calls itself this.
    pub fn of(identifier: &str) -> Self {
        let identifier = identifier.to_owned();
        Self {
            control_plane: ControlPlane { identifier }.encode_to_vec(),
            ..Self::default()
        }
    }

    /// The gRPC message of a response, in pieces to be sent in order.
    pub fn encode(&self, response: &Response) -> (Bytes, Option<Bytes>) {
        let len: usize = response
            .resources
            .iter()
            .map(|resource| resource.entry_len(response.mode))
            .sum();
        let mut head = BytesMut::with_capacity(256 + if len < COPIED { len } else { 0 });
        head.put_bytes(0, PREFIX);
        put_field(&mut head, 1, response.version.as_bytes());
        put_field(&mut head, 4, response.type_url.as_bytes());
        put_field(&mut head, 5, response.nonce.to_string().as_bytes());
        for name in &*response.removed {
            put_field(&mut head, 6, name.as_bytes());
        }
        if !self.control_plane.is_empty() {
            let number = match response.mode {
                Mode::Delta => 7,
                Mode::Sotw => 6,
            };
            put_field(&mut head, number, &self.control_plane);
        }
        let rest = match &*response.resources {
            [one] if len >= COPIED => Some(entry(response.mode, one)),
            _ if len >= COPIED => Some(self.join(response, len)),
            few => {
                for resource in few {
                    head.put_slice(&entry(response.mode, resource));
                }
                None
            }
        };
        let total = head.len() - PREFIX + rest.as_ref().map_or(0, Bytes::len);
        // Not even a response of everything comes near 4 GiB.
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        if let Some(prefix) = head.get_mut(1..PREFIX) {
            prefix.copy_from_slice(&total.to_be_bytes());
        }
        (head.freeze(), rest)
    }

    fn join(&self, response: &Response, len: usize) -> Bytes {
        let key = key(response);
        let same = |joined: &Joined| {
            joined.key == key
                && joined.resources.len() == response.resources.len()
                && joined
                    .resources
                    .iter()
                    .zip(&*response.resources)
                    .all(|(a, b)| Arc::ptr_eq(a, b))
        };
        let bytes = {
            let mut kept = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
            match kept.iter().find(|joined| same(joined)) {
                Some(joined) => joined.bytes.clone(),
                None => {
                    if kept.len() >= KEPT {
                        kept.pop_front();
                    }
                    let bytes = Arc::<OnceLock<Bytes>>::default();
                    kept.push_back(Joined {
                        key,
                        resources: response.resources.clone(),
                        bytes: bytes.clone(),
                    });
                    bytes
                }
            }
        };
        let join = || {
            let mut bytes = BytesMut::with_capacity(len);
            for resource in &*response.resources {
                bytes.put_slice(&entry(response.mode, resource));
            }
            bytes.freeze()
        };
        bytes.get_or_init(join).clone()
    }
}

fn entry(mode: Mode, resource: &Resource) -> Bytes {
    match mode {
        Mode::Delta => resource.delta_entry(),
        Mode::Sotw => resource.sotw_entry(),
    }
}

/// Tells batches apart; equal ones are compared in full before they count as such.
fn key(response: &Response) -> u128 {
    let mut addresses = Vec::with_capacity(1 + 8 * response.resources.len());
    addresses.push(u8::from(response.mode == Mode::Delta));
    for resource in &*response.resources {
        addresses.extend(Arc::as_ptr(resource).addr().to_ne_bytes());
    }
    xxh3_128(&addresses)
}

#[cfg(test)]
mod tests;
