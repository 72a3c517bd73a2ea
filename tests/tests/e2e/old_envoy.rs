//! The oldest Envoy that is supported, for what matters most.

use isthmus_tests::ems::Node;
use isthmus_upstream::Client;

use crate::stage::shared;

pub(crate) const OLDEST: &str = "1.36.4";

#[test]
fn an_older_envoy_beside_a_caller() {
    let stage = shared();
    let us = &stage.mesh.us;
    let host = us.envoy(&Node::host("old").version(OLDEST)).unwrap();
    for (region, upstream) in [("us", "us-1"), ("eu", "eu-1"), ("any", "us-1")] {
        let reply = host.get("payments", region).unwrap();
        assert_eq!(reply.json()["upstream"], upstream, "{region}: {reply:?}");
        assert_eq!(reply.json()["headers"]["x-mesh-caller"], "us/old");
    }
    for (service, region, code) in [
        ("no_name", "us", "bad_service"),
        ("nobody", "us", "unknown_service"),
        ("nobody", "eu", "unknown_service"),
        ("payments", "mars", "unknown_region"),
    ] {
        assert_eq!(
            host.get(service, region).unwrap().error(),
            Some(code),
            "{service} {region}"
        );
    }
    let caller = Client::new(&host.address()).unwrap();
    let said = caller.say(&[("x-mesh-region", "eu")], "hello").unwrap();
    assert_eq!(said.message.upstream, "eu-1");
    assert_eq!(caller.chat(&[], &["a", "b"]).unwrap().len(), 2);
    assert_eq!(
        caller
            .say(&[("x-mesh-service", "nobody")], "")
            .unwrap_err()
            .code(),
        tonic::Code::NotFound
    );
}

#[test]
fn an_older_envoy_as_a_gateway() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let gateway = eu
        .envoy(&Node::gateway().named("old-gateway").version(OLDEST))
        .unwrap();
    let caller = crate::identity::Insider::through(us, gateway.port(), "visitor");
    let reply = caller.envoy.get("payments", "eu").unwrap();
    assert_eq!(reply.json()["upstream"], "eu-1", "{reply:?}");
    assert_eq!(reply.json()["headers"]["x-mesh-caller"], "us/visitor");
    assert_eq!(
        caller.envoy.get("payments", "us").unwrap().error(),
        Some("loop")
    );
}
