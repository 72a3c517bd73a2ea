//! The `ems` binary.
fn main() {}
