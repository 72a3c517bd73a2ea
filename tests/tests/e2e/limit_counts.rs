//! What Envoy says of rate limits: a counter for each limit and outcome, and only so many of them.

use std::{thread, time::Duration};

use isthmus_tests::{Call, Envoy, eventually, http};
use serde_json::{Value, json};

use crate::{
    filter::{FIRST, put_config, start_with, version_in_force},
    limits::{COUNTER, assert_both_workers_took_part, counts},
    stage,
};

/// A filter config with services that have limits.
fn config(version: &str, services: &Value) -> Value {
    json!({
        "version": version, "region": "us", "caller": "us/orders", "debug": true, "services": services,
    })
}

fn limit(per: &str, requests: usize) -> Value {
    json!({"per": per, "requests": requests, "unit": "day"})
}

fn ask(envoy: &Envoy, service: &str, path: &str, times: usize) {
    for _ in 0..times {
        envoy.call("GET", path).service(service).send().unwrap();
    }
}

#[test]
fn each_limit_of_each_service_is_counted() {
    let mut charge = limit("header:x-tenant", 2);
    charge["method"] = "/pay.v1.Pay/Charge:now".into();
    // There is nobody behind the second: that matters after its limits were charged.
    let services = |burst: usize| {
        let mut caller = limit("caller", 10);
        caller["burst"] = burst.into();
        json!({
            "payments": {"limits": [caller, charge]},
            "a.b..c-d--e": {"limits": [limit("caller", 4)]},
        })
    };
    let stage = start_with(&config("1", &services(3)), 1);
    ask(&stage.envoy, "payments", "/", 4);
    ask(&stage.envoy, "A.b..c-d--E", "/", 6);
    let odd = [
        ("a.b..c-d--e;caller,,day,enforce.allowed", 4),
        ("a.b..c-d--e;caller,,day,enforce.denied", 2),
    ];
    let want = [
        ("payments;caller,,day,enforce.allowed", 3),
        ("payments;caller,,day,enforce.denied", 1),
    ];
    counts(&stage.envoy, &[want, odd].concat());
    // A limit of another size is the same limit.
    put_config(&stage.dir, FIRST, &config("2", &services(30)));
    eventually("config 2 in force", || {
        version_in_force(&stage).as_deref() == Some("2")
    })
    .unwrap();
    let goes_on = format!("{COUNTER}{}", want[0].0);
    eventually(&goes_on, || {
        stage.envoy.stat(&goes_on).is_ok_and(|count| count > 3)
    })
    .unwrap();
    ask(&stage.envoy, "payments", "/pay.v1.Pay/Charge:now?a=b", 3);
    let charge = [
        (
            "payments;header:x-tenant,/pay.v1.Pay/Charge:now,day,enforce.allowed",
            2,
        ),
        (
            "payments;header:x-tenant,/pay.v1.Pay/Charge:now,day,enforce.denied",
            1,
        ),
    ];
    eventually("the other limits", || {
        let stats = stage.envoy.stats()?;
        for (name, want) in charge.into_iter().chain(odd) {
            let got = stats.get(&format!("{COUNTER}{name}"));
            anyhow::ensure!(got == Some(&want), "{name}: {got:?}");
        }
        Ok(())
    })
    .unwrap();
}

/// Workers agree on which limits have counters of their own: each was asked as often as was said.
#[test]
fn a_thousand_limits_have_counters() {
    const MOST: usize = 1000;
    const OF_EACH: usize = 16;
    const SERVICES: usize = 64;
    const CONNECTIONS: usize = 8;
    let limits: Vec<Value> = (0..OF_EACH)
        .map(|n| limit(&format!("header:x-{n}"), 1000))
        .collect();
    let names: Vec<String> = (0..SERVICES).map(|n| format!("s{n}")).collect();
    let services: Value = names
        .iter()
        .map(|name| (name.clone(), json!({"limits": limits})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut stage = start_with(&config("1", &services), 2);
    let url = format!("http://{}/", stage.envoy.address());
    thread::scope(|scope| {
        for at in 0..CONNECTIONS {
            let (names, url) = (&names, &url);
            scope.spawn(move || {
                let client = http::agent(Duration::from_secs(30));
                // Each begins with another service.
                let names = names.iter().cycle().skip(at * SERVICES / CONNECTIONS);
                for name in names.take(SERVICES) {
                    let call = Call::on(&client, "GET", url.clone());
                    call.service(name).send().unwrap();
                }
            });
        }
    });
    let others = u64::try_from(CONNECTIONS * (SERVICES * OF_EACH - MOST)).unwrap();
    eventually("all to be counted", || {
        let stats = stage.envoy.stats()?;
        let counted = stats
            .iter()
            .filter_map(|(name, count)| Some((name.strip_prefix(COUNTER)?, *count)));
        let counted: Vec<_> = counted.collect();
        anyhow::ensure!(counted.len() == (MOST + 1) * 4, "{}", counted.len());
        let own = counted
            .iter()
            .filter(|(_, count)| *count == CONNECTIONS as u64);
        anyhow::ensure!(own.count() == MOST, "{counted:?}");
        anyhow::ensure!(
            counted.contains(&("other;other.allowed", others)),
            "{counted:?}"
        );
        Ok(())
    })
    .unwrap();
    assert_both_workers_took_part(&stage.envoy);
    let log = stage.envoy.process().log_text();
    let told = log.matches("1000 rate limits have counters of their own");
    assert_eq!(told.count(), 2, "once for each worker: {log}");
}

/// By the bootstrap that EMS makes.
#[test]
fn prometheus_has_labels() {
    let us = &stage::shared().mesh.us;
    let names = ["counted", "counted-too.v1"];
    let _upstreams = names.map(|name| {
        let limits = json!({"rateLimits": [
            {"per": ["header:x-tenant", "caller"], "method": "/a", "requests": 2, "unit": "day"},
        ]});
        let upstream = stage::service(us, name, json!({}), &format!("{name}-1"));
        us.ems.put_service(name, limits).unwrap();
        eventually("the limit", || {
            let reply = us.host.call("GET", "/a").service(name).send()?;
            anyhow::ensure!(reply.status == 429, "{reply:?}");
            Ok(())
        })
        .unwrap();
        upstream
    });
    ask(&us.host, names[1], "/a", 5);
    let line = |service: &str, outcome: &str| {
        format!(
            "isthmus_limit_requests_total{{service=\"{service}\",limit=\"caller+header:x-tenant,/a,day,enforce\",\
             outcome=\"{outcome}\"}} "
        )
    };
    eventually("the labels", || {
        let page = us.host.admin("/stats/prometheus")?.body;
        let count = |service: &str, outcome: &str| {
            let line = line(service, outcome);
            let count = page.lines().find_map(|l| l.strip_prefix(&line));
            count.and_then(|count| count.parse::<u64>().ok())
        };
        for (service, least) in [(names[0], 1), (names[1], 6)] {
            let denied = count(service, "denied");
            anyhow::ensure!(denied >= Some(least), "{service}: {denied:?}");
            for (outcome, want) in [("allowed", 2), ("shadow_denied", 0), ("unchecked", 0)] {
                let got = count(service, outcome);
                anyhow::ensure!(got == Some(want), "{service} {outcome}: {got:?}");
            }
        }
        let types = page
            .lines()
            .filter(|line| line.starts_with("# TYPE isthmus_limit"));
        let types: Vec<_> = types.collect();
        anyhow::ensure!(
            types == ["# TYPE isthmus_limit_requests_total counter"],
            "{types:?}"
        );
        Ok(())
    })
    .unwrap();
}
