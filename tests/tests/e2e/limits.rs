//! Rate limits in real Envoys: how many requests pass, whichever threads, connections and Envoys they come through.
//!
//! The limits are per day, so that nothing refills while a test runs, and what passes is an exact number.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use isthmus_tests::{Call, Envoy, Reply, eventually};
use isthmus_upstream::{Client, ECHO_SERVICE};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    filter::{self, FIRST, put_config, start_with, version_in_force},
    stage,
};

/// What the names of limits' counters begin with; service, limit and outcome follow.
pub(crate) const COUNTER: &str = "wasmcustom.isthmus.limit_requests_total.";

/// A filter config whose service `payments` has these limits.
fn config(version: &str, limits: Value) -> Value {
    json!({
        "version": version, "region": "us", "regions": ["eu", "us"], "caller": "us/orders", "debug": true,
        "services": {"payments": {"limits": limits}},
    })
}

fn start(limits: Value) -> filter::Stage {
    start_with(&config("1", limits), 1)
}

/// Sends requests one after the other, and says how many passed. The others were refused for the limit's sake.
pub(crate) fn passed(requests: impl IntoIterator<Item = Call>) -> usize {
    let replies = requests.into_iter().map(|call| call.send().unwrap());
    replies.filter(is_passed).count()
}

pub(crate) fn is_passed(reply: &Reply) -> bool {
    match reply.status {
        200 => true,
        _ => {
            assert_eq!(reply.error(), Some("rate_limited"), "{reply:?}");
            assert_eq!(reply.status, 429, "{reply:?}");
            false
        }
    }
}

fn call(envoy: &Envoy) -> Call {
    envoy.call("GET", "/").service("payments")
}

/// Or else what a test saw would say nothing about several workers.
pub(crate) fn assert_both_workers_took_part(envoy: &Envoy) {
    for worker in ["worker_0", "worker_1"] {
        let name = format!(
            "listener.127.0.0.1_{}.{worker}.downstream_cx_total",
            envoy.port()
        );
        assert!(envoy.stat(&name).unwrap() > 0, "{name}");
    }
}

/// Waits for counters of limits; those of zero are passed over.
pub(crate) fn counts(envoy: &Envoy, want: &[(&str, u64)]) {
    let name = |name: &str| format!("{COUNTER}{name}");
    let want: BTreeMap<String, u64> = want.iter().map(|(n, count)| (name(n), *count)).collect();
    eventually(&format!("{want:?}"), || {
        let stats = envoy.stats()?;
        let got: BTreeMap<String, u64> = stats
            .into_iter()
            .filter(|(name, count)| name.starts_with(COUNTER) && *count > 0)
            .collect();
        anyhow::ensure!(got == want, "{got:?}");
        Ok(())
    })
    .unwrap();
}

