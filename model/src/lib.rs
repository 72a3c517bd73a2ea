//! The words that every part of Isthmus shares: names, destinations, the filter's config and the routing decision.
//!
//! Pure: no I/O, no clock, no randomness, and no dependency but serde, so that the Wasm filter, EMS and the tests run
//! the very same code.

pub mod name;

pub use name::{ClusterName, NameError, RegionName, ServiceName, VersionLabel};
