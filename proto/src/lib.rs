//! The `isthmus.v1` schema as Rust types: one schema for gRPC, the HTTP API and YAML files.
//!
//! The code is generated and committed: `cargo run -p isthmus-codegen` renews it.
//! Knows nothing of what the fields mean or which values are sensible: see `ems::record` for that.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

/// Package `isthmus.v1`.
#[allow(missing_docs, reason = "the schema holds the documentation")]
#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing
)]
pub mod v1 {
    include!("generated/isthmus.v1.rs");
}

/// The encoded `FileDescriptorSet` of the schema and its imports, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/isthmus.v1.bin");

/// The schema's descriptors, for canonical JSON and for the OpenAPI document.
///
/// The set is committed beside the generated code, so a failure to decode it is a broken build; it then reads as empty.
pub static DESCRIPTORS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default());
