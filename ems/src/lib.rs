//! The Envoy Management Service.
pub mod bootstrap;
pub mod cli;
pub mod identity;
pub mod json;
pub mod record;
pub mod registry;
pub mod resources;
pub mod store;
pub mod xds;
