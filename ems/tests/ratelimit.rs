//! The rate limit service over real gRPC, as Envoy asks it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "ratelimit/asking.rs"]
mod asking;
#[path = "ratelimit/redis.rs"]
mod redis;
#[path = "ratelimit/seen.rs"]
mod seen;

use asking::{Asking, Said};
use isthmus_tests::{Ems, WorkDir};
use serde_json::json;
use tonic::Code;

fn start(name: &str) -> Ems {
    Ems::start(&WorkDir::new(name).unwrap(), "us").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_exact_whoever_asks_and_how_many_at_once() {
    const BUDGET: usize = 300;
    let ems = start("limits-exact");
    let limits = json!([
        {"per": "service", "requests": BUDGET, "unit": "day", "scope": "region"},
        {"per": "caller", "requests": 200, "unit": "day", "scope": "region"},
    ]);
    asking::put(&ems, limits);
    let asking = Asking::new(&ems).await;
    let callers = (0..16).map(|n| {
        let asking = asking.clone();
        let text = format!(
            "1h;pay;service,,day,enforce|;caller,,day,enforce|us/{}",
            n % 2
        );
        tokio::spawn(async move {
            let mut passed = 0;
            for _ in 0..50 {
                passed += usize::from(asking.passes(&text).await);
            }
            passed
        })
    });
    let mut passed = 0;
    for caller in callers.collect::<Vec<_>>() {
        passed += caller.await.unwrap();
    }
    assert_eq!(passed, BUDGET);
}

#[tokio::test]
async fn questions_and_answers() {
    let ems = start("limits-answers");
    asking::put(
        &ems,
        json!([{"per": "caller", "requests": 2, "unit": "day", "scope": "region"}]),
    );
    let asking = Asking::new(&ems).await;
    let limited = "over the limit of pay (caller 2/day region): try again in 86400 s";
    let json = format!("{{\"error\":\"rate_limited\",\"message\":\"{limited}\"}}\n");
    let (http, grpc) = (Said::Over(json), Said::Over(limited.to_owned()));
    let mine = "caller,,day,enforce|us/a";
    for (question, want) in [
        (format!("1h;pay;{mine}"), Said::Passes),
        (format!("1h;pay;{mine}"), Said::Passes),
        (format!("1h;pay;{mine}"), http.clone()),
        (format!("1g;pay;{mine}"), grpc),
        // Limits that are none: they were taken out of the record, and the Envoy does not know yet.
        ("1h;pay;caller,,hour,enforce|us/a".to_owned(), Said::Passes),
        (format!("1h;pay;caller,,hour,enforce|us/a;{mine}"), http),
        (format!("1h;nobody;{mine}"), Said::Passes),
        ("1h;pay;caller,,day,enforce|us/b".to_owned(), Said::Passes),
    ] {
        assert_eq!(asking.ask(&question).await, want, "{question}");
    }
    for bad in ["", "1h", "2h;pay;t|", "1h;pay;t", "1h;pay;t|a b"] {
        assert_eq!(
            asking.ask(bad).await,
            Said::Failed(Code::InvalidArgument),
            "{bad}"
        );
    }
    let long = format!("1h;pay;t|{}", "a".repeat(300 * 1024));
    assert_eq!(asking.ask(&long).await, Said::Failed(Code::OutOfRange));
    let other = asking.named("other", "question");
    let question = format!("1h;pay;{mine}");
    assert_eq!(
        other.ask(&question).await,
        Said::Failed(Code::InvalidArgument)
    );
    let other = asking.named("isthmus", "other");
    assert_eq!(
        other.ask(&question).await,
        Said::Failed(Code::InvalidArgument)
    );
}

/// What one limit refuses is charged to no other, wherever budgets are.
async fn all_or_none(ems: &Ems) {
    asking::put(
        ems,
        json!([
            {"per": "caller", "requests": 2, "unit": "day", "scope": "region", "onError": "deny"},
            {"per": "service", "requests": 3, "unit": "day", "scope": "region", "onError": "deny"},
            {"per": "service", "requests": 4, "unit": "day", "scope": "region", "mode": "shadow"},
        ]),
    );
    let asking = Asking::new(ems).await;
    for (step, (caller, both, passes)) in [
        ("a", true, true),
        ("a", true, true),
        ("a", true, false),
        ("b", true, true),
        ("b", true, false),
        ("b", false, true),
        ("b", false, false),
        ("c", false, true),
        ("c", false, true),
        ("c", false, false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut text = format!("1h;pay;caller,,day,enforce|us/{caller};service,,day,shadow|");
        if both {
            text.push_str(";service,,day,enforce|");
        }
        assert_eq!(asking.passes(&text).await, passes, "step {step}: {text}");
    }
    let page = ems.call("GET", "/metrics").send().unwrap().body;
    let counts: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("ems_limit_requests_total") && line.contains("service,,"))
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    // Allowed, denied, shadow-denied, unchecked: three passed and one was too much; of the shadow limit four were charged.
    assert_eq!(counts[..4], ["3", "1", "0", "0"], "{page}");
    assert_eq!((counts[4], counts[7]), ("4", "0"), "{page}");
}

#[tokio::test]
async fn all_or_none_in_memory() {
    all_or_none(&start("limits-all-or-none")).await;
}

#[tokio::test]
async fn a_changed_number_holds_from_the_next_request_on() {
    let ems = start("limits-changed");
    let put = |pay: u32, other: u32| {
        asking::put(
            &ems,
            json!([
                {"per": "caller", "requests": pay, "unit": "day", "scope": "region"},
                {"per": "service", "requests": other, "unit": "day", "scope": "region"},
            ]),
        );
    };
    let asking = Asking::new(&ems).await;
    let passed = async |text: &str| {
        let mut passed = 0;
        for _ in 0..9 {
            passed += usize::from(asking.passes(text).await);
        }
        passed
    };
    let (caller, service) = (
        "1h;pay;caller,,day,enforce|us/a",
        "1h;pay;service,,day,enforce|",
    );
    put(3, 4);
    assert_eq!((passed(caller).await, passed(service).await), (3, 4));
    put(5, 4);
    assert_eq!((passed(caller).await, passed(service).await), (2, 0));
    put(1, 5);
    assert_eq!((passed(caller).await, passed(service).await), (0, 1));
}
