//! What becomes of a request, given what is known of its budgets: tables.

use std::sync::Arc;

use isthmus_model::{Headers, Outcome, ServiceName, limit::Question};
use isthmus_proto::v1;

use super::{
    Claim, State,
    answer::answer,
    book::{Book, Noted, Page},
    window::Window,
};
use crate::{json, record::Service};

const MINUTE: u64 = 60_000;

pub(super) fn name() -> ServiceName {
    "payments".parse().unwrap()
}

/// A service's record with limits.
pub(super) fn service(limits: &str) -> Service {
    let text = format!(r#"{{"name": "payments", "rateLimits": {limits}}}"#);
    let raw: v1::Service = json::read(text.as_bytes()).unwrap();
    Service::parse(&raw).unwrap()
}

/// The page of such a service.
pub(super) fn page(limits: &str) -> Arc<Page> {
    let book = Book::default();
    book.note(&name(), Some(&service(limits)));
    book.page("payments").unwrap()
}

const LIMITS: &str = r#"[
    {"per": "caller", "requests": 5, "unit": "minute", "scope": "region"},
    {"per": "service", "requests": 9, "unit": "minute", "scope": "region", "onError": "deny"},
    {"per": "service", "requests": 7, "unit": "minute", "scope": "region", "mode": "shadow", "onError": "deny"}]"#;

/// At time 100: what was used of each budget and until when (`5/900`), `-` for what is not known, and what is made of it:
/// the limit that refuses and after how many seconds (or `passes`), then what each limit is noted for.
fn check(states: &str, hits: u64, want: &str) {
    let page = page(LIMITS);
    let states = states.split(' ').map(|state| match state.split_once('/') {
        None => State::Unknown,
        Some((used, ends)) => State::Known(Window {
            used: used.parse().unwrap(),
            ends: ends.parse().unwrap(),
        }),
    });
    let claims: Vec<_> = page
        .entries()
        .iter()
        .zip(states)
        .map(|(entry, state)| Claim {
            entry,
            key: "",
            state,
        })
        .collect();
    let response = answer(&page, false, &claims, hits, 100, &Headers::default());
    let headers = response
        .as_ref()
        .map(|response| &response.response_headers_to_add);
    let mut got = match headers {
        None => "unknown".to_owned(),
        Some(headers) => match headers.iter().find(|header| header.key == "ratelimit") {
            None => "passes".to_owned(),
            Some(state) => state.value.replace(";r=0;t=", " ").replace('"', ""),
        },
    };
    for entry in page.entries() {
        let counted: Vec<_> = Outcome::ALL
            .iter()
            .filter(|outcome| entry.counted(**outcome) > 0)
            .map(|outcome| outcome.as_str())
            .collect();
        got.push(',');
        got.push_str(&counted.join("+"));
    }
    assert_eq!(got, want, "{response:?}");
}

#[test]
fn what_becomes_of_a_request() {
    check("0/0 0/0 0/0", 1, "passes,allowed,allowed,allowed");
    check("4/900 8/900 6/900", 1, "passes,allowed,allowed,allowed");
    // A window that is over counts no longer.
    check("5/100 9/99 7/0", 1, "passes,allowed,allowed,allowed");
    check("5/101 8/900 0/0", 1, "caller 5/minute region 1,denied,,");
    // The longest wait, rounded up; the first of equal ones.
    check(
        "5/1100 9/1101 7/9000",
        1,
        "service 9/minute region 2,denied,denied,shadow_denied",
    );
    check(
        "5/1101 9/1100 0/0",
        1,
        "caller 5/minute region 2,denied,denied,",
    );
    check("0/0 0/0 7/900", 1, "passes,allowed,allowed,shadow_denied");
    check("0/0 0/0 9/900", 1, "passes,allowed,allowed,shadow_denied");
    // What is not known each limit decides for itself, but a shadow limit refuses nothing.
    check("- 0/0 -", 1, "passes,unchecked,allowed,unchecked");
    check("0/0 - 0/0", 1, "unknown,,unchecked,");
    // What is known to be over a limit is told so all the same.
    check(
        "5/900 - 0/0",
        1,
        "caller 5/minute region 1,denied,unchecked,",
    );
    // Several at once.
    check("0/900 0/900 0/900", 5, "passes,allowed,allowed,allowed");
    check(
        "1/900 0/900 3/900",
        5,
        "caller 5/minute region 1,denied,,shadow_denied",
    );
    check(
        "0/0 0/0 0/0",
        u64::from(u32::MAX),
        "caller 5/minute region 1,denied,denied,shadow_denied",
    );
}

