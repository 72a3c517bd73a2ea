//! The Envoy Management Service.
pub mod json;
pub mod record;
pub mod registry;
pub mod store;
pub mod xds;
