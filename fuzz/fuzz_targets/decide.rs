//! A filter config and the headers of a request, both from strangers: the config is read or refused, the request is
//! routed or refused, and what comes out can be written and read again.
#![no_main]

use isthmus_model::{
    Caller, ClusterName, Config, Decision, Peer, RawConfig, Request, decide, write_receipt,
};
use libfuzzer_sys::fuzz_target;

const CONFIGS: [&str; 3] = [
    r#"{"region":"eu","regions":["us","ap"],"caller":"eu/shop","debug":true}"#,
    r#"{"region":"eu","mode":"gateway","trust_domain":"mesh.internal","services":{"a":{"allow":["*/b"],"allow_pins":true}}}"#,
    r#"{"region":"eu","default_region":"any","headers":{"service":"s","region":"r","version":"v","destination":"d","caller":"c","hops":"h","receipt":"p","debug":"g","error":"e"}}"#,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else {
        return;
    };
    let mut parts = rest.split(|&b| b == b'\n');
    let json = match CONFIGS.get(usize::from(first)) {
        Some(config) => config.as_bytes(),
        None => parts.next().unwrap_or_default(),
    };
    let Ok(raw) = serde_json::from_slice::<RawConfig>(json) else {
        return;
    };
    let config = match Config::check(raw) {
        Ok(config) => config,
        Err(errors) => {
            assert!(!errors.is_empty());
            return;
        }
    };
    let (uri, server_name) = (parts.next(), parts.next());
    let peer = Peer { uri, server_name };
    let headers: Vec<(&[u8], &[u8])> = parts
        .filter_map(|line| {
            let at = line.iter().position(|&b| b == b'=')?;
            let (name, value) = line.split_at(at);
            Some((name, value.get(1..)?))
        })
        .collect();
    let request = Request::collect(config.headers(), headers);
    let caller = match Caller::parse(&config, &request, peer) {
        Ok(caller) => caller,
        Err(refusal) => {
            serde_json::from_str::<serde_json::Value>(&refusal.json_body()).expect("JSON");
            return;
        }
    };
    let decision = decide(&config, &caller);
    let mut receipt = String::new();
    write_receipt(&mut receipt, &config, &decision).expect("strings take everything");
    assert!(
        receipt.bytes().all(|b| (b' '..=b'~').contains(&b)),
        "{receipt:?}"
    );
    match &decision {
        Decision::Route(route) => {
            let mut name = String::new();
            route
                .write_cluster(&mut name)
                .expect("strings take everything");
            let parsed = ClusterName::parse(&name).expect("a cluster's name can be read");
            assert_eq!(parsed.to_string(), name);
        }
        Decision::Reject(refusal) => {
            serde_json::from_str::<serde_json::Value>(&refusal.json_body()).expect("JSON");
        }
    }
});
