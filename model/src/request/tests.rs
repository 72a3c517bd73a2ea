//! What is made of headers: tables of headers and what they mean.

use super::*;
use crate::{config::RawConfig, testing::test};

pub(crate) fn config(json: &str) -> Config {
    let raw: RawConfig = serde_json::from_str(json).expect(json);
    Config::check(raw).expect(json)
}

/// Headers from lines `name: value`.
pub(crate) fn pairs(lines: &str) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line
                .split_once(": ")
                .unwrap_or((line.trim_end_matches(':'), ""));
            (name.as_bytes(), value.as_bytes())
        })
}

const US: &str = r#"{"region": "us", "regions": ["eu", "ap-south-1"]}"#;

/// Checks what is made of some headers: `<service>@<version> <region>`, or `<code>: <message>`.
fn check(headers: &str, want: &str) {
    check_pairs(pairs(headers), want);
}

fn check_pairs<'a>(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>, want: &str) {
    let config = config(US);
    let headers: Vec<_> = headers.collect();
    let request = Request::collect(config.headers(), headers.iter().copied());
    let got = match Caller::parse(&config, &request, Peer::default()) {
        Err(refusal) => refusal.to_string(),
        Ok(caller) => {
            let region = match &caller.region {
                Wish::Default => "-",
                Wish::Any => "any",
                Wish::Region(name) => name,
            };
            match &caller.version {
                None => format!("{} {region}", caller.service),
                Some(version) => format!("{}@{version} {region}", caller.service),
            }
        }
    };
    assert_eq!(got, want, "{headers:?}");
}

#[test]
fn service_from_the_header() {
    check("x-mesh-service: payments", "payments -");
    check("x-mesh-service: Payments.V1", "payments.v1 -");
    check("x-mesh-service:", "bad_service: x-mesh-service is empty");
    check(
        "x-mesh-service: pay/ments",
        "bad_service: x-mesh-service has '/' at offset 3, where a name has none",
    );
    check(
        "x-mesh-service: a\nx-mesh-service: a",
        "bad_service: x-mesh-service is given more than once: send one value",
    );
    check(
        "x-mesh-service: a,b",
        "bad_service: x-mesh-service has ',' at offset 1, where a name has none",
    );
    check(
        ":path: /\n:authority: payments",
        "missing_service: the request names no service: set x-mesh-service, or use a host <service>.mesh",
    );
}

#[test]
fn service_from_the_grpc_path() {
    let check_path = |path: &str, want: &str| {
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web",
        ] {
            check(
                &format!(":path: {path}\ncontent-type: {content_type}"),
                want,
            );
        }
    };
    check_path("/bank.v1.LedgerService/Apply", "bank.v1.ledgerservice -");
    check_path("/Ledger/Apply", "ledger -");
    check_path("/", "bad_service: the gRPC service in the path is empty");
    check_path(
        "//Apply",
        "bad_service: the gRPC service in the path is empty",
    );
    check_path("*", "bad_service: the gRPC service in the path is empty");
    check_path(
        "/my_package.Ledger/Apply",
        "bad_service: the gRPC service in the path has '_' at offset 2, where a name has none",
    );
    check(
        ":path: /a.B/C\ncontent-type: application/grpc\nx-mesh-service: other",
        "other -",
    );
    check(
        ":path: /a.B/C\ncontent-type: application/grpc\n:authority: other.mesh",
        "a.b -",
    );
    check(
        ":path: /a.B/C\ncontent-type: application/json\n:authority: other.mesh",
        "other -",
    );
}

#[test]
fn service_from_the_host() {
    let check_host = |host: &str, want: &str| check(&format!(":path: /\n:authority: {host}"), want);
    check_host("payments.mesh", "payments -");
    check_host("Payments.Mesh:8080", "payments -");
    check_host("payments.eu.mesh", "payments eu");
    check_host("payments.EU.mesh", "payments eu");
    check_host("payments.us.mesh", "payments us");
    check_host("payments.ap-south-1.mesh", "payments ap-south-1");
    check_host("payments.any.mesh", "payments any");
    // Not a region, so part of the service's name.
    check_host("payments.v1.mesh", "payments.v1 -");
    check_host("payments.v1.eu.mesh", "payments.v1 eu");
    // A region's name alone is a service.
    check_host("eu.mesh", "eu -");
    check_host("eu.eu.mesh", "eu eu");
    check_host(".mesh", "bad_service: the service in the host is empty");
    check_host(".eu.mesh", "bad_service: the service in the host is empty");
    check_host(
        "a..mesh",
        "bad_service: the service in the host has '.' at offset 1, where a name has none",
    );
    let missing = "missing_service: the request names no service: set x-mesh-service, or use a host <service>.mesh";
    check_host("mesh", missing);
    check_host("payments.mesh.example", missing);
    check_host("[::1]:80", missing);
    check_host("", missing);
}

