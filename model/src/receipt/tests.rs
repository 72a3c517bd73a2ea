//! Receipts, word for word.

use super::*;
use crate::{
    decide::decide,
    request::{
        Caller, Peer, Request,
        tests::{config, pairs},
    },
    testing::test,
};

fn check(json: &str, headers: &str, want: &str) {
    let config = config(json);
    let request = Request::collect(config.headers(), pairs(headers));
    let peer = Peer {
        uri: Some(b"spiffe://mesh.internal/region/us/service/orders"),
        server_name: Some(b"us.mesh.internal"),
    };
    let caller = Caller::parse(&config, &request, peer).expect(headers);
    let mut got = String::new();
    write_receipt(&mut got, &config, &decide(&config, &caller)).expect("strings take everything");
    assert_eq!(got, want);
}

#[test]
fn receipts() {
    check(
        r#"{"region": "us"}"#,
        "x-mesh-service: a",
        r#""us";mode=outbound;config="";rule="open";kind=local;destination="a.us""#,
    );
    check(
        r#"{"version": "7", "region": "us", "regions": ["eu"], "caller": "us/orders"}"#,
        "x-mesh-service: a\nx-mesh-region: eu",
        r#""us";mode=outbound;config="7";rule="elsewhere";kind=remote;destination="a.eu";caller="us/orders""#,
    );
    check(
        r#"{"version": "9", "region": "eu", "mode": "gateway", "services": {"a": {"allow": ["us/*"]}}}"#,
        "x-mesh-service: a",
        r#""eu";mode=gateway;config="9";rule="us/*";kind=local;destination="a.eu";caller="us/orders""#,
    );
    check(
        r#"{"region": "us"}"#,
        "x-mesh-service: a\nx-mesh-region: eu",
        r#""us";mode=outbound;config="";refused=unknown_region"#,
    );
}
