//! A server that answers what it saw (who, over which protocol, with which headers) on one port for HTTP/1.1, HTTP/2
//! and gRPC, and a client for what the plain one in `isthmus-tests` does not speak.
//!
//! Both run inside the test program, on a thread of their own, so they end with it. A package of its own, since the
//! demo, which waits for `isthmus-tests`, needs neither.

pub mod client;
mod server;

/// Package `isthmus.test.v1`. The code is generated and committed: `cargo run -p isthmus-codegen` renews it.
#[allow(missing_docs, reason = "the schema holds the documentation")]
#[allow(clippy::all)]
pub mod v1 {
    include!("generated/isthmus.test.v1.rs");
}

pub use client::Client;
pub use server::Upstream;

/// The service that a caller means when it says nothing but the gRPC path.
pub const ECHO_SERVICE: &str = "isthmus.test.v1.echo";