#[test]
fn regions() {
    let check_region = |region: &str, want: &str| {
        check(&format!("x-mesh-service: a\nx-mesh-region: {region}"), want);
    };
    check_region("eu", "a eu");
    check_region("EU", "a eu");
    check_region("any", "a any");
    check_region("Any", "a any");
    // Whether it is known is not decided here.
    check_region("mars", "a mars");
    check_region("", "bad_region: x-mesh-region is empty");
    check_region(
        "e.u",
        "bad_region: x-mesh-region has '.' at offset 1, where a name has none",
    );
    check(
        "x-mesh-service: a\nx-mesh-region: eu\nx-mesh-region: us",
        "bad_region: x-mesh-region is given more than once: send one value",
    );
    // The header wins over the host.
    check(":authority: a.eu.mesh\nx-mesh-region: us", "a us");
}

#[test]
fn versions() {
    let check_version = |version: &str, want: &str| {
        check(
            &format!("x-mesh-service: a\nx-mesh-version: {version}"),
            want,
        );
    };
    check_version("v2", "a@v2 -");
    check_version("2.0_RC-1", "a@2.0_RC-1 -");
    check_version("", "bad_version: x-mesh-version is empty");
    check_version(
        "v2@x",
        "bad_version: x-mesh-version has '@' at offset 2, where a name has none",
    );
    check(
        "x-mesh-service: a\nx-mesh-version: 1\nx-mesh-version: 2",
        "bad_version: x-mesh-version is given more than once: send one value",
    );
}

#[test]
fn sizes() {
    let check_sized = |name: &str, limit: usize, code: &str| {
        for len in [limit - 1, limit, limit + 1, 70_000] {
            let value = "a".repeat(len);
            let headers = format!("x-mesh-service: a\n{name}: {value}");
            let got = {
                let config = config(US);
                let names = config.headers();
                // For the service itself the first line would be a repetition.
                let lines = headers.lines().skip(usize::from(name == "x-mesh-service"));
                let lines: Vec<&str> = lines.collect();
                let lines = lines.join("\n");
                let request = Request::collect(names, pairs(&lines));
                Caller::parse(&config, &request, Peer::default())
                    .err()
                    .map(|r| r.to_string())
            };
            let want =
                (len > limit).then(|| format!("{code}: {name} is longer than {limit} bytes"));
            assert_eq!(got, want, "{len}");
        }
    };
    check_sized("x-mesh-service", 253, "bad_service");
    check_sized("x-mesh-region", 63, "bad_region");
    check_sized("x-mesh-version", 63, "bad_version");
}

#[test]
fn bytes_that_are_no_text() {
    let check = |name: &'static [u8], value: &'static [u8], want: &str| {
        let service: (&[u8], &[u8]) = (b"x-mesh-service", b"a");
        let pair = (name, value);
        if name == service.0 {
            check_pairs([pair].into_iter(), want);
        } else {
            check_pairs([service, pair].into_iter(), want);
        }
    };
    check(
        b"x-mesh-service",
        b"a\xffb",
        "bad_service: x-mesh-service has 'ÿ' at offset 1, where a name has none",
    );
    check(
        b"x-mesh-region",
        b"\x80",
        "bad_region: x-mesh-region has '\\u{80}' at offset 0, where a name has none",
    );
    check(
        b"x-mesh-version",
        b"\0",
        "bad_version: x-mesh-version has '\\0' at offset 0, where a name has none",
    );
    check(b":path", b"/\xff\xfe", "a -");
    check(b":authority", b"\xff.mesh", "a -");
    check(b"content-type", b"application/\xff", "a -");
    check(b"x-mesh-caller", b"\xff", "a -");
    check(b"x-mesh-hops", b"\xff", "a -");
    check(b"\xff", b"\xff", "a -");
}

#[test]
fn what_a_caller_must_not_set() {
    let check = |headers: &str, want: [Field<'_>; 4]| {
        let config = config(US);
        let request = Request::collect(config.headers(), pairs(headers));
        let got = [
            request.caller(),
            request.hops(),
            request.receipt(),
            request.destination(),
        ];
        assert_eq!(got, want, "{headers}");
    };
    use Field::{Absent, Once, Repeated};
    check("x-mesh-service: a", [Absent, Absent, Absent, Absent]);
    check(
        "x-mesh-caller: a\nx-mesh-caller: b",
        [Repeated, Absent, Absent, Absent],
    );
    check(
        "x-mesh-hops: 0\nx-mesh-receipt:",
        [Absent, Once(b"0"), Once(b""), Absent],
    );
    check(
        "x-mesh-destination: a.us",
        [Absent, Absent, Absent, Once(b"a.us")],
    );
}

#[test]
fn forms_and_wishes() {
    let config = config(US);
    let request = |headers| Request::collect(config.headers(), pairs(headers));
    let is_grpc = |content_type: &str| {
        let headers = format!("content-type: {content_type}");
        Request::collect(config.headers(), pairs(&headers)).is_grpc()
    };
    assert!(is_grpc("application/grpc"));
    assert!(is_grpc("application/grpc+proto"));
    assert!(!is_grpc("application/grpc-web"));
    assert!(!is_grpc("application/json"));
    assert!(!request("").is_grpc());
    assert!(request("x-mesh-debug: 1").asks_for_receipt());
    assert!(!request("x-mesh-debug: 0").asks_for_receipt());
    assert!(!request("x-mesh-debug: 1\nx-mesh-debug: 1").asks_for_receipt());
    assert!(!request("").asks_for_receipt());
}
