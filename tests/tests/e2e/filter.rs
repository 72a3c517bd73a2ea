//! The filter alone, in an Envoy that takes its config from a file by ECDS: what it lets through, what it turns away,
//! and what becomes of a config that is no good.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, ensure};
use isthmus_tests::{Call, Envoy, Load, Port, Reply, WorkDir, artifact, eventually};
use isthmus_upstream::{Client, Upstream};
use serde_json::{Value, json};
use tonic::Code;

pub(crate) struct Stage {
    pub(crate) envoy: Envoy,
    pub(crate) dir: WorkDir,
    us: Upstream,
    _eu: Upstream,
}

/// The file that the listener has its filter config from.
pub(crate) const FIRST: &str = "ecds.json";

/// An Envoy with this filter config, and `payments` in both regions.
fn start(config: &Value) -> Stage {
    start_beside(config, 1, None)
}

/// [`start`] with so many worker threads.
pub(crate) fn start_with(config: &Value, workers: u32) -> Stage {
    start_beside(config, workers, None)
}

/// The same, with one more listener on a port, with a config of its own in a file of its own.
fn start_beside(config: &Value, workers: u32, other: Option<(&Port, &str, &Value)>) -> Stage {
    let (us, eu) = (
        Upstream::start("us").unwrap(),
        Upstream::start("eu").unwrap(),
    );
    let dir = WorkDir::new("filter").unwrap();
    put_config(&dir, FIRST, config);
    if let Some((_, file, config)) = other {
        put_config(&dir, file, config);
    }
    let clusters: Vec<Value> = [("payments.us", &us), ("payments.eu", &eu)]
        .map(|(name, upstream)| cluster(name, upstream.port()))
        .into();
    let envoy = Envoy::with_workers(&dir, "envoy", workers, |admin, listen| {
        let listeners: Vec<Value> = other
            .iter()
            .map(|&(port, file, _)| (port, file))
            .chain([(listen, FIRST)])
            .map(|(port, file)| listener(port.number(), &dir, file))
            .collect();
        Ok(json!({
            "node": {"id": "filter", "cluster": "filter"},
            "admin": {"address": address(admin.number())},
            "static_resources": {
                "listeners": listeners,
                "clusters": clusters,
            },
        })
        .to_string())
    });
    Stage {
        envoy: envoy.unwrap(),
        dir,
        us,
        _eu: eu,
    }
}

/// Replaces the file that Envoy watches; it looks when a file is moved there.
pub(crate) fn put_config(dir: &WorkDir, file: &str, config: &Value) {
    let resource = json!({
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "isthmus",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    "name": "isthmus",
                    "failure_policy": "FAIL_RELOAD",
                    "vm_config": {
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": {"local": {"filename": artifact::filter().unwrap()}},
                    },
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": config.to_string(),
                    },
                },
            },
        }],
    });
    let new = dir
        .write(&format!("{file}.new"), &resource.to_string())
        .unwrap();
    fs::rename(new, dir.path().join(file)).unwrap();
}

fn listener(port: u16, dir: &WorkDir, file: &str) -> Value {
    let filters = json!([
        {
            "name": "isthmus",
            "config_discovery": {
                "config_source": {"path_config_source": {"path": dir.path().join(file)}},
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
            },
        },
        {
            "name": "router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        },
    ]);
    let route =
        json!({"match": {"prefix": "/"}, "route": {"cluster_header": "x-mesh-destination"}});
    json!({
        "address": address(port),
        "filter_chains": [{"filters": [{
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "outbound",
                "http_filters": filters,
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            },
        }]}],
    })
}

fn cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
    })
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn config() -> Value {
    json!({
        "version": "1", "region": "us", "regions": ["eu", "us"], "caller": "us/orders", "debug": true,
        "services": {"vault": {"allow": ["us/payments"]}},
    })
}

pub(crate) fn version_in_force(stage: &Stage) -> Option<String> {
    let call = stage.envoy.call("GET", "/").service("payments").debug();
    version_in(call.send().ok()?.header("x-mesh-receipt")?)
}

