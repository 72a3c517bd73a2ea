//! Configs as bytes, and what is wrong with them.

use super::*;

fn check(json: &str, want: &[&str]) {
    let got = load(json.as_bytes()).err().unwrap_or_default();
    assert_eq!(got, want, "{json}");
}

#[test]
fn good() {
    check(r#"{"region": "us"}"#, &[]);
    check(" {\"region\": \"us\"}\n", &[]);
}

#[test]
fn bad() {
    let none = "the plugin configuration is no JSON object: give it as a google.protobuf.StringValue with at least \
                {\"region\": \"…\"} in it";
    check("", &[none]);
    check(" \n", &[none]);
    check("[]", &[none]);
    // A google.protobuf.Struct.
    check("\n\x0e\n\x06region\x12\x04\x1a\x02us", &[none]);
    check("{", &["EOF while parsing an object at line 1 column 1"]);
    check(
        r#"{"region": "us"} {}"#,
        &["trailing characters at line 1 column 18"],
    );
    check(
        r#"{"region": "us", "region": "eu"}"#,
        &["duplicate field `region` at line 1 column 25"],
    );
    check(
        r#"{"region": "u s", "caller": "x"}"#,
        &[
            "region: has ' ' at offset 1, where a name has none",
            "caller: has no slash: write <region>/<service>",
        ],
    );
    let errors = load(b"{\"region\": \"\xff\"}").err().unwrap_or_default();
    assert!(
        errors[0].starts_with("region: invalid unicode"),
        "{errors:?}"
    );
}

#[test]
fn all_of_what_is_bad() {
    const STRING: &str = "invalid type: integer `7`, expected a string";
    let wants = |path: &str, problem: &str| format!("{path}: {problem}");
    for (json, want) in [
        (r#"{"region": 7}"#, vec![wants("region", STRING)]),
        ("{}", vec![wants("region", "is missing")]),
        (
            r#"{"debug": 1, "foo": 2, "mode": "x", "version": "a b"}"#,
            vec![
                wants("debug", "invalid type: integer `1`, expected a boolean"),
                wants(
                    "foo",
                    "unknown field `foo`, expected one of `version`, `mode`, `region`, `regions`, `default_region`, \
                     `caller`, `trust_domain`, `debug`, `headers`, `services`",
                ),
                wants(
                    "mode",
                    "unknown variant `x`, expected `outbound` or `gateway`",
                ),
                wants("region", "is missing"),
                wants(
                    "version",
                    "has ' ': only visible ASCII without quotes and backslashes can be shown in a receipt",
                ),
            ],
        ),
        // The other items keep their places.
        (
            r#"{"region": "us", "services": {"a/b~.": {"allow": [7, "eu/*", "x"]}, "pay": {"allow": [7, "eu"]}}}"#,
            vec![
                wants("services.a/b~..allow[0]", STRING),
                wants("services.pay.allow[0]", STRING),
                wants(
                    "services.a/b~..allow[2]",
                    "has no slash: write <region>/<service>",
                ),
                wants(
                    "services.a/b~.",
                    "has '/' at offset 1, where a name has none",
                ),
                wants(
                    "services.pay.allow[1]",
                    "has no slash: write <region>/<service>",
                ),
            ],
        ),
        // What is told is told once, and nothing of what took its place.
        (
            r#"{"region": "us", "services": {"a": 7, "b": {"limits": [7, {"per": 7}, {"per": "x", "requests": -1, "unit": "s"}]}}}"#,
            vec![
                wants(
                    "services.a",
                    "invalid type: integer `7`, expected struct RawService",
                ),
                wants(
                    "services.b.limits[0]",
                    "invalid type: integer `7`, expected struct RawLimit",
                ),
                wants(
                    "services.b.limits[1].per",
                    "invalid type: integer `7`, expected a word or a list of words",
                ),
                wants("services.b.limits[1].requests", "is missing"),
                wants("services.b.limits[1].unit", "is missing"),
                wants(
                    "services.b.limits[2].requests",
                    "invalid value: integer `-1`, expected u32",
                ),
                wants(
                    "services.b.limits[2].unit",
                    "unknown variant `s`, expected one of `second`, `minute`, `hour`, `day`",
                ),
                wants(
                    "services.b.limits[2].per[0]",
                    "must be service, caller, caller_region, method or header:<name>",
                ),
            ],
        ),
        (
            r#"{"region": "us", "services": {"a": {"limits": [
                {"per": "caller", "requests": 1, "unit": "s"}, {"per": "caller", "requests": 1, "unit": "second"}
            ]}}}"#,
            vec![wants(
                "services.a.limits[0].unit",
                "unknown variant `s`, expected one of `second`, `minute`, `hour`, `day`",
            )],
        ),
        (
            r#"{"region": 7, "regions": 7, "default_region": "eu", "headers": {"service": "x-mesh-region", "region": 7, "hops": 7}}"#,
            vec![
                wants("headers.hops", STRING),
                wants("headers.region", STRING),
                wants("region", STRING),
                wants("regions", "invalid type: integer `7`, expected a sequence"),
            ],
        ),
    ] {
        let want: Vec<_> = want.iter().map(String::as_str).collect();
        check(json, &want);
    }
}

#[test]
fn faults_are_told_up_to_a_number() {
    let many = vec!["7"; 1_000].join(",");
    let errors = load(format!("{{\"region\": \"us\", \"regions\": [{many}]}}").as_bytes());
    assert_eq!(errors.err().unwrap_or_default().len(), 100);
}
