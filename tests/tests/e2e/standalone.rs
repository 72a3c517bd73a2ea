//! The filter in somebody's own Envoy, without EMS: `envoy-configs/standalone.yaml`, as it is but for its ports.

use std::{fs, path::Path};

use isthmus_tests::{Envoy, WorkDir, artifact, envoy::EnvoyOptions, port::Port};
use isthmus_upstream::{Client, Upstream};
use tonic::Code;

use crate::stage;

pub(crate) struct Standalone {
    pub(crate) envoy: Envoy,
    us: Upstream,
    _eu: Upstream,
    _ledger: Upstream,
    _dir: WorkDir,
}

/// With a filter in that file.
pub(crate) fn start(version: &str, filter: &Path) -> Standalone {
    let (us, eu) = (
        Upstream::start("us").unwrap(),
        Upstream::start("eu").unwrap(),
    );
    let ledger = Upstream::start("ledger").unwrap();
    let (admin, listen) = (Port::reserve().unwrap(), Port::reserve().unwrap());
    let path = artifact::workspace()
        .unwrap()
        .join("envoy-configs/standalone.yaml");
    let mut bootstrap = fs::read_to_string(path).unwrap();
    for (shipped, here) in [
        ("port_value: 9901", format!("port_value: {admin}")),
        ("port_value: 10000", format!("port_value: {listen}")),
        ("port_value: 8081", format!("port_value: {}", us.port())),
        ("port_value: 8082", format!("port_value: {}", eu.port())),
        ("port_value: 8083", format!("port_value: {}", ledger.port())),
        (
            "/etc/envoy/isthmus_filter.wasm",
            filter.display().to_string(),
        ),
        // The service of the file's gRPC cluster is made up; the upstream's is this one.
        (
            "bank.v1.ledgerservice",
            isthmus_upstream::ECHO_SERVICE.to_owned(),
        ),
    ] {
        assert!(
            bootstrap.contains(shipped),
            "standalone.yaml has no {shipped}"
        );
        bootstrap = bootstrap.replace(shipped, &here);
    }
    let dir = WorkDir::new("standalone").unwrap();
    let options = EnvoyOptions {
        name: "standalone".to_owned(),
        binary: artifact::envoy_version(version).unwrap(),
        bootstrap,
        arguments: Vec::new(),
        admin,
        listen,
        workers: 1,
    };
    let envoy = Envoy::start(&dir, options).unwrap();
    Standalone {
        envoy,
        us,
        _eu: eu,
        _ledger: ledger,
        _dir: dir,
    }
}

/// Everything that the file's comments promise.
fn check_promises(version: &str) {
    let mesh = start(version, &artifact::filter().unwrap());
    let envoy = &mesh.envoy;

    for (region, answers) in [("us", "us"), ("eu", "eu"), ("any", "us")] {
        let reply = envoy.get("payments", region).unwrap();
        assert_eq!(reply.status, 200, "{region}: {reply:?}");
        assert_eq!(reply.json()["upstream"], answers, "{region}");
    }
    let reply = envoy
        .call("GET", "/")
        .service("payments")
        .debug()
        .send()
        .unwrap();
    assert_eq!(
        reply.json()["upstream"],
        "us",
        "without a region: the own one"
    );
    let receipt = reply.header("x-mesh-receipt").unwrap();
    assert!(receipt.contains("standalone-1"), "{receipt}");

    for (service, region, code, status) in [
        ("ledger", "us", "denied", 403),
        ("nobody", "us", "unknown_service", 404),
        ("payments", "mars", "unknown_region", 404),
    ] {
        let reply = envoy.get(service, region).unwrap();
        assert_eq!(
            (reply.error(), reply.status),
            (Some(code), status),
            "{reply:?}"
        );
        assert_eq!(reply.json()["error"], code, "{reply:?}");
    }

    let report = envoy.call("GET", "/report").service("payments");
    let replies: Vec<_> = (0..6).map(|_| report.send().unwrap()).collect();
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    assert_eq!(replies[5].error(), Some("rate_limited"), "{replies:?}");
    assert!(replies[5].header("retry-after").is_some(), "{replies:?}");

    let grpc = Client::new(&envoy.address()).unwrap();
    let said = grpc.say(&[], "by the path alone").unwrap();
    assert_eq!(said.message.upstream, "ledger");
    let status = grpc.say(&[("x-mesh-service", "nobody")], "").unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");

    drop(mesh.us);
    let reply = envoy.get("payments", "us").unwrap();
    assert_eq!(
        (reply.error(), reply.status),
        (Some("no_healthy_endpoint"), 503),
        "refused by the upstream's machine: {reply:?}"
    );
    stage::reaches(envoy, "payments", "any", "eu");
}

#[test]
fn standalone_does_what_its_comments_say() {
    check_promises(artifact::ENVOY_VERSION);
}

#[test]
fn standalone_runs_on_older_envoys() {
    for version in artifact::OLDER_ENVOYS {
        eprintln!("Envoy {version}");
        check_promises(version);
    }
}
