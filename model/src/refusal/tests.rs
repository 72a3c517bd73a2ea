//! Refusals, as callers know them.

use super::*;
use crate::testing::test;

/// The table of the docs, once more: changing a code or a status breaks callers.
#[test]
fn codes_are_stable() {
    let table = [
        ("missing_service", 400, 3),
        ("bad_service", 400, 3),
        ("bad_region", 400, 3),
        ("bad_version", 400, 3),
        ("unknown_region", 404, 5),
        ("unknown_service", 404, 5),
        ("no_healthy_endpoint", 503, 14),
        ("endpoint_failed", 502, 14),
        ("unresolved", 503, 14),
        ("denied", 403, 7),
        ("rate_limited", 429, 8),
        ("loop", 508, 9),
        ("internal", 500, 13),
    ];
    let codes = Code::ALL.map(|code| (code.as_str(), code.http_status(), code.grpc_status()));
    assert_eq!(codes, table);
}

/// What people read is the same table, whole: each row has codes, an HTTP status and a gRPC one.
#[test]
fn the_docs_tell_every_code() {
    let documents = [
        ("README.md", include_str!("../../../README.md")),
        ("docs/filter.md", include_str!("../../../docs/filter.md")),
    ];
    let mut want = Code::ALL.map(|code| (code.as_str(), code.http_status(), grpc_name(code)));
    want.sort_unstable();
    for (name, text) in documents {
        let (_, table) = text
            .split_once("\n| `x-mesh-error` | HTTP | gRPC | when |\n")
            .unwrap_or_else(|| panic!("{name} has no table of refusals"));
        let mut told = Vec::new();
        for row in table
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('|'))
        {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [_, codes, http, grpc, ..] = cells.as_slice() else {
                panic!("{name}: {row}")
            };
            // The name; its number may stand behind it.
            let status = grpc.split('`').nth(1).unwrap_or_default();
            for code in codes.split(", ") {
                let http: u16 = http.parse().unwrap_or_else(|_| panic!("{name}: {row}"));
                told.push((code.trim_matches('`'), http, status));
            }
        }
        told.sort_unstable();
        assert_eq!(told, want, "{name}");
    }
}

fn grpc_name(code: Code) -> &'static str {
    match code.grpc_status() {
        3 => "INVALID_ARGUMENT",
        5 => "NOT_FOUND",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        other => panic!("{code}: gRPC status {other} has no name here"),
    }
}

#[test]
fn body_is_json_whatever_the_message() {
    let cases = [
        ("plain", "plain"),
        ("has '\"' at offset 0", "has '\"' at offset 0"),
        ("has '\\u{1}'\n", "has '\\u{1}' "),
        ("has 'ÿ'", "has 'ÿ'"),
    ];
    for (message, want) in cases {
        let body = Refusal::new(Code::BadService, message).json_body();
        assert_eq!(body.matches('\n').count(), 1, "{body}");
        let body: serde_json::Value =
            serde_json::from_str(&body).expect("a refusal's body is JSON");
        assert_eq!(
            body,
            serde_json::json!({"error": "bad_service", "message": want})
        );
    }
}
