//! Replies, in both forms.

use isthmus_model::{
    Caller, Code, Decision, Peer, Request, Unavailable, decide,
    limit::{Cell, CellName},
    spend,
};

use super::*;

fn check(is_grpc: bool, receipt: Option<&str>, body: &str, headers: &[(&str, &str)]) {
    let refusal = Refusal::new(Code::Denied, "\"no\"");
    let reply = Reply::new(&RawHeaders::default(), &refusal, is_grpc, receipt, None);
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

/// A host whose limiter cannot be asked.
struct Nothing;

impl isthmus_model::Budgets for Nothing {
    fn read(&mut self, _: &CellName) -> Result<(Cell, u32), Unavailable> {
        Err(Unavailable)
    }

    fn write(&mut self, _: &CellName, _: &Cell, _: u32) -> Result<bool, Unavailable> {
        Err(Unavailable)
    }

    fn now(&mut self) -> u64 {
        0
    }
}

#[test]
fn an_exceeded_limit_says_when_to_come_again() {
    let json = r#"{"region": "us", "services": {"a": {"limits": [
        {"per": "caller", "requests": 5, "unit": "minute", "burst": 9, "on_error": "deny"}]}}}"#;
    let config = crate::load::load(json.as_bytes()).unwrap();
    let headers: [crate::pairs::Pair<'_>; 1] = [(b"x-mesh-service", b"a")];
    let request = Request::collect(config.headers(), headers);
    let caller = Caller::parse(&config, &request, Peer::default()).unwrap();
    let Decision::Route(route) = decide(&config, &caller) else {
        panic!("no route");
    };
    let hasher = std::hash::DefaultHasher::new();
    let exceeded = spend(
        &route,
        headers.into_iter(),
        &hasher,
        &mut Nothing,
        |_, _| (),
    );
    let exceeded = exceeded.unwrap_err();
    let names = RawHeaders::default();
    let reply = Reply::new(&names, &exceeded.refusal(), true, None, Some(&exceeded));
    assert_eq!((reply.status, reply.grpc_status), (429, Some(8)));
    assert_eq!(reply.details, "isthmus_rate_limited");
    assert_eq!(
        reply.headers,
        pairs::write(&[
            ("x-mesh-error", "rate_limited"),
            ("retry-after", "1"),
            ("ratelimit-policy", r#""caller 5/minute";q=5;w=60"#),
            ("ratelimit", r#""caller 5/minute";r=0;t=1"#),
        ])
    );
}
