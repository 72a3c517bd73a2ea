//! The Wasm shell.
