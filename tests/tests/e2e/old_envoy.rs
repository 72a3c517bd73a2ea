//! The older Envoys that are supported, for what matters most.

use isthmus_tests::{ems::Node, eventually};
use isthmus_upstream::Client;

use crate::stage::shared;

/// A module for each, so that they run side by side and a failure names the version.
macro_rules! older_envoys {
    ($($module:ident: $version:literal),+ $(,)?) => {
        $(mod $module {
            #[test]
            fn beside_a_caller() {
                super::beside_a_caller($version);
            }

            #[test]
            fn as_a_gateway() {
                super::as_a_gateway($version);
            }

            #[test]
            fn limits_of_the_region() {
                crate::region_limits::an_older_envoy_asks_too($version);
            }
        })+

        #[test]
        fn all_that_are_supported_are_run() {
            assert_eq!([$($version),+], isthmus_tests::artifact::OLDER_ENVOYS);
        }
    };
}

older_envoys! { v1_36: "1.36.4", v1_37: "1.37.0", v1_38: "1.38.2", v1_39: "1.39.3" }

fn beside_a_caller(version: &str) {
    let stage = shared();
    let us = &stage.mesh.us;
    let name = format!("old-{}", version.replace('.', "-"));
    let host = us.envoy(&Node::host(&name).version(version)).unwrap();
    for (region, upstream) in [("us", "us-1"), ("eu", "eu-1"), ("any", "us-1")] {
        let reply = host.get("payments", region).unwrap();
        assert_eq!(reply.json()["upstream"], upstream, "{region}: {reply:?}");
        assert_eq!(
            reply.json()["headers"]["x-mesh-caller"],
            format!("us/{name}")
        );
    }
    // Its counters lag by the time that the filter collects them.
    let counted = "wasmcustom.isthmus.routed.any";
    eventually("the request to be counted", || {
        host.stat(counted).is_ok_and(|count| count > 0)
    })
    .unwrap();
    let runs = if version < "1.38" { 2 } else { 1 };
    assert_eq!(host.stat(counted).unwrap(), runs, "as the docs say");
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

fn as_a_gateway(version: &str) {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let gateway = eu
        .envoy(
            &Node::gateway()
                .named(&format!("gateway-{version}"))
                .version(version),
        )
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
