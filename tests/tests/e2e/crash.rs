//! A filter that crashes lets nothing through, and a new one takes its place.

use std::path::PathBuf;

use isthmus_tests::{
    Envoy, WorkDir, artifact, ems::Node, envoy::EnvoyOptions, eventually, port::Port,
};

use crate::{stage::shared, standalone};

/// A filter that lets the first request pass as it is and crashes at the second.
///
/// ```wat
/// (if (global.get 0) (then unreachable))
/// (global.set 0 (i32.const 1))
/// (i32.const 0) ;; continue
/// ```
fn crashing(dir: &WorkDir) -> PathBuf {
    let sections: [&[u8]; 7] = [
        b"\0asm\x01\0\0\0",
        // Types: () -> (), (i32) -> i32, (i32, i32, i32) -> i32.
        b"\x01\x10\x03\x60\0\0\x60\x01\x7f\x01\x7f\x60\x03\x7f\x7f\x7f\x01\x7f",
        // Functions 0, 1 and 2 have types 0, 1 and 2.
        b"\x03\x04\x03\0\x01\x02",
        // One memory of one page.
        b"\x05\x03\x01\0\x01",
        // One variable, 0.
        b"\x06\x06\x01\x7f\x01\x41\0\x0b",
        // Exports: the memory, and the functions.
        b"\x07\x5a\x04\
          \x06memory\x02\0\
          \x17proxy_abi_version_0_2_1\0\0\
          \x18proxy_on_memory_allocate\0\x01\
          \x18proxy_on_request_headers\0\x02",
        // Bodies: nothing, 0, and the one above.
        b"\x0a\x18\x03\x02\0\x0b\x04\0\x41\0\x0b\
          \x0e\0\x23\0\x04\x40\0\x0b\x41\x01\x24\0\x41\0\x0b",
    ];
    let path = dir.path().join("crashing.wasm");
    std::fs::write(&path, sections.concat()).unwrap();
    path
}

/// Sends requests that name their destination themselves, as a caller would who hopes that the filter is gone.
fn check(envoy: &Envoy) {
    let send = || {
        envoy
            .call("GET", "/")
            .service("payments")
            .header("x-mesh-destination", "payments.us")
            .send()
    };
    let served = || send().is_ok_and(|reply| reply.status == 200);
    let sent_on = || envoy.stat("cluster.payments.us.upstream_rq_total").unwrap();
    for round in 1..=2 {
        eventually("a filter that works", served).unwrap();
        let before = sent_on();
        let reply = send().unwrap();
        assert_eq!(reply.status, 503, "round {round}: {reply:?}");
        assert_eq!(sent_on(), before, "round {round}: it was let through");
    }
}

#[test]
fn with_the_policy_that_ems_sends() {
    let us = &shared().mesh.us;
    let (admin, listen) = (Port::reserve().unwrap(), Port::reserve().unwrap());
    let bootstrap = us
        .ems
        .bootstrap(
            &Node::host("crashing").with(["--uses", "payments"]),
            &admin,
            &listen,
        )
        .unwrap();
    let ours = artifact::filter().unwrap().display().to_string();
    assert!(bootstrap.contains(&ours), "{bootstrap}");
    let options = EnvoyOptions {
        name: "crashing".to_owned(),
        binary: artifact::envoy().unwrap(),
        bootstrap: bootstrap.replace(&ours, &crashing(us.dir()).display().to_string()),
        arguments: Vec::new(),
        admin,
        listen,
        workers: 1,
    };
    check(&Envoy::start(us.dir(), options).unwrap());
}

#[test]
fn with_the_policy_of_standalone() {
    let dir = WorkDir::new("crashing").unwrap();
    let stage = standalone::start(artifact::ENVOY_VERSION, &crashing(&dir));
    check(&stage.envoy);
}
