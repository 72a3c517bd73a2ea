//! Requests as they come over the wire, of either variant: bytes in, [`Request`] out.
//!
//! What the protocol reserves for later (resource locators, dynamic parameters) is not looked at.

use bytes::Buf;
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
};
use prost::{DecodeError, Message};

use super::stream::{Ask, Mode, Request};

/// One request as it came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Incoming {
    /// Who asks. "Only the first request on a stream is guaranteed to carry the node identifier."
    pub node: Option<Node>,
    /// What it says.
    pub request: Request,
}

impl Incoming {
    /// Reads one message.
    pub fn decode(mode: Mode, bytes: impl Buf) -> Result<Self, DecodeError> {
        Ok(match mode {
            Mode::Delta => {
                let raw = DeltaDiscoveryRequest::decode(bytes)?;
                Self {
                    node: raw.node,
                    request: Request {
                        type_url: raw.type_url,
                        nonce: raw.response_nonce,
                        error: raw.error_detail.map(|status| status.message),
                        ask: Ask::Delta {
                            subscribe: raw.resource_names_subscribe,
                            unsubscribe: raw.resource_names_unsubscribe,
                            initial: raw.initial_resource_versions,
                        },
                    },
                }
            }
            Mode::Sotw => {
                let raw = DiscoveryRequest::decode(bytes)?;
                Self {
                    node: raw.node,
                    request: Request {
                        type_url: raw.type_url,
                        nonce: raw.response_nonce,
                        error: raw.error_detail.map(|status| status.message),
                        ask: Ask::Sotw {
                            names: raw.resource_names,
                            version: raw.version_info,
                        },
                    },
                }
            }
        })
    }
}