fn version_in(receipt: &str) -> Option<String> {
    let (_, rest) = receipt.split_once("config=\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// A config whose version and caller have the same number.
fn numbered(n: u32) -> Value {
    let mut config = config();
    config["version"] = json!(n.to_string());
    config["caller"] = json!(format!("us/caller-{n}"));
    config
}

#[test]
fn a_bad_config_is_kept_out_and_every_reason_logged() {
    let stage = start(&config());
    assert_eq!(version_in_force(&stage).as_deref(), Some("1"));

    put_config(
        &stage.dir,
        FIRST,
        &json!({"version": "2", "region": "u s", "services": {"a": {"allow": ["x"]}}}),
    );
    let said = [
        "bad config: region: has ' ' at offset 1",
        "bad config: services.a.allow[0]: has no slash",
    ];
    eventually("both reasons in the log", || {
        let log = stage.envoy.log();
        said.iter().all(|reason| log.contains(reason))
    })
    .unwrap();
    assert_eq!(version_in_force(&stage).as_deref(), Some("1"));

    let mut good = config();
    good["version"] = json!("3");
    put_config(&stage.dir, FIRST, &good);
    eventually("config 3 in force", || {
        version_in_force(&stage).as_deref() == Some("3")
    })
    .unwrap();
}

#[test]
fn two_configs_in_one_vm_are_told_apart() {
    let mut other = numbered(2);
    other["default_region"] = json!("eu");
    let port = Port::reserve().unwrap();
    let stage = start_beside(&numbered(1), 1, Some((&port, "other.json", &other)));
    let (first, second) = (
        format!("http://{}/", stage.envoy.address()),
        format!("http://{}/", port.address()),
    );
    let check = |first_caller: &str| {
        for _ in 0..10 {
            for (url, upstream, caller) in
                [(&first, "us", first_caller), (&second, "eu", "us/caller-2")]
            {
                let reply = Call::new("GET", url).service("payments").send().unwrap();
                assert_eq!(reply.json()["upstream"], upstream, "{reply:?}");
                assert_eq!(reply.json()["headers"]["x-mesh-caller"], caller);
            }
        }
    };
    eventually("the second listener", || {
        Call::new("GET", &second).service("payments").send()?.ok()
    })
    .unwrap();
    check("us/caller-1");
    let vms = |stage: &Stage| {
        stage
            .envoy
            .stat("wasm.envoy.wasm.runtime.v8.active")
            .unwrap()
    };
    let alone = start(&config());
    assert_eq!(
        vms(&stage),
        vms(&alone),
        "so there is something to tell apart"
    );
    assert!(vms(&alone) > 0);

    put_config(&stage.dir, FIRST, &numbered(3));
    eventually("config 3 in force", || {
        version_in_force(&stage).as_deref() == Some("3")
    })
    .unwrap();
    check("us/caller-3");
}

#[test]
fn every_request_is_decided_by_one_config_while_configs_change() {
    let stage = start(&numbered(0));
    let call = stage.envoy.call("GET", "/").service("payments").debug();
    let load = Load::start(2, Duration::from_millis(2), move || {
        let reply = call.send()?.ok()?;
        let version = reply.header("x-mesh-receipt").and_then(version_in);
        let version = version.context("no receipt")?;
        let caller = &reply.json()["headers"]["x-mesh-caller"];
        ensure!(*caller == format!("us/caller-{version}"), "{reply:?}");
        Ok(version)
    });
    load.answered_more(20).unwrap();
    // A stream that does not end keeps its config beside those that follow.
    let mut open = TcpStream::connect(stage.envoy.address()).unwrap();
    let head = "POST / HTTP/1.1\r\nhost: open\r\nx-mesh-service: payments\r\nx-mesh-debug: 1\r\n\
                content-length: 1\r\nconnection: close\r\n\r\n";
    open.write_all(head.as_bytes()).unwrap();
    eventually("the open stream to be routed", || stage.us.in_flight() > 0).unwrap();
    for n in 1..=3 {
        put_config(&stage.dir, FIRST, &numbered(n));
        eventually("the next config in force", || {
            version_in_force(&stage) == Some(n.to_string())
        })
        .unwrap();
        for _ in 0..5 {
            assert_eq!(version_in_force(&stage), Some(n.to_string()));
        }
        load.answered_more(20).unwrap();
    }
    open.write_all(b"x").unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(";config=\"0\""), "{answer}");
    assert!(answer.contains("us/caller-0"), "{answer}");
    load.answered_more(20).unwrap();
    let report = load.finish();
    assert_eq!(report.failed, 0, "{report:?}");
    for n in 0..=3 {
        assert!(report.by(&n.to_string()) > 0, "{report:?}");
    }
}

#[test]
fn internal_headers_are_issued_by_the_filter_alone() {
    let stage = start(&config());
    let reply = stage
        .envoy
        .call("GET", "/")
        .service("payments")
        .region("eu")
        .header("x-mesh-destination", "vault.us")
        .header("x-mesh-destination", "vault.eu")
        .header("x-mesh-caller", "us/payments")
        .header("x-mesh-caller", "us/admin")
        .header("x-mesh-hops", "7")
        .header("x-mesh-receipt", "forged")
        .send()
        .unwrap();
    let seen = reply.json();
    assert_eq!(seen["upstream"], "eu", "{reply:?}");
    let headers = &seen["headers"];
    assert_eq!(headers["x-mesh-destination"], "payments.eu");
    assert_eq!(headers["x-mesh-caller"], "us/orders");
    assert_eq!(headers["x-mesh-hops"], Value::Null);
    assert_eq!(headers["x-mesh-receipt"], Value::Null);
    assert_eq!(reply.header("x-mesh-receipt"), None, "none was asked for");
}

#[test]
fn header_values_of_any_bytes_and_size() {
    let stage = start(&config());
    let check = |call: Call, want: Result<&str, &str>| {
        let reply: Reply = call.send().unwrap();
        match want {
            Ok(upstream) => assert_eq!(reply.json()["upstream"], upstream, "{reply:?}"),
            Err(code) => {
                assert_eq!(
                    (reply.status, reply.error()),
                    (400, Some(code)),
                    "{reply:?}"
                );
                assert_eq!(reply.json()["error"], code, "{reply:?}");
            }
        }
    };
    let call = || stage.envoy.call("GET", "/");
    let payments = || call().service("payments");
    check(payments().header("x-other", b"\xff\xfe"), Ok("us"));
    check(payments().header("x-mesh-caller", b"\xff"), Ok("us"));
    check(payments().header("x-mesh-hops", b"\x80"), Ok("us"));
    check(
        call().header("x-mesh-service", b"pay\xffments"),
        Err("bad_service"),
    );
    check(
        payments().header("x-mesh-region", b"\xc3\x28"),
        Err("bad_region"),
    );
    check(
        payments().header("x-mesh-version", b"\xff"),
        Err("bad_version"),
    );
    check(call().service(&"a".repeat(254)), Err("bad_service"));
    check(call().service(&"a".repeat(50_000)), Err("bad_service"));
    check(payments().region(&"a".repeat(64)), Err("bad_region"));
    check(
        payments().header("x-mesh-version", "a".repeat(64)),
        Err("bad_version"),
    );
    check(payments().header("x-other", "a".repeat(50_000)), Ok("us"));
    check(payments().region("eu"), Ok("eu"));
}

#[test]
fn refusals_for_grpc_callers() {
    let stage = start(&config());
    let client = Client::new(&stage.envoy.address()).unwrap();
    for (headers, code, error) in [
        (
            ("x-mesh-service", "a b"),
            Code::InvalidArgument,
            "bad_service",
        ),
        (("x-mesh-region", "mars"), Code::NotFound, "unknown_region"),
        (
            ("x-mesh-service", "vault"),
            Code::PermissionDenied,
            "denied",
        ),
    ] {
        let status = client.say(&[headers], "hello").unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        let said = status.metadata().get("x-mesh-error").unwrap();
        assert_eq!(said, error, "{status:?}");
        assert!(!status.message().contains('{'), "{status:?}");
    }
}

#[test]
fn decisions_are_counted() {
    let stage = start(&config());
    for (service, region, times) in [
        ("payments", "us", 3),
        ("payments", "eu", 2),
        ("vault", "us", 1),
    ] {
        for _ in 0..times {
            stage.envoy.get(service, region).unwrap();
        }
    }
    for (counter, want) in [
        ("routed.local", 3),
        ("routed.remote", 2),
        ("refused.denied", 1),
    ] {
        let name = format!("wasmcustom.isthmus.{counter}");
        eventually(&name, || {
            stage.envoy.stat(&name).is_ok_and(|count| count == want)
        })
        .unwrap();
    }
}
