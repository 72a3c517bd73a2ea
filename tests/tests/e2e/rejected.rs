//! A record that no Envoy can use: marked, and not served to those that come.

use isthmus_tests::{Envoy, Region, ems::Node, eventually};
use serde_json::{Value, json};

use crate::stage;

/// An Envoy that cannot check health by TCP.
fn picky(region: &Region, name: &str) -> Envoy {
    let node = Node {
        name: name.to_owned(),
        envoy_arguments: vec![
            "--disable-extensions".to_owned(),
            "envoy.health_checkers/envoy.health_checkers.tcp".to_owned(),
        ],
        ..Node::sidecar("picky").with(["--uses", "shop"])
    };
    region.envoy(&node).unwrap()
}

fn rejected(region: &Region) -> Value {
    let reply = region.ems.call("GET", "/v1/services/shop").send().unwrap();
    reply.json()["rejected"].clone()
}

#[test]
fn what_every_envoy_rejects_is_marked_and_newcomers_get_what_was_good() {
    let us = Region::start("us").unwrap();
    us.ems.put_service("shop", json!({})).unwrap();
    let _shop = stage::endpoint(&us, "shop", "one");
    let first = picky(&us, "first");
    stage::reaches(&first, "shop", "us", "one");
    assert_eq!(rejected(&us), Value::Null);

    let checked = json!({"healthCheck": {"tcp": {}}});
    us.ems.put_service("shop", checked.clone()).unwrap();
    let marks = eventually("the rejection to be on the record", || {
        let marks = rejected(&us);
        (marks != Value::Null).then_some(marks)
    })
    .unwrap();
    assert_eq!(marks[0]["name"], "shop.us", "{marks}");
    assert_eq!(marks[0]["formerServed"], true, "{marks}");
    let words = "envoy.health_checkers.tcp";
    assert!(
        marks[0]["error"].as_str().unwrap().contains(words),
        "{marks}"
    );
    let counted = || us.ems.metric("ems_rejected_resources", "type=\"cluster\"");
    assert!((counted().unwrap() - 1.0).abs() < f64::EPSILON);
    for command in [&["status"][..], &["get", "services", "shop"]] {
        let text = us.ems.run(command.iter().copied()).unwrap();
        assert!(
            text.contains("by every client") && text.contains(words),
            "{text}"
        );
    }

    // The Envoy that comes back gets what was good before, and so does one that comes and rejects it too.
    drop(first);
    let again = picky(&us, "first");
    stage::reaches(&again, "shop", "us", "one");
    let second = picky(&us, "second");
    stage::reaches(&second, "shop", "us", "one");
    // From then on nobody is asked any more, not even one that could take it.
    stage::reaches(&us.host, "shop", "us", "one");
    let checks = || {
        us.host
            .stat("cluster.shop.us.health_check.attempt")
            .unwrap()
    };
    assert_eq!(checks(), 0);
    assert_ne!(rejected(&us), Value::Null);

    us.ems
        .put_service("shop", json!({"connectTimeout": "2s"}))
        .unwrap();
    assert_eq!(rejected(&us), Value::Null, "another version of the record");

    // Now an Envoy has it that takes what the other cannot: one is enough.
    us.ems.put_service("shop", checked).unwrap();
    eventually("health checks where they can be made", || checks() > 0).unwrap();
    eventually("the other Envoy to say no", || {
        let status = us.ems.run(["status"])?;
        anyhow::ensure!(status.contains(words), "{status}");
        Ok(())
    })
    .unwrap();
    eventually("the record to be good", || rejected(&us) == Value::Null).unwrap();
    assert!(counted().unwrap().abs() < f64::EPSILON);
}
