//! What is asked for, and the bootstrap that it makes.

use clap::Parser;
use serde_json::Value;

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    bootstrap: BootstrapArgs,
}

fn parse(arguments: &str) -> Result<BootstrapArgs, String> {
    let words = ["bootstrap"]
        .into_iter()
        .chain(arguments.split_whitespace());
    match Command::try_parse_from(words) {
        Ok(command) => Ok(command.bootstrap),
        Err(error) => Err(error.to_string()),
    }
}

/// The value at a JSON pointer of what is printed.
fn check(arguments: &str, pointer: &str, expect: &str) {
    let text = bootstrap(&parse(arguments).unwrap(), "h1").unwrap();
    let yaml: Value = serde_saphyr::from_str(&text).unwrap();
    let found = yaml.pointer(pointer).map(Value::to_string);
    assert_eq!(found.as_deref().unwrap_or("nothing"), expect, "{arguments}");
}

const HOST: &str = "--kind host --service orders --region us";
const GATEWAY: &str = "--kind gateway --region eu";

#[test]
fn values_reach_their_place() {
    let cases = [
        (HOST, "", "/node/id", r#""host-orders-h1""#),
        (HOST, "--node-id a:b#c", "/node/id", r#""a:b#c""#),
        (HOST, "--node-id <zone>", "/node/id", r#""<zone>""#),
        (HOST, "", "/node/locality/region", r#""us""#),
        (HOST, "", "/node/locality/zone", r#""""#),
        (HOST, "--zone no", "/node/locality/zone", r#""no""#),
        (HOST, "", "/node/metadata/isthmus/kind", r#""host""#),
        (HOST, "", "/node/metadata/isthmus/service", r#""orders""#),
        (
            HOST,
            "",
            "/node/metadata/isthmus/listen",
            r#""127.0.0.1:10000""#,
        ),
        (
            HOST,
            "--listen [::1]:1",
            "/node/metadata/isthmus/listen",
            r#""[::1]:1""#,
        ),
        (HOST, "", "/node/metadata/isthmus/uses", "[]"),
        (
            HOST,
            "--uses a,b.eu",
            "/node/metadata/isthmus/uses",
            r#"["a","b.eu"]"#,
        ),
        (HOST, "--eager", "/node/metadata/isthmus/eager", "true"),
        (HOST, "", "/dynamic_resources/cds_config", "nothing"),
        (
            HOST,
            "--eager",
            "/dynamic_resources/cds_config/resource_api_version",
            r#""V3""#,
        ),
        (
            HOST,
            "--uses a",
            "/dynamic_resources/cds_config/resource_api_version",
            r#""V3""#,
        ),
        (
            HOST,
            "--admin 127.0.0.1:7",
            "/admin/address/socket_address/port_value",
            "7",
        ),
        (GATEWAY, "", "/node/id", r#""gateway-h1""#),
        (GATEWAY, "", "/node/cluster", r#""gateway""#),
        (
            GATEWAY,
            "",
            "/node/metadata/isthmus/listen",
            r#""0.0.0.0:15443""#,
        ),
        (
            GATEWAY,
            "--xds ems-eu:1",
            "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address",
            r#"{"address":"ems-eu","port_value":1}"#,
        ),
    ];
    for (base, more, pointer, expect) in cases {
        check(&format!("{base} {more}"), pointer, expect);
    }
}

const GRPC: &str = "--kind grpc --service orders --region us";

#[test]
fn grpc_gets_json() {
    let cases = [
        ("", "/node/id", r#""grpc-orders-h1""#),
        ("--node-id <zone>", "/node/id", r#""<zone>""#),
        ("", "/node/cluster", r#""orders""#),
        ("--zone no", "/node/locality/zone", r#""no""#),
        (
            "",
            "/node/metadata/isthmus",
            r#"{"kind":"grpc","region":"us","service":"orders"}"#,
        ),
        ("", "/xds_servers/0/server_uri", r#""127.0.0.1:18000""#),
        ("--xds [::1]:7", "/xds_servers/0/server_uri", r#""[::1]:7""#),
        (
            "--xds ems.us:7",
            "/xds_servers/0/server_uri",
            r#""ems.us:7""#,
        ),
    ];
    for (more, pointer, expect) in cases {
        let text = bootstrap(&parse(&format!("{GRPC} {more}")).unwrap(), "h1").unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json.pointer(pointer).unwrap().to_string(), expect, "{more}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let cases = [
        (
            "--kind sidecart --region us",
            "say sidecar, host, gateway or grpc",
        ),
        ("--kind host --region us", "--service"),
        ("--kind host --service orders", "--region"),
        ("--kind grpc --region us", "--service"),
        ("--kind gateway --region any", "reserved"),
        ("--kind gateway --region us --xds here", "write host:port"),
        ("--kind gateway --region us --xds a:0", "1 to 65535"),
        ("--kind gateway --region us --xds a/b:1", "no address"),
    ];
    for (arguments, part) in cases {
        let error = parse(arguments).unwrap_err();
        assert!(error.contains(part), "{arguments}: {error}");
    }
}

#[test]
fn grpc_has_nothing_of_an_envoy() {
    for (more, flags) in [
        ("--listen 127.0.0.1:1", "--listen: "),
        ("--admin 127.0.0.1:1", "--admin: "),
        ("--filter x.wasm", "--filter: "),
        ("--uses a", "--uses: "),
        ("--eager", "--eager: "),
        ("--eager --listen 127.0.0.1:1", "--listen, --eager: "),
    ] {
        let args = parse(&format!("{GRPC} {more}")).unwrap();
        let error = bootstrap(&args, "h1").unwrap_err().to_string();
        assert!(error.starts_with(flags), "{more}: {error}");
    }
}

#[test]
fn templates_are_yaml_themselves_and_hold_nothing_unknown() {
    for kind in NodeKind::ALL {
        let yaml: Value = serde_saphyr::from_str(template(kind)).unwrap();
        assert_eq!(
            yaml.pointer("/node/metadata/isthmus/kind").unwrap(),
            kind.as_str()
        );
        let filled = bootstrap(
            &parse(&format!("--kind {kind} --service s --region r")).unwrap(),
            "h",
        )
        .unwrap();
        for line in filled
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
        {
            assert!(!line.contains('<'), "{kind}: {line}");
        }
    }
}

/// The labels of the filter's metrics do not depend on who made the bootstrap.
#[test]
fn metrics_have_the_same_labels_in_all() {
    let stats = |text: &str| {
        let yaml: Value = serde_saphyr::from_str(text).unwrap();
        yaml.pointer("/stats_config").unwrap().clone()
    };
    let standalone = stats(include_str!("../../../envoy-configs/standalone.yaml"));
    for kind in NodeKind::ALL {
        let filled = parse(&format!("--kind {kind} --service s --region r")).unwrap();
        assert_eq!(stats(&bootstrap(&filled, "h").unwrap()), standalone);
        assert_eq!(stats(template(kind)), standalone);
    }
}
