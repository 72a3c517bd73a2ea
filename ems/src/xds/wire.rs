//! Responses as bytes: a few of its own for each stream, and the resources, which all streams share.
//!
//! Delta and state-of-the-world responses have the same field numbers for version, resources, type and nonce, so one
//! encoder writes both.

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::ControlPlane;
use prost::Message;

use crate::grpc::{self, PREFIX};

use super::{
    put_field,
    stream::{Mode, Response},
};

/// Resources below this many bytes in all are copied behind the head: one frame costs more than the copy.
const COPIED: usize = 2 * 1024;

/// Writes responses.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The `ControlPlane` message of every response; empty: none.
    control_plane: Vec<u8>,
}

impl Encoder {
    /// That of a server that calls itself this.
    pub fn of(identifier: &str) -> Self {
        let identifier = identifier.to_owned();
        Self {
            control_plane: ControlPlane { identifier }.encode_to_vec(),
        }
    }

    /// The gRPC message of a response, in pieces to be sent in order.
    pub fn encode(&self, response: &Response) -> (Bytes, Option<Bytes>) {
        let len = response.resources.entries_len(response.mode);
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
        let rest = if len < COPIED {
            for resource in &**response.resources {
                head.put_slice(&resource.entry(response.mode));
            }
            None
        } else {
            Some(response.resources.entries(response.mode))
        };
        let total = head.len() - PREFIX + rest.as_ref().map_or(0, Bytes::len);
        if let Some(prefix) = head.first_chunk_mut() {
            *prefix = grpc::prefix(total);
        }
        (head.freeze(), rest)
    }
}

#[cfg(test)]
mod tests;
