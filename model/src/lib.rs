//! The words that every part of Isthmus shares: names, destinations, the filter's config and the routing decision.
//!
//! Pure: no I/O, no clock, no randomness, and no dependency but serde, so that the Wasm filter, EMS and the tests run
//! the very same code. A request takes this way:
//!
//! ```text
//! headers -> Request::collect -> Caller::parse -> decide -> Route | Reject
//!                                                   Route -> spend -> passes | Exceeded
//!                                                         question::write -> EMS
//! ```

pub mod access;
pub mod config;
pub mod decide;
pub mod limit;
pub mod name;
pub mod receipt;
pub mod refusal;
pub mod request;

#[cfg(test)]
mod testing;

pub use access::{Granted, Identity, Pattern};
pub use config::{Config, ConfigError, Headers, Mode, RawConfig, RawHeaders, RawService};
pub use decide::{Decision, Kind, Route, decide};
pub use limit::{Budgets, Exceeded, Limit, Limits, Outcome, Unavailable, spend};
pub use name::{ANY_REGION, ClusterName, Name, NameError, RegionName, ServiceName, VersionLabel};
pub use receipt::{write_limited, write_place, write_receipt};
pub use refusal::{Code, Refusal};
pub use request::{Caller, Field, Peer, Request, Wish};
