//! Bytes from strangers as requests on one xDS stream: each is decoded and taken, or refused in words. Whatever they
//! say, no response is sent while another of its type is in flight, and what the stream keeps has a bound.
#![no_main]

use std::{collections::HashMap, sync::Arc};

use ems::xds::{
    Resource, ResourceType,
    limits::Limits,
    memory::Memory,
    nodes::identify,
    request::Incoming,
    stream::{Action, Mode, Stream},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else {
        return;
    };
    let mode = if first & 1 == 0 {
        Mode::Delta
    } else {
        Mode::Sotw
    };
    let only = (first & 2 != 0).then_some(ResourceType::Cluster);
    let limits = Limits {
        names: 8,
        name_bytes: 64,
        ..Limits::default()
    };
    let limits = Arc::new(limits);
    let memory = Memory::default();
    memory.write(|write| {
        for kind in ResourceType::ALL {
            write.put(kind, Resource::new(kind, "a", b"1"));
            write.put(
                kind,
                Resource::new(kind, "b", b"1").expiring(std::time::Duration::from_secs(3)),
            );
        }
    });
    let mut stream = Stream::new(mode, only, limits.clone()).with_ttl(first & 4 != 0);
    let mut in_flight: HashMap<String, u64> = HashMap::new();
    // Each message behind its length, as in gRPC but in one byte.
    let mut rest = rest;
    while let Some((&len, tail)) = rest.split_first() {
        let (message, tail) = tail.split_at(usize::from(len).min(tail.len()));
        rest = tail;
        let Ok(Incoming { node, request }) = Incoming::decode(mode, message) else {
            return;
        };
        if let Some(node) = node {
            let known = identify(&node, std::time::Duration::ZERO, &limits);
            assert!(known.is_err() || node.id.len() <= limits.name_bytes);
        }
        in_flight.retain(|_, nonce| nonce.to_string() != request.nonce);
        if stream.on_request(request, &memory).is_err() {
            return;
        }
        // Several may come before anything is said.
        if len & 1 == 0 {
            continue;
        }
        for action in stream.flush(&memory) {
            if let Action::Send(response) = action {
                let before = in_flight.insert(response.type_url.to_string(), response.nonce);
                assert_eq!(before, None, "two in flight: {response:?}");
            }
        }
        assert!(
            stream.kept() <= ResourceType::ALL.len() * 6 * (8 + 8 + 2),
            "{} notes",
            stream.kept()
        );
    }
});
