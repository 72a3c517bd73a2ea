//! The running example of Isthmus: a new schema goes to every database in every region, one request each, with nothing
//! but a service and a region to say where.
//!
//! `schema-updater` is the caller, `schema-database` the service. Neither needs a library of Isthmus: the caller sends
//! gRPC to the Envoy beside it, the service registers itself over the HTTP API of EMS.

pub mod database;
pub mod fan_out;
pub mod registration;
pub mod report;
pub mod schema;

/// Package `schema_update.v1`. The code is generated and committed: `cargo run -p isthmus-codegen` renews it.
#[allow(missing_docs, reason = "the schema holds the documentation")]
#[allow(clippy::all)]
pub mod v1 {
    include!("generated/schema_update.v1.rs");
}
