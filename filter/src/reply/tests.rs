//! Replies, in both forms.

use isthmus_model::Code;

use super::*;

fn check(is_grpc: bool, receipt: Option<&str>, body: &str, headers: &[(&str, &str)]) {
    let refusal = Refusal::new(Code::Denied, "\"no\"");
    let reply = Reply::new(&RawHeaders::default(), &refusal, is_grpc, receipt);
    assert_eq!(
        reply,
        Reply {
            status: 403,
            grpc_status: is_grpc.then_some(7),
            body: body.to_owned(),
            headers: pairs::write(headers),
            details: "isthmus_denied".to_owned(),
        }
    );
}

#[test]
fn each_caller_in_its_own_form() {
    let json = "{\"error\":\"denied\",\"message\":\"\\\"no\\\"\"}\n";
    check(
        false,
        None,
        json,
        &[
            ("x-mesh-error", "denied"),
            ("content-type", "application/json"),
        ],
    );
    check(
        false,
        Some("r"),
        json,
        &[
            ("x-mesh-error", "denied"),
            ("content-type", "application/json"),
            ("x-mesh-receipt", "r"),
        ],
    );
    check(true, None, "\"no\"", &[("x-mesh-error", "denied")]);
    check(
        true,
        Some("r"),
        "\"no\"",
        &[("x-mesh-error", "denied"), ("x-mesh-receipt", "r")],
    );
}
