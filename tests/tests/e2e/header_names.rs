//! The headers of the request contract under other names, over the whole way of a request.

use isthmus_tests::{Region, Reply, ems::EmsOptions, eventually};
use isthmus_upstream::Upstream;
use serde_json::json;

fn region(name: &str) -> Region {
    let names = [
        ("--header-service", "x-to"),
        ("--header-region", "x-at"),
        ("--header-destination", "x-cluster"),
        ("--header-caller", "x-from"),
        ("--header-hops", "x-passed"),
        ("--header-error", "X-Why"),
        ("--header-receipt", "x-how"),
        ("--header-debug", "x-tell"),
    ];
    let options = EmsOptions {
        region: name.to_owned(),
        arguments: names
            .into_iter()
            .flat_map(|(flag, name)| [flag.to_owned(), name.to_owned()])
            .collect(),
        ..EmsOptions::default()
    };
    Region::with(options).unwrap()
}

#[test]
fn renamed_headers_work_from_the_caller_to_the_service() {
    let (us, eu) = (region("us"), region("eu"));
    eu.introduce_to(&us).unwrap();
    us.introduce_to(&eu).unwrap();
    let upstream = Upstream::start("eu-1").unwrap();
    eu.serve("payments", json!({}), upstream.port()).unwrap();
    let ask = |headers: &[(&str, &str)]| -> Reply {
        let call = us.host.call("GET", "/");
        let call = headers
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        call.send().unwrap()
    };

    let reply = eventually("the remote service to be reached", || {
        let reply = ask(&[("x-to", "payments"), ("x-at", "eu"), ("x-tell", "1")]);
        (reply.status == 200).then_some(reply)
    })
    .unwrap();
    let seen = &reply.json()["headers"];
    assert_eq!(seen["x-cluster"], "payments.eu");
    assert_eq!(seen["x-from"], "us/client");
    assert_eq!(seen["x-passed"], "1");
    assert!(!seen.to_string().contains("x-mesh-"), "{seen}");
    assert!(reply.header("x-how").is_some(), "{reply:?}");

    for (headers, code) in [
        // By the filter, by this region's Envoy, and by the gateway's.
        (&[("x-mesh-service", "payments")][..], "missing_service"),
        (&[("x-to", "payments"), ("x-at", "mars")], "unknown_region"),
        (&[("x-to", "nobody"), ("x-at", "us")], "unknown_service"),
        (&[("x-to", "nobody"), ("x-at", "eu")], "unknown_service"),
    ] {
        let reply = ask(headers);
        assert_eq!(reply.header("x-why"), Some(code), "{headers:?}: {reply:?}");
        assert_eq!(reply.error(), None, "{reply:?}");
    }
    // Who asks for any region goes on from here, where the service is unknown, to where it is.
    let reply = ask(&[("x-to", "payments"), ("x-at", "any")]);
    assert_eq!(reply.json()["upstream"], "eu-1");
    drop(upstream);
}
