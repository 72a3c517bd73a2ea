//! What is asked, and what is explained.

use isthmus_model::RegionName;

use super::*;
use crate::{
    record::{CallerPattern, Service},
    registry::Affected,
    resources::tests::world::{World, endpoint, put_endpoint, put_service, service},
};

/// `us` knows `payments` (one endpoint), `ledger` (only for `us/orders`), `empty` (no endpoint) and the regions `eu` and
/// `ap`.
fn world() -> World {
    let world = World::new();
    let orders = CallerPattern {
        region: Some("us".parse::<RegionName>().unwrap()),
        service: Some("orders".parse().unwrap()),
    };
    put_service(
        &world.maps,
        Service {
            access: Some(vec![orders]),
            ..service("ledger")
        },
    );
    put_endpoint(&world.maps, endpoint("ledger", "a", "127.0.0.1:7100"));
    put_service(&world.maps, service("empty"));
    for name in ["ledger", "empty"] {
        world.apply(Affected::Service(name.parse().unwrap()));
    }
    world
}

fn ask(world: &World, caller: &str, words: &str) -> Result<Explanation, Invalid> {
    let mut question = ExplainRequest {
        caller: caller.to_owned(),
        ..ExplainRequest::default()
    };
    for word in words.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        match name {
            "service" => question.service = value.to_owned(),
            "region" => question.region = value.to_owned(),
            _ => drop(question.headers.insert(name.to_owned(), value.to_owned())),
        }
    }
    explain(&question, &world.resources).map(|(explanation, _)| explanation)
}

/// `outcome destination error: targets`.
fn check(caller: &str, words: &str, expect: &str) {
    let answer = ask(&world(), caller, words).unwrap();
    let targets: Vec<_> = answer.targets.iter().map(|t| t.address.as_str()).collect();
    let found = format!(
        "{} {}{}: {}",
        answer.outcome,
        answer.destination,
        answer.error,
        targets.join(" ")
    );
    assert_eq!(found, expect, "{caller} {words}: {:#?}", answer.steps);
    assert!(!answer.steps.is_empty());
}

#[test]
fn decisions_and_targets() {
    for (caller, words, expect) in [
        (
            "us/orders",
            "service=payments",
            "local payments.us: 127.0.0.1:7001",
        ),
        (
            "us/orders",
            "service=payments region=eu",
            "remote payments.eu: 127.0.0.2:15443",
        ),
        (
            "us/orders",
            "service=payments region=any",
            "local payments.any: 127.0.0.1:7001 127.0.0.2:15443 127.0.0.3:15443",
        ),
        (
            "us/orders",
            "host=payments.eu.mesh",
            "remote payments.eu: 127.0.0.2:15443",
        ),
        (
            "us/orders",
            "content-type=application/grpc :path=/payments/Pay",
            "local payments.us: 127.0.0.1:7001",
        ),
        (
            "us/orders",
            "X-Mesh-Service=payments",
            "local payments.us: 127.0.0.1:7001",
        ),
        (
            "us/orders",
            "service=ledger",
            "local ledger.us: 127.0.0.1:7100",
        ),
        ("us/billing", "service=ledger", "refused denied: "),
        ("", "service=ledger", "refused denied: "),
        ("", "service=payments", "local payments.us: 127.0.0.1:7001"),
        // At a gateway, by certificate.
        (
            "eu/orders",
            "service=payments",
            "local payments.us: 127.0.0.1:7001",
        ),
        ("eu/orders", "service=ledger", "refused denied: "),
        ("eu/orders", "service=payments region=ap", "refused loop: "),
        ("us/orders", "region=us", "refused missing_service: "),
        (
            "us/orders",
            "service=payments region=mars",
            "refused unknown_region: ",
        ),
        (
            "us/orders",
            "service=payments x-mesh-version=v2",
            "refused bad_version: ",
        ),
        ("us/orders", "service=nobody", "refused unknown_service: "),
        (
            "us/orders",
            "service=empty",
            "refused no_healthy_endpoint: ",
        ),
    ] {
        check(caller, words, expect);
    }
}

