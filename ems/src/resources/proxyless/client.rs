//! What a gRPC library says of itself, checked.
//!
//! It is taken at its word, as an Envoy is.

use envoy_types::pb::envoy::config::core::v3::Node as XdsNode;
use isthmus_model::{RegionName, ServiceName};

use crate::resources::node::{metadata, required, text};

/// The kind that the metadata names.
pub(crate) const KIND: &str = "grpc";

/// How the user agents of gRPC's libraries begin: `gRPC C-core linux`, `gRPC Go`, `gRPC Java`, `gRPC Node Pure JS`.
const USER_AGENT: &str = "gRPC ";

/// One program with a gRPC library that speaks xDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::resources) struct Client {
    /// Whose requests it makes.
    pub(in crate::resources) service: ServiceName,
    /// Its region.
    pub(in crate::resources) region: RegionName,
}

impl Client {
    /// Reads the node; `None`: it is an Envoy.
    ///
    /// Other tools than `ems bootstrap` write bootstraps for gRPC, and know nothing of our metadata: without these, the
    /// node's `cluster` and `locality` say the same.
    pub(in crate::resources) fn of(node: &XdsNode) -> Option<Result<Self, String>> {
        let is_grpc = node.user_agent_name.starts_with(USER_AGENT);
        let mut errors = Vec::new();
        let (service, region) = match metadata(node) {
            Some(fields) if text(fields, "kind") == Some(KIND) => (
                required(fields, "service", &mut errors, |t| t.parse().map_err(say)),
                required(fields, "region", &mut errors, |t| t.parse().map_err(say)),
            ),
            Some(_) if is_grpc => {
                return Some(Err(format!(
                    "{} runs no filter, so it is no Envoy: make its bootstrap with `ems bootstrap --kind {KIND}`",
                    node.user_agent_name
                )));
            }
            None if is_grpc => {
                let region = node.locality.as_ref().map(|at| &*at.region);
                let mut read = |field: &str, error: String| {
                    errors.push(format!(
                        "{field}: {error}: make the bootstrap with `ems bootstrap --kind {KIND}`"
                    ));
                };
                (
                    node.cluster
                        .parse::<ServiceName>()
                        .map_err(|e| read("cluster", e.to_string()))
                        .ok(),
                    region
                        .unwrap_or_default()
                        .parse::<RegionName>()
                        .map_err(|e| read("locality.region", e.to_string()))
                        .ok(),
                )
            }
            _ => return None,
        };
        Some(match (service, region) {
            (Some(service), Some(region)) => Ok(Self { service, region }),
            _ => Err(format!("node: {}", errors.join("; "))),
        })
    }
}

fn say(error: isthmus_model::NameError) -> String {
    error.to_string()
}
