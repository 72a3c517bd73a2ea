//! The Proxy-Wasm ABI 0.2.0, as far as this filter needs it: the only unsafe code of what is shipped.
//!
//! Written by hand because it is the hot path. An early version of this filter on the Rust SDK cost Envoy about 12 µs of
//! CPU a request, and about half of that this way. That was measured once, before the SDK was dropped; nothing here can
//! repeat it, short of building such a filter and comparing (`cargo run -p isthmus-bench -- filter --also <it>`). The SDK
//! exports every callback, used or not, each of which Envoy then calls. Only what is exported at the end of this file is
//! called.
//!
//! The host functions never read or write outside the pointers they are given; what the host returns is memory that it
//! asked [`proxy_on_memory_allocate`] for, and that is ours from then on.
#![allow(unsafe_code)]

use std::ptr;

use crate::vm;

/// The raw imports; names and types are those of the specification.
mod host {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_log(level: u32, text: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            max_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_pairs(
            map: u32,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_add_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_remove_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
        ) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            arguments: *const u8,
            arguments_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_define_metric(
            kind: u32,
            name: *const u8,
            name_size: usize,
            id: *mut u32,
        ) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, by: i64) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub(super) fn proxy_set_effective_context(context: u32) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            version: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            data: *const u8,
            size: usize,
            version: u32,
        ) -> u32;
    }

    // WASI, of which Proxy-Wasm hosts have this: their own ABI knows only the time of day, which may be set back.
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    }
}

/// The host said no; the number is its status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostError(pub(crate) u32);

/// What a host call yields.
pub(crate) type HostResult<T> = Result<T, HostError>;

/// Header maps, by the numbers of the specification.
#[derive(Clone, Copy)]
pub(crate) enum Map {
    /// Of the request.
    Request = 0,
    /// Of the response.
    Response = 2,
}

/// Whether Envoy goes on with a stream.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    /// To the next filter.
    Continue = 0,
    /// Not at all: a reply was sent.
    Stop = 1,
}

/// Log levels, by the numbers of the specification.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    /// For those who look closely.
    Info = 2,
    /// Something is not as it should be, and goes on.
    Warning = 3,
    /// Somebody has to do something.
    Error = 4,
}

const PLUGIN_CONFIGURATION: u32 = 7;
const COUNTER: u32 = 0;
/// The status of what is not there.
pub(crate) const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;
const MONOTONIC: u32 = 1;

fn ok(status: u32) -> HostResult<()> {
    match status {
        0 => Ok(()),
        status => Err(HostError(status)),
    }
}

/// Takes over what the host wrote into memory that it had from [`proxy_on_memory_allocate`].
fn take(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> HostResult<Vec<u8>> {
    let mut data: *mut u8 = ptr::null_mut();
    let mut size: usize = 0;
    ok(call(&raw mut data, &raw mut size))?;
    if data.is_null() || size == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: a host that returns success has filled `size` bytes of a block for which it called the allocator below
    // with that very `size`, and it keeps no pointer to it.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// Writes to Envoy's log.
pub(crate) fn log(level: Level, text: &str) {
    // SAFETY: the host reads `text` and keeps nothing. There is nobody to tell if it fails.
    let _ = unsafe { host::proxy_log(level as u32, text.as_ptr(), text.len()) };
}

/// The configuration of the plugin that is being configured.
pub(crate) fn plugin_configuration(size: usize) -> HostResult<Vec<u8>> {
    take(|data, taken| {
        // SAFETY: both pointers are to locals of `take`.
        unsafe { host::proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, taken) }
    })
}

/// All headers of the request, serialized: see `pairs`.
pub(crate) fn request_headers() -> HostResult<Vec<u8>> {
    take(|data, size| {
        // SAFETY: both pointers are to locals of `take`.
        unsafe { host::proxy_get_header_map_pairs(Map::Request as u32, data, size) }
    })
}

/// The value of a header; of several the first.
pub(crate) fn header(map: Map, name: &str) -> HostResult<Vec<u8>> {
    take(|data, size| {
        // SAFETY: the host reads the slice; both pointers are to locals of `take`.
        unsafe {
            host::proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, size)
        }
    })
}

