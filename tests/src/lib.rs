//! Guards for the real processes of a mesh: Envoy, EMS, Redis, whole regions, steady load, the network between.
//!
//! A guard starts something, waits until it is of use, and stops it when dropped, also on panic, when the program exits
//! and (on Linux) when the program is killed. The end-to-end tests, `cargo xtask demo` and the benches share them, so
//! they depend on little: the demo waits for this crate. Nothing here judges what Isthmus decides; that is what
//! the tests in `tests/` are about.

pub mod artifact;
pub mod ems;
pub mod envoy;
pub mod http;
pub mod link;
pub mod load;
pub mod port;
pub mod process;
pub mod redis;
pub mod region;
pub mod wait;
pub mod workdir;

pub use ems::Ems;
pub use envoy::Envoy;
pub use http::{Call, Reply};
pub use link::Link;
pub use load::{Load, LoadReport};
pub use port::Port;
pub use process::Process;
pub use redis::Redis;
pub use region::{Mesh, Region};
pub use wait::{eventually, within};
pub use workdir::WorkDir;
