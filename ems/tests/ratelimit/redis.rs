//! The same with a real Redis, in which two EMS count together.

use std::{collections::BTreeMap, time::Duration};

use ems::ratelimit::breaker::FAILURES;
use isthmus_tests::{Ems, Link, Redis, WorkDir, ems::EmsOptions, eventually};
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use crate::asking::{self, Asking, Said};

const CALLER: &str = "1h;pay;caller,,day,enforce|us/a";

/// An EMS whose budgets are in a Redis. Each has a registry of its own: here they share no store.
pub(crate) fn ems(redis: &Redis, name: &str) -> Ems {
    ems_at(redis.url(), name)
}

fn ems_at(url: String, name: &str) -> Ems {
    let options = EmsOptions {
        region: "us".to_owned(),
        arguments: vec!["--redis".to_owned(), url],
        ..EmsOptions::default()
    };
    Ems::with(&WorkDir::new(name).unwrap(), options).unwrap()
}

pub(crate) fn redis(name: &str) -> Redis {
    Redis::start(&WorkDir::new(name).unwrap()).unwrap()
}

/// What became of calls to Redis, and whether the breaker is open.
fn calls(ems: &Ems) -> BTreeMap<String, u64> {
    let page = ems.call("GET", "/metrics").send().unwrap().body;
    let lines = page.lines().filter_map(|line| {
        let (name, count) = line.strip_prefix("ems_redis_")?.rsplit_once(' ')?;
        let name = match name.split_once('"') {
            Some((_, outcome)) => outcome.trim_end_matches("\"}"),
            None => name,
        };
        Some((name.to_owned(), count.parse().ok()?))
    });
    lines.collect()
}

async fn passed(asking: &Asking, text: &str, times: usize) -> usize {
    let mut passed = 0;
    for _ in 0..times {
        passed += usize::from(asking.passes(text).await);
    }
    passed
}

