//! Why a request to the registry was refused. Knows nothing of HTTP or gRPC: each edge maps it.

use isthmus_model::RegionName;

use crate::{record::Invalid, registry::Key};

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Fields are at fault.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The write is older than what is stored, or of the same version and different.
    #[error(
        "{record} has version {stored}, so a write of version {written} is too old or differs from it: read the record, then write with a greater version or with none"
    )]
    Stale {
        /// The record's key.
        record: String,
        /// Version of the write.
        written: u64,
        /// Version of the stored record.
        stored: u64,
    },
    /// There is no such record.
    #[error("{record} is not registered: {advice}")]
    NotFound {
        /// The record's key.
        record: String,
        /// What to do.
        advice: &'static str,
    },
    /// The own region cannot be deleted.
    #[error(
        "regions/{0} is the region of this server, which keeps its record: write it without gateways instead"
    )]
    Home(RegionName),
    /// Nothing is loaded yet.
    #[error("the registry is still loading: try again in a moment")]
    Loading,
}

impl Rejection {
    /// There is no such record.
    #[must_use]
    pub fn missing(key: &Key) -> Self {
        Self::NotFound {
            record: key.to_string(),
            advice: match key {
                Key::Service(_) => "list the services to see what is",
                Key::Endpoint(..) => "list the endpoints of the service to see what is",
                Key::Region(_) => "list the regions to see what is",
            },
        }
    }
}
