//! The Wasm shell around the model: reads headers, asks [`isthmus_model::decide()`], does what it says.
//!
//! Everything that can be is plain, safe Rust without a host, and tested natively. What talks to Envoy is in `vm` and `owner`; what
//! cannot be safe is in `abi`, and only there.
#![deny(unsafe_code)]
// Natively nothing calls the parts: only their tests do.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

mod counts;
mod edits;
mod load;
mod pairs;
mod receipts;
mod reply;
mod roots;

#[cfg(target_arch = "wasm32")]
mod abi;
#[cfg(target_arch = "wasm32")]
mod budgets;
#[cfg(target_arch = "wasm32")]
mod counters;
#[cfg(target_arch = "wasm32")]
mod owner;
#[cfg(target_arch = "wasm32")]
mod vm;