#[test]
fn a_draining_endpoint_is_shown_and_not_counted() {
    let world = world();
    let drained = Endpoint {
        draining: true,
        zone: Some("z1".into()),
        ..endpoint("empty", "a", "127.0.0.1:1")
    };
    put_endpoint(&world.maps, drained);
    let answer = ask(&world, "", "service=empty").unwrap();
    assert_eq!(answer.error, "no_healthy_endpoint");
    assert_eq!(
        answer.targets[0].detail,
        "draining: takes no new requests, weight 1, zone z1"
    );
    let answer = ask(&world, "", "service=empty region=any").unwrap();
    assert_eq!(
        (&*answer.outcome, &*answer.destination),
        ("remote", "empty.any"),
        "what drains here is passed over"
    );
    let again = endpoint("empty", "b", "127.0.0.1:1");
    put_endpoint(&world.maps, again);
    let answer = ask(&world, "", "service=empty").unwrap();
    let targets: Vec<_> = answer.targets.iter().map(|t| &*t.detail).collect();
    assert_eq!(targets, ["weight 1"], "one address is one host");
}

#[test]
fn a_question_that_makes_no_sense() {
    let error = ask(&world(), "orders", "service=payments").unwrap_err();
    assert!(error.to_string().contains("caller"), "{error}");
}

#[test]
fn limits_are_named() {
    let world = world();
    let raw = r#"{"name": "ledger", "rateLimits": [
        {"per": "caller", "requests": 5, "unit": "minute"},
        {"per": "service", "method": "/l.L/Apply", "requests": 1, "unit": "hour", "mode": "shadow"},
        {"per": "service", "requests": 7, "scope": "region"},
        {"per": "caller", "method": "/l.L/Apply", "requests": 3, "scope": "region"}]}"#;
    let limited = Service::parse(&crate::json::read(raw.as_bytes()).unwrap()).unwrap();
    put_service(&world.maps, limited);
    world.apply(Affected::Service("ledger".parse().unwrap()));
    let says = |caller: &str, words: &str, expect: &str| {
        let answer = ask(&world, caller, words).unwrap();
        let step = answer.steps.iter().find(|step| step.name == "limits");
        let detail = step.map(|step| step.detail.as_str());
        assert_eq!(detail, Some(expect), "{words}: {answer:?}");
    };
    let both = "caller 5/minute, service /l.L/Apply 1/hour shadow, at this Envoy, which alone knows how full they are; service 7/second region, caller /l.L/Apply \
                3/second region, at EMS, for the whole region";
    says("us/orders", "service=ledger :path=/l.L/Apply", both);
    says("eu/orders", "service=ledger :path=/l.L/Apply", both);
    says(
        "us/orders",
        "service=ledger",
        "caller 5/minute, at this Envoy, which alone knows how full they are; service 7/second region, at EMS, for the whole region; not of this :path: service \
         /l.L/Apply 1/hour shadow, caller /l.L/Apply 3/second region",
    );
    says("us/orders", "service=payments", "none");
    says(
        "us/orders",
        "service=ledger region=eu",
        "those of the other region, at its gateway",
    );
}

#[test]
fn what_is_leased_out() {
    let world = world();
    let raw = r#"{"name": "ledger", "rateLimits": [
        {"per": "caller", "requests": 90, "unit": "minute", "burst": 9, "scope": "region", "lease": true}]}"#;
    let leased = Service::parse(&crate::json::read(raw.as_bytes()).unwrap()).unwrap();
    put_service(&world.maps, leased);
    world.apply(Affected::Service("ledger".parse().unwrap()));
    let question = |service: &str| ExplainRequest {
        caller: "us/orders".to_owned(),
        service: service.to_owned(),
        ..ExplainRequest::default()
    };
    let (_, asks) = explain(&question("payments"), &world.resources).unwrap();
    assert_eq!(asks, Asks::default());
    let (_, asks) = explain(&question("ledger"), &world.resources).unwrap();
    assert_eq!(asks.question, None);
    let (limit, bucket) = asks.lease.unwrap();
    assert_eq!(bucket, "1;ledger;caller,,minute,enforce,lease|us/orders");
    for (envoys, rate, expect) in [
        (0, 0, "no Envoy holds a share now"),
        (1, 90_000, "1 Envoy holds 90"),
        (3, 60_500, "3 Envoys hold 60.5"),
        (2, 2, "2 Envoys hold 0.002"),
    ] {
        let step = lease_step(&limit, Lent { envoys, rate });
        let words = format!(
            "of 90 requests a minute: {expect}; how full its share is only the Envoy knows"
        );
        assert_eq!((&*step.name, step.detail), ("lease", words));
    }
}