/// Asks until a request passes.
async fn passes_in_the_end(asking: &Asking, text: &str) {
    let asked = timeout(Duration::from_secs(30), async {
        while !asking.passes(text).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    asked.await.expect("it never passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ems_count_together_exactly() {
    const BUDGET: usize = 300;
    let redis = redis("redis-exact");
    let both = [ems(&redis, "redis-exact-a"), ems(&redis, "redis-exact-b")];
    let mut askers = Vec::new();
    for ems in &both {
        asking::put(
            ems,
            json!([
                {"per": "service", "requests": BUDGET, "unit": "day", "scope": "region", "onError": "deny"},
                {"per": "caller", "requests": 200, "unit": "day", "scope": "region", "onError": "deny"},
            ]),
        );
        let asking = Asking::new(ems).await;
        for n in 0..8 {
            let asking = asking.clone();
            let text = format!(
                "1h;pay;service,,day,enforce|;caller,,day,enforce|us/{}",
                n % 2
            );
            askers.push(tokio::spawn(
                async move { passed(&asking, &text, 50).await },
            ));
        }
    }
    let mut total = 0;
    for asker in askers {
        total += asker.await.unwrap();
    }
    let counted: Vec<_> = both.iter().map(calls).collect();
    // Never more; and fewer only if an answer of Redis was too late on a busy machine, which counts as refused.
    let late: u64 = counted.iter().map(|calls| calls["failed"]).sum();
    let least = BUDGET - usize::try_from(late).unwrap();
    assert!((least..=BUDGET).contains(&total), "{total}: {counted:?}");
    // Who was refused once was refused again without a call, in the same window.
    for counted in &counted {
        assert!(counted["spared"] > 0, "{counted:?}");
    }
}

#[tokio::test]
async fn all_or_none() {
    let redis = redis("redis-all-or-none");
    crate::all_or_none(&ems(&redis, "redis-all-or-none-ems")).await;
}

#[tokio::test]
async fn what_is_used_up_is_not_asked_for_again_until_the_limit_is_raised() {
    let redis = redis("redis-denied");
    let ems = ems(&redis, "redis-denied-ems");
    let limits = |requests: u32| {
        json!([
            {"per": "caller", "requests": requests, "unit": "day", "scope": "region", "onError": "deny"},
            {"per": "service", "requests": 1, "unit": "day", "scope": "region", "mode": "shadow"},
        ])
    };
    asking::put(&ems, limits(2));
    let asking = Asking::new(&ems).await;
    let text = format!("{CALLER};service,,day,shadow|");
    assert_eq!(passed(&asking, &text, 6).await, 2);
    let counted = calls(&ems);
    assert_eq!(
        (counted["answered"], counted["spared"]),
        (3, 3),
        "{counted:?}"
    );
    // What is left of a window, as Redis has it.
    let key = "isthmus:us:{pay}:caller,,day,enforce|us/a";
    assert_eq!(redis.ask(&format!("GET {key}")).unwrap(), "$1");
    let left = redis.ask(&format!("TTL {key}")).unwrap();
    let left: i64 = left.trim_start_matches(':').parse().unwrap();
    assert!((86_000..=86_400).contains(&left), "{left}");
    asking::put(&ems, limits(3));
    assert_eq!(passed(&asking, &text, 3).await, 1);
    // Its window over, the budget is full: Redis forgot it, and so did EMS.
    redis.ask("FLUSHALL").unwrap();
    let second = json!([{"per": "caller", "requests": 1, "scope": "region", "onError": "deny"}]);
    asking::put(&ems, second);
    let text = "1h;pay;caller,,second,enforce|us/a";
    assert!(asking.passes(text).await);
    passes_in_the_end(&asking, text).await;
}

#[tokio::test]
async fn a_redis_that_is_gone_and_comes_back() {
    let mut redis = redis("redis-gone");
    let ems = ems(&redis, "redis-gone-ems");
    asking::put(
        &ems,
        json!([
            {"per": "caller", "requests": 3, "unit": "day", "scope": "region"},
            {"per": "service", "requests": 3, "unit": "day", "scope": "region", "onError": "deny"},
            {"per": "service", "requests": 1, "unit": "day", "scope": "region", "onError": "deny", "mode": "shadow"},
        ]),
    );
    let asking = Asking::new(&ems).await;
    let (open, shut, shadow) = (
        CALLER,
        "1h;pay;service,,day,enforce|",
        "1h;pay;service,,day,shadow|",
    );
    assert_eq!(passed(&asking, open, 4).await, 3);
    assert_eq!(passed(&asking, shut, 1).await, 1);
    redis.kill();
    // What was used up is known until its window ends.
    assert_eq!(passed(&asking, open, 2).await, 0);
    let other = "1h;pay;caller,,day,enforce|us/b";
    let enough = usize::try_from(FAILURES).unwrap() + 3;
    assert_eq!(passed(&asking, other, enough).await, enough);
    // Nobody is told to be over a limit who may not be.
    assert_eq!(asking.ask(shut).await, Said::Failed(Code::Unavailable));
    assert_eq!(passed(&asking, shut, enough).await, 0);
    assert_eq!(passed(&asking, shadow, 2).await, 2);
    let both = format!("{other};service,,day,enforce|");
    assert!(!asking.passes(&both).await, "one that denies is enough");
    let counted = calls(&ems);
    assert_eq!(counted["breaker_open"], 1, "{counted:?}");
    let health = ems.get("/healthz").unwrap();
    assert_eq!(
        (&health["status"], &health["redis"]),
        (&json!("alarm"), &json!("held back"))
    );
    assert!(counted["failed"] >= u64::from(FAILURES), "{counted:?}");
    assert!(counted["held_back"] > 0, "{counted:?}");

    redis.start_again().unwrap();
    passes_in_the_end(&asking, shut).await;
    let counted = calls(&ems);
    assert_eq!(counted["breaker_open"], 0, "{counted:?}");
    let health = ems.get("/healthz").unwrap();
    assert_eq!(
        (&health["status"], &health["redis"]),
        (&json!("ok"), &json!("ok"))
    );
    // It was empty, and counts again.
    assert_eq!(passed(&asking, shut, 4).await, 2);
}

/// A Redis that was started anew, or gave up a connection on which nothing came, costs no request.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile() {
    let mut redis = redis("redis-closed");
    let ems = ems(&redis, "redis-closed-ems");
    asking::put(
        &ems,
        json!([{"per": "caller", "requests": 9, "unit": "day", "scope": "region", "onError": "deny"}]),
    );
    let asking = Asking::new(&ems).await;
    assert!(asking.passes(CALLER).await);
    redis.kill();
    redis.start_again().unwrap();
    assert!(asking.passes(CALLER).await);
    redis.ask("CLIENT KILL TYPE normal").unwrap();
    assert!(asking.passes(CALLER).await);
    assert_eq!(calls(&ems)["failed"], 0);
}

/// A Redis whose host lost its power says nothing more on the connections that there were, not even that they are no more.
#[tokio::test]
async fn a_redis_that_falls_silent_and_comes_back() {
    let redis = redis("redis-silent");
    let link = Link::to(redis.url().trim_start_matches("redis://")).unwrap();
    let ems = ems_at(
        format!("redis://127.0.0.1:{}", link.port()),
        "redis-silent-ems",
    );
    asking::put(
        &ems,
        json!([
            {"per": "caller", "requests": 9, "unit": "day", "scope": "region"},
            {"per": "service", "requests": 9, "unit": "day", "scope": "region", "onError": "deny"},
        ]),
    );
    let asking = Asking::new(&ems).await;
    let shut = "1h;pay;service,,day,enforce|";
    assert_eq!(passed(&asking, CALLER, 1).await, 1);
    assert_eq!(passed(&asking, shut, 1).await, 1);
    link.silence();
    let enough = usize::try_from(FAILURES).unwrap();
    assert_eq!(passed(&asking, CALLER, enough).await, enough);
    assert_eq!(passed(&asking, shut, 2).await, 0);
    assert_eq!(calls(&ems)["breaker_open"], 1);
    link.silence_those_there_are();
    passes_in_the_end(&asking, shut).await;
    assert_eq!(calls(&ems)["breaker_open"], 0);
    let left = redis.ask("GET isthmus:us:{pay}:service,,day,enforce|");
    assert_eq!(left.unwrap(), "$1", "it counts where it did before");
}

#[tokio::test]
async fn ems_starts_without_its_redis() {
    let mut redis = redis("redis-late");
    redis.kill();
    let ems = ems(&redis, "redis-late-ems");
    // Who wrote a wrong host learns it at the start, and not only when a limit has nothing to say.
    let said = || ems.log().contains("the Redis of --redis does not answer");
    eventually("a warning", said).unwrap();
    asking::put(
        &ems,
        json!([{"per": "caller", "requests": 1, "unit": "day", "scope": "region", "onError": "deny"}]),
    );
    let asking = Asking::new(&ems).await;
    assert!(!asking.passes(CALLER).await);
    redis.start_again().unwrap();
    passes_in_the_end(&asking, CALLER).await;
    assert!(!asking.passes(CALLER).await);
}

/// Each of several EMS would lease out the whole limit.
#[tokio::test]
async fn leased_limits_beside_a_redis_are_warned_of() {
    let redis = redis("redis-leased");
    let ems = ems(&redis, "redis-leased-ems");
    let said = || ems.log().matches("leases out the whole limit").count();
    asking::put(
        &ems,
        json!([{"per": "caller", "requests": 1, "scope": "region"}]),
    );
    let known = |requests: u32| {
        let limits = ems.get("/v1/limits").unwrap();
        limits["limits"][0]["requests"] == requests
    };
    eventually("the limit", || known(1)).unwrap();
    assert_eq!(said(), 0);
    for requests in [10, 20] {
        asking::put(
            &ems,
            json!([{"per": "caller", "requests": requests, "scope": "region", "lease": true}]),
        );
        eventually("the change", || known(requests)).unwrap();
        eventually("the warning", || said() >= 1).unwrap();
    }
    assert_eq!(said(), 1);
}

/// Somebody else's data under our key are an error, and nobody's budget.
#[tokio::test]
async fn what_is_no_number_is_no_budget() {
    let redis = redis("redis-foreign");
    let ems = ems(&redis, "redis-foreign-ems");
    asking::put(
        &ems,
        json!([{"per": "caller", "requests": 1, "unit": "day", "scope": "region", "onError": "deny"}]),
    );
    let asking = Asking::new(&ems).await;
    let key = "isthmus:us:{pay}:caller,,day,enforce|us/a";
    redis.ask(&format!("SET {key} words")).unwrap();
    assert!(!asking.passes(CALLER).await);
    assert!(asking.passes("1h;pay;caller,,day,enforce|us/b").await);
    assert_eq!(calls(&ems)["failed"], 1);
}