/// Sends requests on a connection of its own, with as little work as can be: the workers should be busy, and not this
/// machine's clients. Says how many passed.
pub(crate) fn passed_on_one_connection(address: &str, service: &str, requests: usize) -> usize {
    let mut connection = BufReader::new(TcpStream::connect(address).unwrap());
    let limit = Some(Duration::from_secs(30));
    connection.get_ref().set_read_timeout(limit).unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-mesh-service: {service}\r\n\r\n");
    let mut pass = |_: &usize| {
        connection.get_mut().write_all(request.as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(
                connection.read_line(&mut head).unwrap(),
                0,
                "closed: {head}"
            );
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        connection.read_exact(&mut body).unwrap();
        let passed = head.starts_with("HTTP/1.1 200 ");
        let refused =
            head.starts_with("HTTP/1.1 429 ") && head.contains("x-mesh-error: rate_limited\r\n");
        assert!(passed || refused, "{head}");
        passed
    };
    (0..requests).filter(|n| pass(n)).count()
}

#[test]
fn workers_share_one_budget_exactly() {
    const BUDGET: usize = 6000;
    const CONNECTIONS: usize = 24;
    const EACH: usize = 1000;
    let stage = start_with(
        &config(
            "1",
            json!([{"per": "caller", "requests": 20, "burst": BUDGET, "unit": "day"}]),
        ),
        2,
    );
    let address = stage.envoy.address();
    let total: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| passed_on_one_connection(&address, "payments", EACH)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(total, BUDGET);
    let count = |n: usize| u64::try_from(n).unwrap();
    counts(
        &stage.envoy,
        &[
            ("payments;caller,,day,enforce.allowed", count(BUDGET)),
            (
                "payments;caller,,day,enforce.denied",
                count(CONNECTIONS * EACH - BUDGET),
            ),
        ],
    );
    assert_both_workers_took_part(&stage.envoy);
}

#[test]
fn what_is_refused_and_how() {
    let stage = start(json!([{"per": "service", "requests": 1, "unit": "day"}]));
    assert_eq!(passed([call(&stage.envoy)]), 1);
    let reply = call(&stage.envoy).debug().send().unwrap();
    assert!(!is_passed(&reply));
    assert_eq!(reply.json()["error"], "rate_limited", "{reply:?}");
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("over the limit of payments (service 1/day): try again in 86"),
        "{message}"
    );
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&seconds), "{reply:?}");
    assert_eq!(
        reply.header("ratelimit-policy"),
        Some(r#""service 1/day";q=1;w=86400"#)
    );
    assert_eq!(
        reply.header("ratelimit"),
        Some(format!(r#""service 1/day";r=0;t={seconds}"#).as_str())
    );
    assert_eq!(
        reply.header("x-mesh-receipt"),
        Some(
            r#""us";mode=outbound;config="1";refused=rate_limited;limit="service 1/day";limits="service 1/day""#
        )
    );

    let client = Client::new(&stage.envoy.address()).unwrap();
    let status = client
        .say(&[("x-mesh-service", "payments")], "")
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(
        status.message().starts_with("over the limit of payments"),
        "{status:?}"
    );
    let said = |name: &str| {
        status
            .metadata()
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    assert_eq!(said("x-mesh-error"), Some("rate_limited"));
    assert!(
        said("retry-after").is_some_and(|seconds| seconds.starts_with("86")),
        "{status:?}"
    );
    assert_eq!(
        said("ratelimit-policy"),
        Some(r#""service 1/day";q=1;w=86400"#)
    );

    // A service of another region is limited by that region.
    assert_eq!(passed(vec![call(&stage.envoy).region("eu"); 3]), 3);
    let refused = "wasmcustom.isthmus.refused.rate_limited";
    eventually(refused, || {
        stage.envoy.stat(refused).is_ok_and(|count| count == 2)
    })
    .unwrap();
}

#[test]
fn a_change_leaves_other_budgets_alone() {
    let limit = |method: &str, requests: u32| json!({"per": "caller", "method": method, "requests": requests, "unit": "day"});
    let stage = start(json!([limit("/a", 3), limit("/b", 5)]));
    let ask = |path: &str, times: usize| {
        let call = stage.envoy.call("GET", path).service("payments");
        passed(vec![call; times])
    };
    assert_eq!((ask("/a", 9), ask("/b", 4)), (3, 4));
    // Another place in the list, and twice as much of the first: of which three are used.
    put_config(
        &stage.dir,
        FIRST,
        &config("2", json!([limit("/b", 5), limit("/c", 1), limit("/a", 6)])),
    );
    eventually("config 2 in force", || {
        version_in_force(&stage).as_deref() == Some("2")
    })
    .unwrap();
    assert_eq!((ask("/b", 9), ask("/c", 9)), (1, 1));
    assert_eq!(
        ask("/a", 9),
        0,
        "an empty budget stays empty, whatever its size"
    );
    // A limit that goes and comes back finds its budget as it was.
    put_config(&stage.dir, FIRST, &config("3", json!([])));
    eventually("config 3 in force", || {
        version_in_force(&stage).as_deref() == Some("3")
    })
    .unwrap();
    assert_eq!(ask("/b", 3), 3);
    put_config(&stage.dir, FIRST, &config("4", json!([limit("/b", 5)])));
    eventually("config 4 in force", || {
        version_in_force(&stage).as_deref() == Some("4")
    })
    .unwrap();
    assert_eq!(ask("/b", 3), 0);
}

#[test]
fn a_larger_burst_is_there_at_once() {
    let limit =
        |burst: u32| json!([{"per": "caller", "requests": 10, "burst": burst, "unit": "day"}]);
    let stage = start(limit(3));
    assert_eq!(passed(vec![call(&stage.envoy); 5]), 3);
    let version = |number: &str, burst: u32| {
        put_config(&stage.dir, FIRST, &config(number, limit(burst)));
        // Asked of another region: what is asked here is counted.
        let config = format!("config=\"{number}\"");
        eventually(&config, || {
            let reply = call(&stage.envoy).region("eu").debug().send()?;
            anyhow::ensure!(
                reply
                    .header("x-mesh-receipt")
                    .unwrap_or_default()
                    .contains(&config),
                "{reply:?}"
            );
            Ok(())
        })
        .unwrap();
    };
    version("2", 7);
    assert_eq!(passed(vec![call(&stage.envoy); 9]), 4);
    version("3", 2);
    assert_eq!(passed(vec![call(&stage.envoy); 9]), 0);
}

#[test]
fn a_shadow_limit_only_counts() {
    let stage = start(json!([
        {"per": "caller", "requests": 2, "unit": "day", "mode": "shadow"},
        {"per": "service", "requests": 4, "unit": "day"},
    ]));
    assert_eq!(passed(vec![call(&stage.envoy); 9]), 4);
    counts(
        &stage.envoy,
        &[
            ("payments;caller,,day,shadow.allowed", 2),
            // Two that passed, and five that the other limit refused.
            ("payments;caller,,day,shadow.shadow_denied", 7),
            ("payments;service,,day,enforce.allowed", 4),
            ("payments;service,,day,enforce.denied", 5),
        ],
    );
}

#[test]
fn no_header_of_a_caller_is_a_way_out() {
    let stage = start(json!([{"per": "caller", "requests": 3, "unit": "day"}]));
    let spoofed = (0..9).map(|n| {
        call(&stage.envoy)
            .header("x-mesh-caller", format!("us/somebody-{n}"))
            .header("x-mesh-hops", "1")
            .header("x-mesh-destination", format!("other-{n}.us"))
            .header("x-envoy-original-path", format!("/{n}"))
    });
    assert_eq!(passed(spoofed), 3);
}

#[test]
fn each_tenant_has_a_budget() {
    let stage = start(json!([{"per": "header:x-tenant", "requests": 2, "unit": "day"}]));
    let ask = |values: &[&[u8]]| {
        let call = values.iter().fold(call(&stage.envoy), |call, value| {
            call.header("x-tenant", value)
        });
        passed(vec![call; 4])
    };
    assert_eq!(ask(&[b"a"]), 2);
    assert_eq!(ask(&[b"b"]), 2);
    assert_eq!(ask(&[b"a"]), 0);
    assert_eq!(ask(&[&[b'a'; 20_000]]), 2, "any length");
    assert_eq!(ask(&[b"\xff\xfe"]), 2, "any bytes");
    // Those who give none, and those who give several, share one.
    assert_eq!(ask(&[]), 2);
    assert_eq!(ask(&[b"a", b"c"]), 2);
    assert_eq!(ask(&[b"a", b"d"]), 0);
}

/// The config that a region's gateway has in force, as its receipts say.
fn gateway_config(from: &Envoy, service: &str, region: &str) -> anyhow::Result<String> {
    let reply = from
        .call("GET", "/")
        .service(service)
        .region(region)
        .debug()
        .send()?;
    let receipts = reply
        .headers
        .iter()
        .filter(|(name, _)| name == "x-mesh-receipt");
    let text: Vec<&str> = receipts.map(|(_, value)| value.as_str()).collect();
    let text = text.join(", ");
    let config = text
        .split_once("mode=gateway;config=\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    let (config, _) = config.ok_or_else(|| anyhow::anyhow!("no gateway in {text}: {reply:?}"))?;
    Ok(config.to_owned())
}

#[test]
fn a_gateway_limits_callers_of_other_regions() {
    let stage = stage::shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let _metered = stage::service_for(eu, "metered", json!({}), "metered-1", &us.host);
    let put = |requests: u32| {
        let before = gateway_config(&us.host, "metered", "eu").unwrap();
        let limit =
            json!({"per": "caller", "method": "/charge", "requests": requests, "unit": "day"});
        eu.ems
            .put_service("metered", json!({"rateLimits": [limit]}))
            .unwrap();
        eventually("another config at the gateway", || {
            gateway_config(&us.host, "metered", "eu").is_ok_and(|now| now != before)
        })
        .unwrap();
    };
    put(4);
    let charge = |envoy: &Envoy| envoy.call("GET", "/charge").service("metered").region("eu");
    assert_eq!(passed(vec![charge(&us.host); 9]), 4);
    let reply = charge(&us.host).debug().send().unwrap();
    let receipt = reply.header("x-mesh-receipt").unwrap();
    assert!(receipt.contains("\"eu\";mode=gateway"), "{receipt}");
    assert!(
        receipt.contains("refused=rate_limited;limit=\"caller /charge 4/day\""),
        "{receipt}"
    );
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    // Another caller has another budget, by its certificate and not by what it says.
    let insider = crate::identity::Insider::of(us, eu).envoy;
    let spoofed = charge(&insider).header("x-mesh-caller", "us/client");
    assert_eq!(passed(vec![spoofed; 6]), 4);
    // Callers of the region itself come in by another Envoy, whose budget is its own.
    eventually("the limit at the host Envoy", || {
        let reply = charge(&eu.host).debug().send()?;
        let receipt = reply.header("x-mesh-receipt").unwrap_or_default();
        anyhow::ensure!(receipt.contains("limits="), "{receipt}");
        Ok(())
    })
    .unwrap();
    assert_eq!(passed(vec![charge(&eu.host); 6]), 3);

    let question = [
        "explain",
        "--service",
        "metered",
        "--caller",
        "us/client",
        "--header",
        ":path=/charge",
    ];
    let told = eu.ems.run(question).unwrap();
    assert!(told.contains("caller /charge 4/day"), "{told}");
}

/// How long that takes `cargo xtask bench ratelimit` prints.
#[test]
fn a_change_applies_while_requests_flow_and_resets_no_other_limit() {
    const OTHER: usize = 40;
    let us = &stage::shared().mesh.us;
    let _upstream = stage::service(us, "changing", json!({}), "changing-1");
    let put = |burst: usize| {
        let limit = |method: &str, burst: usize| json!({"per": "caller", "method": method, "requests": 1, "burst": burst, "unit": "day"});
        let limits = [limit("/changed", burst), limit("/other", OTHER)];
        us.ems
            .put_service("changing", json!({"rateLimits": limits}))
            .unwrap();
    };
    let ask = |path: &str| passed([us.host.call("GET", path).service("changing")]);
    put(1);
    eventually("the limit", || ask("/changed") == 0).unwrap();
    let changed = AtomicBool::new(false);
    let others = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut passed = 0;
            while !changed.load(Ordering::SeqCst) {
                passed += ask("/other");
            }
            passed + (0..2 * OTHER).map(|_| ask("/other")).sum::<usize>()
        });
        for burst in 2..8 {
            put(burst);
            eventually("one more to pass", || ask("/changed") == 1).unwrap();
            assert_eq!(ask("/changed"), 0, "no more than one more");
        }
        changed.store(true, Ordering::SeqCst);
        load.join().unwrap()
    });
    assert_eq!(others, OTHER);
}

#[test]
fn grpc_methods_have_limits_of_their_own() {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let service = "metered-grpc";
    let _upstream = stage::service(us, service, json!({"protocol": "grpc"}), "metered-grpc-1");
    let method = format!("/{ECHO_SERVICE}/Say");
    let limit = json!({"per": "method", "requests": 2, "unit": "day"});
    us.ems
        .put_service(service, json!({"protocol": "grpc", "rateLimits": [limit]}))
        .unwrap();
    let client = Client::new(&us.host.address()).unwrap();
    let say = || client.say(&[("x-mesh-service", service)], "");
    let mut allowed = 0;
    eventually("the limit to bind", || match say() {
        Ok(_) => {
            allowed += 1;
            false
        }
        Err(status) => {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            true
        }
    })
    .unwrap();
    assert!(allowed >= 2, "{method}: {allowed}");
    // A path of its own, a budget of its own.
    let other = us.host.call("GET", "/other").service(service);
    let replies: Vec<_> = (0..4)
        .map(|_| other.send().unwrap().error().map(str::to_owned))
        .collect();
    let refused = Some("rate_limited".to_owned());
    assert_eq!(replies[2..], [refused.clone(), refused.clone()]);
    assert_ne!(replies[1], refused);
}