#[test]
fn refusals_have_the_words_of_the_filter() {
    let page = page(LIMITS);
    let entry = &page.entries()[0];
    let claim = Claim {
        entry,
        key: "",
        state: State::Known(Window {
            used: 5,
            ends: MINUTE,
        }),
    };
    let of = |is_grpc| {
        let response = answer(&page, is_grpc, &[claim], 1, 500, &Headers::default()).unwrap();
        let headers = response.response_headers_to_add.into_iter();
        let headers: Vec<_> = headers
            .map(|header| format!("{}: {}", header.key, header.value))
            .collect();
        (headers, String::from_utf8(response.raw_body).unwrap())
    };
    let message = "over the limit of payments (caller 5/minute region): try again in 60 s";
    let (mut headers, body) = of(false);
    assert_eq!(
        body,
        format!("{{\"error\":\"rate_limited\",\"message\":\"{message}\"}}\n")
    );
    let json = headers.remove(1);
    assert_eq!(json, "content-type: application/json");
    assert_eq!(
        headers,
        [
            "x-mesh-error: rate_limited",
            "retry-after: 60",
            "ratelimit-policy: \"caller 5/minute region\";q=5;w=60",
            "ratelimit: \"caller 5/minute region\";r=0;t=60",
        ]
    );
    assert_eq!(of(true), (headers, message.to_owned()));
}

#[test]
fn windows() {
    let mut window = Window::default();
    assert_eq!(window.wait(3, 3, 50), None);
    assert_eq!(
        window.wait(4, 3, 50),
        Some(0),
        "never, however long it waits"
    );
    window.charge(2, 10, 50);
    assert_eq!(window, Window { used: 2, ends: 60 });
    assert_eq!(window.wait(1, 3, 59), None);
    assert_eq!(window.wait(2, 3, 59), Some(1));
    assert_eq!(window.wait(3, 3, 60), None);
    window.charge(1, 10, 59);
    assert_eq!(window, Window { used: 3, ends: 60 });
    window.charge(1, 10, 60);
    assert_eq!(window, Window { used: 1, ends: 70 });
}

#[test]
fn the_book_follows_the_registry() {
    let book = Book::default();
    let tokens = || {
        let page = book.page("payments")?;
        let entries = page.entries().iter();
        let tokens: Vec<_> = entries
            .map(|entry| {
                let allowed = entry.counted(Outcome::Allowed);
                format!("{} {} {allowed}", entry.limit().token(), entry.requests())
            })
            .collect();
        Some(tokens.join(" "))
    };
    let put = |limits: &str| book.note(&name(), Some(&service(limits)));
    let count = || {
        for entry in book.page("payments").unwrap().entries() {
            entry.count(Outcome::Allowed);
        }
    };
    // Local limits are none of ours.
    put(r#"[{"per": "caller", "requests": 5}]"#);
    assert_eq!(tokens(), None);
    put(
        r#"[{"per": "caller", "requests": 5, "scope": "region"}, {"per": "caller", "requests": 5}]"#,
    );
    assert_eq!(tokens().unwrap(), "caller,,second,enforce 5 0");
    count();
    put(
        r#"[{"per": "service", "requests": 2, "scope": "region"}, {"per": "caller", "requests": 7, "scope": "region"}]"#,
    );
    assert_eq!(
        tokens().unwrap(),
        "service,,second,enforce 2 0 caller,,second,enforce 7 1"
    );
    book.note(&name(), None);
    assert_eq!(tokens(), None);
    assert!(book.pages().is_empty());
}

#[test]
fn what_the_book_notes_of_leased_limits() {
    let book = Book::default();
    let leased = |requests: u32| {
        format!(
            r#"{{"per": "caller", "requests": {requests}, "burst": 9, "scope": "region", "lease": true}}"#
        )
    };
    let other = r#"{"per": "caller", "requests": 5, "scope": "region"}"#;
    for (limits, changed, begins) in [
        (other.to_owned(), false, false),
        (format!("{other}, {}", leased(5)), false, true),
        (leased(5), false, false),
        (leased(6), true, false),
        (String::new(), false, false),
        (leased(6), false, true),
    ] {
        let found = book.note(&name(), Some(&service(&format!("[{limits}]"))));
        assert_eq!(found, Noted { changed, begins }, "{limits}");
    }
}

#[test]
fn questions_name_limits_as_the_book_does() {
    let page = page(LIMITS);
    let text = "1h;payments;caller,,minute,enforce|us/orders;caller,,hour,enforce|us/orders;service,,minute,shadow|";
    let question = Question::parse(text).unwrap();
    let found: Vec<_> = question
        .asks()
        .map(|ask| page.find(ask.token).map(|entry| entry.limit().to_string()))
        .collect();
    assert_eq!(
        found,
        [
            Some("caller 5/minute region".to_owned()),
            None,
            Some("service 7/minute region shadow".to_owned())
        ]
    );
}
