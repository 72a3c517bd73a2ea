//! The filter alone, in an Envoy that takes its config from a file by ECDS: what it lets through, what it turns away,
//! and what becomes of a config that is no good.

use std::fs;

use isthmus_tests::{Call, Envoy, Reply, WorkDir, artifact, eventually};
use isthmus_upstream::{Client, Upstream};
use serde_json::{Value, json};
use tonic::Code;

pub(crate) struct Stage {
    pub(crate) envoy: Envoy,
    pub(crate) dir: WorkDir,
    _us: Upstream,
    _eu: Upstream,
}

/// An Envoy with this filter config, and `payments` in both regions.
fn start(config: &Value) -> Stage {
    start_with(config, 1)
}

/// [`start`] with so many worker threads.
pub(crate) fn start_with(config: &Value, workers: u32) -> Stage {
    let (us, eu) = (
        Upstream::start("us").unwrap(),
        Upstream::start("eu").unwrap(),
    );
    let dir = WorkDir::new("filter").unwrap();
    put_config(&dir, config);
    let clusters: Vec<Value> = [("payments.us", &us), ("payments.eu", &eu)]
        .map(|(name, upstream)| cluster(name, upstream.port()))
        .into();
    let envoy = Envoy::with_workers(&dir, "envoy", workers, |admin, listen| {
        Ok(json!({
            "node": {"id": "filter", "cluster": "filter"},
            "admin": {"address": address(admin.number())},
            "static_resources": {
                "listeners": [listener(listen.number(), &dir)],
                "clusters": clusters,
            },
        })
        .to_string())
    });
    Stage {
        envoy: envoy.unwrap(),
        dir,
        _us: us,
        _eu: eu,
    }
}

/// Replaces the file that Envoy watches; it looks when a file is moved there.
pub(crate) fn put_config(dir: &WorkDir, config: &Value) {
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
    let new = dir.write("ecds.json.new", &resource.to_string()).unwrap();
    fs::rename(new, dir.path().join("ecds.json")).unwrap();
}

fn listener(port: u16, dir: &WorkDir) -> Value {
    let filters = json!([
        {
            "name": "isthmus",
            "config_discovery": {
                "config_source": {"path_config_source": {"path": dir.path().join("ecds.json")}},
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
    let reply = stage
        .envoy
        .call("GET", "/")
        .service("payments")
        .debug()
        .send()
        .ok()?;
    let (_, rest) = reply.header("x-mesh-receipt")?.split_once("config=\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[test]
fn a_bad_config_is_kept_out_and_every_reason_logged() {
    let stage = start(&config());
    assert_eq!(version_in_force(&stage).as_deref(), Some("1"));

    put_config(
        &stage.dir,
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
    put_config(&stage.dir, &good);
    eventually("config 3 in force", || {
        version_in_force(&stage).as_deref() == Some("3")
    })
    .unwrap();
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
