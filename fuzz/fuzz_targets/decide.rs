//! A filter config and the headers of a request, both from strangers: the config is read or refused, the request is
//! routed or refused, its limits are charged, and what comes out can be written and read again.
#![no_main]

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use isthmus_model::{
    Budgets, Caller, ClusterName, Config, Decision, Peer, RawConfig, Request, Route, Unavailable,
    decide,
    limit::{
        Cell, CellName, Scope, lease,
        question::{self, Question},
    },
    spend, write_receipt,
};
use libfuzzer_sys::fuzz_target;

const CONFIGS: [&str; 4] = [
    r#"{"region":"eu","regions":["us","ap"],"caller":"eu/shop","debug":true}"#,
    r#"{"region":"eu","mode":"gateway","trust_domain":"mesh.internal","services":{"a":{"allow":["*/b"],"allow_pins":true}}}"#,
    r#"{"region":"eu","default_region":"any","headers":{"service":"s","region":"r","version":"v","destination":"d","caller":"c","hops":"h","receipt":"p","debug":"g","error":"e"}}"#,
    r#"{"region":"eu","caller":"eu/shop","debug":true,"services":{"a":{"limits":[{"per":["caller","header:t"],"requests":2,"unit":"minute"},{"per":["method"],"requests":3,"unit":"day","mode":"shadow"},{"per":["caller","header:t","method"],"requests":2,"unit":"minute","scope":"region"},{"per":["caller"],"requests":2,"unit":"second","scope":"lease"}]}}}"#,
];

/// Budgets that only this request knows.
#[derive(Default)]
struct Memory(HashMap<CellName, (Cell, u32)>);

impl Budgets for Memory {
    fn read(&mut self, name: &CellName) -> Result<(Cell, u32), Unavailable> {
        Ok(self.0.get(name).cloned().unwrap_or_default())
    }

    fn write(&mut self, name: &CellName, cell: &Cell, version: u32) -> Result<bool, Unavailable> {
        self.0.insert(*name, (cell.clone(), version + 1));
        Ok(true)
    }

    fn now(&mut self) -> u64 {
        1
    }
}

/// The same request until a limit refuses it, or often enough to know that none does.
fn spend_all(config: &Config, route: &Route<'_>, headers: &[(&[u8], &[u8])]) {
    let mut budgets = Memory::default();
    let hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    for _ in 0..8 {
        let headers = headers.iter().copied();
        let spent = spend(route, headers, &hasher, &mut budgets, |_, _| {});
        if let Err(exceeded) = spent {
            let decision = Decision::Reject(exceeded.refusal());
            let mut receipt = String::new();
            write_receipt(&mut receipt, config, &decision, Some(&exceeded))
                .expect("strings take everything");
            assert_visible(&receipt);
            return;
        }
    }
}

/// What EMS is asked can be read, and is about all limits of the region that the request meets.
fn ask(route: &Route<'_>, is_grpc: bool, headers: &[(&[u8], &[u8])]) {
    let mut text = String::new();
    let asked = question::write(&mut text, route, is_grpc, headers.iter().copied());
    let limits: Vec<_> = route.limits.of_scope(Scope::Region).collect();
    assert_eq!(asked.is_some(), !limits.is_empty());
    if asked.is_none() {
        return;
    }
    let question = Question::parse(&text).expect("a question can be read");
    assert_eq!(question.service, route.service);
    assert_eq!(question.is_grpc, is_grpc);
    let tokens: Vec<_> = question.asks().map(|ask| ask.token).collect();
    let want: Vec<_> = limits.iter().map(|limit| limit.token()).collect();
    assert_eq!(tokens, want);
}

fn assert_visible(receipt: &str) {
    assert!(
        receipt.bytes().all(|b| (b' '..=b'~').contains(&b)),
        "{receipt:?}"
    );
}

/// The name of the leased budget, as EMS reads it.
fn lease(route: &Route<'_>) {
    let mut text = String::new();
    if lease::write(&mut text, route).is_none() {
        assert_eq!(text, "");
        return;
    }
    let (service, token) = lease::parse(&text).expect("a name can be read");
    assert_eq!(service, route.service);
    let limit = lease::met(route).expect("a limit that has a name");
    assert_eq!(token, limit.token());
}

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
    for (_, value) in &headers {
        // Whoever reaches EMS may ask it anything.
        let _ = str::from_utf8(value).map(|text| (Question::parse(text), lease::parse(text)));
    }
    let request = Request::collect(config.headers(), headers.iter().copied());
    let caller = match Caller::parse(&config, &request, peer) {
        Ok(caller) => caller,
        Err(refusal) => {
            serde_json::from_str::<serde_json::Value>(&refusal.json_body()).expect("JSON");
            return;
        }
    };
    let decision = decide(&config, &caller);
    let mut receipt = String::new();
    write_receipt(&mut receipt, &config, &decision, None).expect("strings take everything");
    assert_visible(&receipt);
    match &decision {
        Decision::Route(route) => {
            let mut name = String::new();
            route
                .write_cluster(&mut name)
                .expect("strings take everything");
            let parsed = ClusterName::parse(&name).expect("a cluster's name can be read");
            assert_eq!(parsed.to_string(), name);
            spend_all(&config, route, &headers);
            ask(route, request.is_grpc(), &headers);
            lease(route);
        }
        Decision::Reject(refusal) => {
            serde_json::from_str::<serde_json::Value>(&refusal.json_body()).expect("JSON");
        }
    }
});
