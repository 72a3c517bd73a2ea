//! Limits of a region whose EMS count in a Redis.

use std::{thread, time::Duration};

use isthmus_tests::{Ems, Load, Redis, Region, WorkDir, ems::EmsOptions, ems::Node, http};
use serde_json::json;

use super::{Limited, exactly, limit_with, passed, passed_on_one_connection};

fn options(redis: &Redis) -> EmsOptions {
    EmsOptions {
        region: "us".to_owned(),
        arguments: vec!["--redis".to_owned(), redis.url()],
        ..EmsOptions::default()
    }
}

/// Two EMS, each with an Envoy and a registry of its own: what they share is the Redis.
#[test]
fn two_ems_and_their_envoys_share_one_budget_exactly() {
    const BUDGET: usize = 300;
    const CONNECTIONS: usize = 3;
    const EACH: usize = 150;
    let dir = WorkDir::new("redis-shared").unwrap();
    let redis = Redis::start(&dir).unwrap();
    let upstream = isthmus_upstream::Upstream::start("pay-1").unwrap();
    let more = json!({"onError": "deny"});
    let record = json!({"rateLimits": [limit_with(json!("caller"), BUDGET, more)]});
    let halves = ["first", "second"].map(|name| {
        let ems = Ems::with(&WorkDir::new(name).unwrap(), options(&redis)).unwrap();
        ems.put_service("pay", record.clone()).unwrap();
        ems.put_endpoint("pay", "pay-1", upstream.port()).unwrap();
        // It starts with the limit: the filter's config comes with the listener.
        let envoy = ems.envoy(&Node::host("client").workers(2)).unwrap();
        (envoy, ems)
    });
    let total: usize = thread::scope(|scope| {
        let addresses = halves
            .iter()
            .flat_map(|(envoy, _)| vec![envoy.address(); CONNECTIONS]);
        let threads: Vec<_> = addresses
            .map(|address| scope.spawn(move || passed_on_one_connection(&address, "pay", EACH)))
            .collect();
        let threads = threads.into_iter();
        threads.map(|thread| thread.join().unwrap()).sum()
    });
    let [first, second] = &halves;
    exactly(
        total,
        BUDGET,
        &[(&first.0, &first.1), (&second.0, &second.1)],
    );
}

#[test]
fn a_redis_that_is_killed_and_comes_back() {
    let mut redis = Redis::start(&WorkDir::new("redis-killed").unwrap()).unwrap();
    let us = Region::with(options(&redis)).unwrap();
    let of = |path: &str, on_error: &str| {
        let more = json!({"method": path, "onError": on_error});
        limit_with(json!("caller"), 100_000, more)
    };
    let service = Limited::new(
        &us,
        "fragile",
        &[&us.host],
        json!([
            of("/open", "allow"),
            of("/shut", "deny"),
            limit_with(
                json!("caller"),
                2,
                json!({"method": "/few", "onError": "deny"})
            ),
        ]),
    );
    assert_eq!(service.passed(&us.host, "/few", 4), 2);
    let load = |path: &str| {
        let client = http::agent(Duration::from_secs(10));
        let url = format!("http://{}{path}", us.host.address());
        let call = http::Call::on(&client, "GET", url).service("fragile");
        Load::start(2, Duration::from_millis(5), move || {
            let reply = call.send()?;
            let refused = reply.status == 429 && reply.error() == Some("rate_limited");
            anyhow::ensure!(reply.status == 200 || refused, "{reply:?}");
            Ok(reply.status.to_string())
        })
    };
    let (open, shut) = (load("/open"), load("/shut"));
    shut.answered_more(20).unwrap();
    let before = shut.report();
    redis.kill();
    // Those that were under way when it went are at most as many as there are callers.
    shut.answered_more(50).unwrap();
    let refused = shut.report().by("429") - before.by("429");
    assert!(refused >= 45, "{refused} refused: {:?}", shut.report());
    assert_eq!(service.passed(&us.host, "/few", 2), 0);
    // Nobody is told to be over a limit who may not be.
    let reply = service.call(&us.host, "/shut").send().unwrap();
    assert_eq!((reply.status, reply.header("ratelimit")), (429, None));
    let unknown = "whether it is over a limit cannot be said now";
    assert!(reply.body.contains(unknown), "{reply:?}");
    redis.start_again().unwrap();
    isthmus_tests::eventually("limits to be kept again", || {
        let reply = service.call(&us.host, "/shut").send()?;
        anyhow::ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    })
    .unwrap();
    let before = shut.report();
    shut.answered_more(50).unwrap();
    assert_eq!(
        shut.report().by("429"),
        before.by("429"),
        "it was open again"
    );
    // What may pass when nobody can say did so all the time.
    let report = open.finish();
    assert_eq!((report.failed, report.by("429")), (0, 0), "{report:?}");
    let report = shut.finish();
    assert_eq!(report.failed, 0, "{report:?}");
}

/// The same answers, whoever counts.
#[test]
fn changes_and_shadows() {
    let redis = Redis::start(&WorkDir::new("redis-changes").unwrap()).unwrap();
    let us = Region::with(options(&redis)).unwrap();
    let a = |requests| limit_with(json!("caller"), requests, json!({"method": "/a"}));
    let b = limit_with(json!("caller"), 3, json!({"method": "/b"}));
    let shadow = limit_with(json!("service"), 1, json!({"mode": "shadow"}));
    let service = Limited::new(&us, "kept", &[&us.host], json!([a(2), b, shadow]));
    let ask = |path: &str, times| service.passed(&us.host, path, times);
    assert_eq!((ask("/a", 4), ask("/b", 1)), (2, 1));
    service.put(2, json!([b, shadow, a(3)]));
    assert_eq!((ask("/a", 4), ask("/b", 4)), (1, 2));
    service.counts(&[
        "caller,/b,day,enforce allowed 3",
        "caller,/b,day,enforce denied 2",
        "service,,day,shadow allowed 1",
        "service,,day,shadow shadow_denied 12",
        "caller,/a,day,enforce allowed 3",
        "caller,/a,day,enforce denied 5",
    ]);
    let reply = service.call(&us.host, "/a").send().unwrap();
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&seconds), "{reply:?}");
    let spoofed = (0..4).map(|n| {
        let call = service.call(&us.host, "/a");
        call.header("x-mesh-caller", format!("us/somebody-{n}"))
    });
    assert_eq!(passed(spoofed), 0);
}
