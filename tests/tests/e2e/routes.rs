//! Requests arrive where they should: the service and region that a caller names, or leaves out.

use isthmus_tests::Reply;
use isthmus_upstream::Client;
use serde_json::Value;

use crate::stage::shared;

fn seen(reply: &Reply) -> (Value, Value) {
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    (body["upstream"].clone(), body["headers"].clone())
}

#[test]
fn a_local_call() {
    let stage = shared();
    let reply = stage.mesh.us.host.get("payments", "us").unwrap();
    let (upstream, headers) = seen(&reply);
    assert_eq!(upstream, "us-1");
    assert_eq!(headers["x-mesh-caller"], "us/client");
    assert_eq!(headers["x-mesh-destination"], "payments.us");
    assert!(headers["x-mesh-hops"].is_null(), "{headers}");
}

#[test]
fn a_remote_call() {
    let stage = shared();
    for (from, to) in [
        (&stage.mesh.us, &stage.mesh.eu),
        (&stage.mesh.eu, &stage.mesh.us),
    ] {
        let reply = from.host.get("payments", &to.name).unwrap();
        let (upstream, headers) = seen(&reply);
        assert_eq!(upstream, format!("{}-1", to.name));
        assert_eq!(
            headers["x-mesh-caller"],
            format!("{}/client", from.name),
            "from the certificate"
        );
        assert_eq!(
            headers["x-mesh-destination"],
            format!("payments.{}", to.name)
        );
        assert_eq!(headers["x-mesh-hops"], "1");
    }
}

#[test]
fn ways_to_name_a_destination() {
    let stage = shared();
    let host = &stage.mesh.us.host;
    type Headers = &'static [(&'static str, &'static str)];
    let table: &[(Headers, &str)] = &[
        // Without a region: the own one.
        (&[("x-mesh-service", "payments")], "us-1"),
        (
            &[("x-mesh-service", "PayMents"), ("x-mesh-region", "eu")],
            "eu-1",
        ),
        (
            &[("x-mesh-service", "payments"), ("x-mesh-region", "EU")],
            "eu-1",
        ),
        (
            &[("x-mesh-service", "payments"), ("x-mesh-region", "any")],
            "us-1",
        ),
        (&[("host", "payments.mesh")], "us-1"),
        (
            &[("host", "payments.mesh"), ("x-mesh-region", "eu")],
            "eu-1",
        ),
        (&[("host", "payments.eu.mesh")], "eu-1"),
        (&[("host", "payments.eu.mesh:8080")], "eu-1"),
        // The header counts, not the host.
        (
            &[("host", "nobody.mesh"), ("x-mesh-service", "payments")],
            "us-1",
        ),
    ];
    for (headers, expected) in table {
        let call = headers
            .iter()
            .fold(host.call("GET", "/"), |call, (name, value)| {
                call.header(name, value)
            });
        let reply = call.send().unwrap();
        assert_eq!(
            reply.json()["upstream"],
            *expected,
            "{headers:?}: {reply:?}"
        );
    }
}

#[test]
fn a_grpc_service_is_named_by_its_path() {
    let stage = shared();
    let caller = Client::new(&stage.mesh.us.host.address()).unwrap();
    let said = caller.say(&[], "no header at all").unwrap();
    assert_eq!(said.message.upstream, "us-1");
    let said = caller.say(&[("x-mesh-region", "eu")], "a region").unwrap();
    assert_eq!(said.message.upstream, "eu-1");
    assert_eq!(said.message.headers["x-mesh-caller"], "us/client");
}

#[test]
fn a_grpc_service_is_named_by_its_host() {
    let stage = shared();
    let address = stage.mesh.us.host.address();
    let caller = Client::with_authority(&address, "payments.eu.mesh").unwrap();
    let answer = caller.http2("GET", "/", &[]).unwrap();
    assert_eq!(answer.body["upstream"], "eu-1", "{answer:?}");
}

#[test]
fn a_receipt_tells_every_decision() {
    let stage = shared();
    let host = &stage.mesh.us.host;
    let ask = |region: &str| {
        let call = host.call("GET", "/").service("payments").region(region);
        let without = call.send().unwrap();
        assert_eq!(
            without.header("x-mesh-receipt"),
            None,
            "only when asked for"
        );
        let reply = call.debug().send().unwrap();
        let receipts: Vec<String> = reply
            .headers
            .iter()
            .filter(|(name, _)| name == "x-mesh-receipt")
            .map(|(_, value)| value.clone())
            .collect();
        receipts.join(", ")
    };
    let local = ask("us");
    for part in [
        "\"us\";mode=outbound",
        "kind=local",
        "destination=\"payments.us\"",
        "config=",
    ] {
        assert!(local.contains(part), "{part} in {local}");
    }
    assert!(!local.contains("mode=gateway"), "{local}");
    let remote = ask("eu");
    for part in [
        "\"us\";mode=outbound",
        "kind=remote",
        "\"eu\";mode=gateway",
        "destination=\"payments.eu\"",
    ] {
        assert!(remote.contains(part), "{part} in {remote}");
    }
}

#[test]
fn decisions_are_counted() {
    let stage = shared();
    let host = &stage.mesh.us.host;
    for (service, region, counter) in [
        ("payments", "us", "isthmus.routed.local"),
        ("payments", "eu", "isthmus.routed.remote"),
        ("payments", "any", "isthmus.routed.any"),
        ("payments", "mars", "isthmus.refused.unknown_region"),
        ("no_name", "us", "isthmus.refused.bad_service"),
    ] {
        let before = host.stat_sum(counter).unwrap();
        host.get(service, region).unwrap();
        // They are handed over to Envoy now and then.
        isthmus_tests::eventually(&format!("{counter} to grow"), || {
            host.stat_sum(counter).is_ok_and(|now| now > before)
        })
        .unwrap();
    }
}
