//! End-to-end tests: real Envoys, real EMS, real requests. Each module is one idea of what a user relies on.
//!
//! One program, so that it links once and its tests can share a mesh; see [`stage`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect has failed"
)]

mod any_region;
mod control_plane;
mod crash;
mod endpoints;
mod example;
mod filter;
mod header_names;
mod hostile;
mod identity;
mod leases;
mod limit_counts;
mod limits;
mod old_envoy;
mod partition;
mod policy;
mod protocols;
mod proxyless;
mod refusals;
mod region_limits;
mod registry;
mod rejected;
mod routes;
mod stage;
mod standalone;
