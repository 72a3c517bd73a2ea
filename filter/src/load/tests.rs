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
        r#"{"region": 7}"#,
        &["region: invalid type: integer `7`, expected a string at line 1 column 12"],
    );
    check(
        r#"{"region": "us", "services": {"payments": {"allow": ["eu/*", 7]}}}"#,
        &[
            "services.payments.allow[1]: invalid type: integer `7`, expected a string at line 1 column 62",
        ],
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
