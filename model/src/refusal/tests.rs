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
        ("unresolved", 503, 14),
        ("denied", 403, 7),
        ("rate_limited", 429, 8),
        ("loop", 508, 9),
        ("internal", 500, 13),
    ];
    let codes = Code::ALL.map(|code| (code.as_str(), code.http_status(), code.grpc_status()));
    assert_eq!(codes, table);
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
