//! The Envoy Management Service.
pub mod api;
pub mod bootstrap;
pub mod cli;
pub mod explain;
mod host;
pub mod identity;
pub mod json;
pub mod lease;
pub mod metrics;
pub mod options;
pub mod ratelimit;
pub mod record;
pub mod registrar;
pub mod registry;
pub mod resources;
pub mod serve;
pub mod store;
pub mod xds;
