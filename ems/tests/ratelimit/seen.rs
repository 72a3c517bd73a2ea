//! What is to be seen of limits: `GET /v1/limits`, `ems limits` and `ems explain`, in memory and in a Redis.

use isthmus_tests::Ems;
use serde_json::{Value, json};

use crate::{
    asking::{self, Asking},
    redis, start,
};

/// Of each limit its counts, then of each budget whose, asked, left, and whether it has a window.
fn seen(ems: &Ems, path: &str) -> Vec<String> {
    let list = ems.get(path).unwrap();
    let text = |value: &Value, field: &str| match value.get(field) {
        None => "0".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let budget = |key: &Value| {
        let reset = key.get("resetsIn").map_or("", |_| " used");
        format!(
            "{}:{}/{}{reset}",
            text(key, "key"),
            text(key, "requests"),
            text(key, "left")
        )
    };
    let limits = list["limits"].as_array().unwrap().iter();
    limits
        .map(|limit| {
            let counts =
                ["allowed", "denied", "shadowDenied", "errors"].map(|name| text(limit, name));
            let none = Vec::new();
            let busiest = limit["busiest"].as_array().unwrap_or(&none);
            let busiest: Vec<_> = busiest.iter().map(budget).collect();
            format!(
                "{} {}: {} [{}]",
                text(limit, "service"),
                text(limit, "limit"),
                counts.join(" "),
                busiest.join(", ")
            )
        })
        .collect()
}

async fn check(ems: &Ems) {
    asking::put(
        ems,
        json!([
            {"per": "caller", "requests": 2, "unit": "day", "scope": "region"},
            {"per": "service", "requests": 3, "unit": "day", "scope": "region", "mode": "shadow"},
            {"per": "caller", "requests": 9},
        ]),
    );
    let asking = Asking::new(ems).await;
    for caller in ["a", "a", "a", "a", "b", "b"] {
        let text = format!("1h;pay;caller,,day,enforce|us/{caller};service,,day,shadow|");
        asking.ask(&text).await;
    }
    let want = [
        "pay caller 2/day region: 4 2 0 0 [us/a:4/0 used, us/b:2/0 used]",
        "pay service 3/day region shadow: 3 0 1 0 [0:6/0 used]",
    ];
    assert_eq!(seen(ems, "/v1/limits"), want);
    assert_eq!(seen(ems, "/v1/limits?service=PAY"), want);

    let table = ems.run(["limits", "--keys", "1"]).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{table}");
    // It ends in 86400 seconds, or some fewer.
    let row = rows[1].join(" ");
    let begin = "pay caller 2/day region 4 2 0 0 us/a 4 0 of 2 86";
    assert!(row.starts_with(begin), "{table}");
    let json: Value = serde_json::from_str(&ems.run(["limits", "--json"]).unwrap()).unwrap();
    assert_eq!(json["limits"][0]["denied"], "2");
    let error = ems.run(["limits", "--service", "nobody"]).unwrap_err();
    assert!(format!("{error:#}").contains("nobody"), "{error:#}");

    // A caller of whom nothing was used yet, and one that has nothing left.
    for (caller, mine) in [("c", "us/c 2 of 2 -"), ("a", "us/a 0 of 2 86")] {
        let caller = format!("us/{caller}");
        let words = ems
            .run(["explain", "--service", "pay", "--caller", &caller])
            .unwrap();
        let words: Vec<_> = words.split_whitespace().collect();
        let words = words.join(" ");
        let all = "service 3/day region shadow (all) 0 of 3 86";
        assert!(
            words.contains(&format!("caller 2/day region {mine}")),
            "{words}"
        );
        assert!(words.contains(all), "{words}");
    }
    // Looking charges nothing.
    assert_eq!(seen(ems, "/v1/limits"), want);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    check(&start("limits-seen")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_redis() {
    let mut redis = redis::redis("limits-seen-redis");
    let ems = redis::ems(&redis, "limits-seen-on-redis");
    check(&ems).await;
    // Of budgets that cannot be asked for nothing is said.
    redis.kill();
    let want = "pay caller 2/day region: 4 2 0 0 [us/a:4/0, us/b:2/0]";
    assert_eq!(seen(&ems, "/v1/limits")[0], want);
    let table = ems.run(["limits"]).unwrap();
    assert!(table.contains("unknown"), "{table}");
}