/// Sets a header; all earlier values of it are gone.
pub(crate) fn replace_header(map: Map, name: &str, value: &str) -> HostResult<()> {
    // SAFETY: the host reads both slices and keeps nothing.
    ok(unsafe {
        host::proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Adds a header beside earlier values of it.
pub(crate) fn add_header(map: Map, name: &str, value: &str) -> HostResult<()> {
    // SAFETY: the host reads both slices and keeps nothing.
    ok(unsafe {
        host::proxy_add_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes all values of a header.
pub(crate) fn remove_header(map: Map, name: &str) -> HostResult<()> {
    // SAFETY: the host reads the slice and keeps nothing.
    ok(unsafe { host::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Ends the request here. `headers` are serialized pairs.
pub(crate) fn send_local_response(
    status: u16,
    details: &str,
    body: &str,
    headers: &[u8],
    grpc_status: Option<u8>,
) -> HostResult<()> {
    // SAFETY: the host reads the slices and keeps nothing.
    ok(unsafe {
        host::proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status.map_or(-1, i32::from),
        )
    })
}

/// A property of the stream; the segments of the path are separated by zero bytes.
pub(crate) fn property(path: &str) -> HostResult<Vec<u8>> {
    take(|data, size| {
        // SAFETY: the host reads the slice; both pointers are to locals of `take`.
        unsafe { host::proxy_get_property(path.as_ptr(), path.len(), data, size) }
    })
}

/// Calls a function that Envoy offers beside the ABI.
pub(crate) fn call_foreign_function(name: &str, arguments: &[u8]) -> HostResult<Vec<u8>> {
    take(|data, size| {
        // SAFETY: the host reads both slices; both pointers are to locals of `take`.
        unsafe {
            host::proxy_call_foreign_function(
                name.as_ptr(),
                name.len(),
                arguments.as_ptr(),
                arguments.len(),
                data,
                size,
            )
        }
    })
}

/// Defines a counter, or finds it if there is one of that name.
pub(crate) fn define_counter(name: &str) -> HostResult<u32> {
    let mut id = 0;
    // SAFETY: the host reads the slice and writes the number.
    ok(unsafe { host::proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

/// Adds to a counter.
pub(crate) fn increment_counter(id: u32, by: i64) -> HostResult<()> {
    // SAFETY: only numbers are passed.
    ok(unsafe { host::proxy_increment_metric(id, by) })
}

/// Asks for `proxy_on_tick`.
pub(crate) fn set_tick_period(milliseconds: u32) -> HostResult<()> {
    // SAFETY: only a number is passed.
    ok(unsafe { host::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Acts in the name of a context from now on; fails if there is no such context.
pub(crate) fn set_effective_context(context: u32) -> HostResult<()> {
    // SAFETY: only a number is passed.
    ok(unsafe { host::proxy_set_effective_context(context) })
}

/// A value that all VMs of this id share, in all threads, and the version under which it can be replaced. `None`: there is
/// no such value.
pub(crate) fn shared_data(key: &[u8]) -> HostResult<Option<(Vec<u8>, u32)>> {
    let mut version = 0;
    let data = take(|data, size| {
        // SAFETY: the host reads the slice and writes to three locals.
        unsafe {
            host::proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut version)
        }
    });
    match data {
        Ok(data) => Ok(Some((data, version))),
        Err(HostError(NOT_FOUND)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a shared value if it still has this version (0: whatever it has), or creates it: whatever the version, a value
/// that is not there has none. `false`: it has another version.
pub(crate) fn set_shared_data(key: &[u8], value: &[u8], version: u32) -> HostResult<bool> {
    // SAFETY: the host reads both slices and keeps copies.
    let status = unsafe {
        host::proxy_set_shared_data(
            key.as_ptr(),
            key.len(),
            value.as_ptr(),
            value.len(),
            version,
        )
    };
    match status {
        CAS_MISMATCH => Ok(false),
        status => ok(status).map(|()| true),
    }
}

/// Nanoseconds of a clock that never goes back, the same for all threads.
pub(crate) fn monotonic_time() -> u64 {
    let mut time = 0;
    // SAFETY: the host writes to the local. Without a clock it is always 0, and no budget refills.
    let _ = unsafe { host::clock_time_get(MONOTONIC, 0, &raw mut time) };
    time
}

/// Tells the host which version of the ABI this is. For a module of 0.2.0 Envoy forgets the route when a header of the
/// request changes, as that version has it; a module of 0.2.1 has to ask for it, which is one more call. Nothing else
/// differs in what is used here.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_0() {}

/// Memory for what the host returns; see [`take`].
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let mut block = Vec::<u8>::with_capacity(size);
    let data = block.as_mut_ptr();
    std::mem::forget(block);
    data
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: usize) -> bool {
    vm::on_configure(root, size)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    vm::on_tick(root);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, _headers: u32, _end: u32) -> u32 {
    vm::on_request_headers(context) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, _headers: u32, _end: u32) -> u32 {
    vm::on_response_headers(context) as u32
}
