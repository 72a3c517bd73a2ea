//! The Envoy Management Service.
pub mod record;
pub mod xds;
