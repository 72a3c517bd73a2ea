//! The Envoy Management Service.
pub mod json;
pub mod record;
pub mod xds;
