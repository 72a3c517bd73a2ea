//! Lets one `#[test]` run natively and, compiled for `wasm32-unknown-unknown`, in Node: the Wasm build must decide as
//! the native one does.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub(crate) use wasm_bindgen_test::wasm_bindgen_test as test;

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub(crate) use core::prelude::v1::test;
