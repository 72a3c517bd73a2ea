//! A Wasm filter that does nothing: what any Wasm filter costs at the very least.
//!
//! Written as bytes, so that nothing stands between the measurement and what Envoy calls.

/// The module: it exports `proxy_on_request_headers`, which returns 0 (continue), and what Envoy insists on.
pub(crate) fn module() -> Vec<u8> {
    let sections: [&[u8]; 6] = [
        b"\0asm\x01\0\0\0",
        // Types: () -> (), (i32) -> i32, (i32, i32, i32) -> i32.
        b"\x01\x10\x03\x60\0\0\x60\x01\x7f\x01\x7f\x60\x03\x7f\x7f\x7f\x01\x7f",
        // Functions 0, 1 and 2 have types 0, 1 and 2.
        b"\x03\x04\x03\0\x01\x02",
        // One memory of one page.
        b"\x05\x03\x01\0\x01",
        // Exports: the memory, and the functions.
        b"\x07\x5a\x04\
          \x06memory\x02\0\
          \x17proxy_abi_version_0_2_1\0\0\
          \x18proxy_on_memory_allocate\0\x01\
          \x18proxy_on_request_headers\0\x02",
        // Bodies: nothing, 0, 0.
        b"\x0a\x0e\x03\x02\0\x0b\x04\0\x41\0\x0b\x04\0\x41\0\x0b",
    ];
    sections.concat()
}
