//! Limits of the region: what passes is an exact number, whichever Envoys, threads and connections requests come through.
//!
//! The limits are per day, and a window begins with its first request, so no window ends while a test runs.

mod redis;

use std::thread;

use isthmus_tests::{Call, Ems, Envoy, Region, ems::Node, eventually};
use isthmus_upstream::{Client, Upstream};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    limits::{passed, passed_on_one_connection},
    stage,
};

/// A service with limits, which some Envoys know already.
struct Limited<'a> {
    region: &'a Region,
    name: String,
    envoys: Vec<&'a Envoy>,
    _upstream: Upstream,
}

impl<'a> Limited<'a> {
    fn new(region: &'a Region, name: &str, envoys: &[&'a Envoy], limits: Value) -> Self {
        let limited = Self {
            region,
            name: name.to_owned(),
            envoys: envoys.to_vec(),
            _upstream: stage::service(region, name, json!({}), &format!("{name}-1")),
        };
        limited.put(1, limits);
        limited
    }

    /// Changes the limits, and waits until the Envoys know: then they know those of another service too, which is changed
    /// afterwards, and to ask that one costs no budget of a test.
    fn put(&self, version: u32, limits: Value) {
        let ems = &self.region.ems;
        let record = json!({"rateLimits": limits});
        ems.put_service(&self.name, record).unwrap();
        let limit = json!({"per": "service", "requests": 900_000 + version, "unit": "day"});
        let record = json!({"rateLimits": [limit]});
        ems.put_service(&self.witness(), record).unwrap();
        for envoy in &self.envoys {
            self.knows(envoy, version);
        }
    }

    fn witness(&self) -> String {
        format!("{}-witness", self.name)
    }

    fn knows(&self, envoy: &Envoy, version: u32) {
        let mark = format!("{}/day", 900_000 + version);
        eventually(&format!("version {version} of the limits"), || {
            let call = envoy.call("GET", "/").service(&self.witness());
            let reply = call.region(&self.region.name).debug().send()?;
            let receipt = reply.header("x-mesh-receipt").unwrap_or_default();
            anyhow::ensure!(receipt.contains(&mark), "{reply:?}");
            Ok(())
        })
        .unwrap();
    }

    fn call(&self, envoy: &Envoy, path: &str) -> Call {
        envoy.call("GET", path).service(&self.name)
    }

    fn passed(&self, envoy: &Envoy, path: &str, times: usize) -> usize {
        passed(vec![self.call(envoy, path); times])
    }

    /// Waits for what EMS counted of the service's limits: `<limit> <outcome> <count>`.
    fn counts(&self, want: &[&str]) {
        let service = format!("service=\"{}\"", self.name);
        eventually(&format!("{want:?}"), || {
            let page = self.region.ems.call("GET", "/metrics").send()?.ok()?.body;
            let lines = page.lines().filter(|line| {
                line.starts_with("ems_limit_requests_total{")
                    && line.contains(&service)
                    && !line.ends_with(" 0")
            });
            let got: Vec<String> = lines
                .map(|line| {
                    let words: Vec<&str> = line.split('"').collect();
                    let count = line.rsplit(' ').next().unwrap();
                    format!("{} {} {count}", words[3], words[5])
                })
                .collect();
            anyhow::ensure!(got == want, "{got:?}");
            Ok(())
        })
        .unwrap();
    }
}

/// A limit of the region, a day long.
fn limit(per: Value, requests: usize) -> Value {
    json!({"per": per, "requests": requests, "unit": "day", "scope": "region"})
}

/// `limit` with more fields.
fn limit_with(per: Value, requests: usize, more: Value) -> Value {
    let mut limit = limit(per, requests);
    let fields = more.as_object().unwrap().clone();
    limit.as_object_mut().unwrap().extend(fields);
    limit
}

/// So many passed, of a limit with `onError: deny`. Never more; and fewer only if an answer was too late, to Envoy or to
/// EMS, as may be on a busy machine: such a request counts as refused, and may have been charged.
fn exactly(passed: usize, budget: usize, asked: &[(&Envoy, &Ems)]) {
    let late = |(envoy, ems): &(&Envoy, &Ems)| {
        let page = ems.call("GET", "/metrics").send().unwrap().body;
        let calls = page.lines().find_map(|line| {
            let count = line.strip_prefix("ems_redis_calls_total{outcome=\"failed\"} ")?;
            count.parse::<u64>().ok()
        });
        envoy.stat_sum(".ratelimit.deny.error").unwrap() + calls.unwrap_or_default()
    };
    let late: u64 = asked.iter().map(late).sum();
    let least = budget - usize::try_from(late).unwrap();
    assert!((least..=budget).contains(&passed), "{passed}, {late} late");
}

#[test]
fn envoys_and_their_workers_share_one_budget_exactly() {
    const BUDGET: usize = 500;
    // So many that both workers of an Envoy have some.
    const CONNECTIONS: usize = 12;
    const EACH: usize = 84;
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let envoys = ["first", "second"].map(|name| {
        let node = Node::host("client").named(name).workers(2);
        us.envoy(&node).unwrap()
    });
    let [first, second] = &envoys;
    let service = Limited::new(
        us,
        "shared-budget",
        &[first, second],
        json!([limit_with(
            json!("caller"),
            BUDGET,
            json!({"onError": "deny"})
        )]),
    );
    let total: usize = thread::scope(|scope| {
        let threads: Vec<_> = [first, second]
            .into_iter()
            .flat_map(|envoy| vec![envoy.address(); CONNECTIONS])
            .map(|address| {
                let name = &service.name;
                scope.spawn(move || passed_on_one_connection(&address, name, EACH))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    exactly(total, BUDGET, &[(first, &us.ems), (second, &us.ems)]);
    let denied = 2 * CONNECTIONS * EACH - BUDGET;
    service.counts(&[
        &format!("caller,,day,enforce allowed {BUDGET}"),
        &format!("caller,,day,enforce denied {denied}"),
    ]);
}

#[test]
fn what_is_refused_and_how() {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let service = Limited::new(
        us,
        "refusing",
        &[&us.host],
        json!([limit(json!("service"), 1), limit(json!("caller"), 100)]),
    );
    let reply = service.call(&us.host, "/").debug().send().unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let text = reply.body.to_lowercase();
    assert!(
        !text.contains("x-mesh-limit"),
        "what filters say to each other is theirs: {text}"
    );
    assert_eq!(reply.header("x-mesh-error"), None);
    let receipt = reply.header("x-mesh-receipt").unwrap();
    assert!(
        receipt.ends_with(r#";limits="service 1/day region, caller 100/day region""#),
        "{receipt}"
    );

    let reply = service.call(&us.host, "/").debug().send().unwrap();
    assert_eq!((reply.status, reply.error()), (429, Some("rate_limited")));
    assert_eq!(reply.json()["error"], "rate_limited", "{reply:?}");
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("over the limit of refusing (service 1/day region): try again in 86"),
        "{message}"
    );
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&seconds), "{reply:?}");
    assert_eq!(
        reply.header("ratelimit-policy"),
        Some(r#""service 1/day region";q=1;w=86400"#)
    );
    assert_eq!(
        reply.header("ratelimit"),
        Some(format!(r#""service 1/day region";r=0;t={seconds}"#).as_str())
    );
    assert_eq!(reply.header("x-envoy-ratelimited"), None);
    let receipt = reply.header("x-mesh-receipt").unwrap();
    let (place, rest) = receipt.split_once(";refused=").unwrap();
    assert!(
        place.starts_with(r#""us";mode=outbound;config=""#),
        "{receipt}"
    );
    assert_eq!(
        rest,
        r#"rate_limited;limit="service 1/day region";limits="service 1/day region, caller 100/day region""#
    );
    // To those who ask for no receipt none is given.
    let reply = service.call(&us.host, "/").send().unwrap();
    assert_eq!((reply.status, reply.header("x-mesh-receipt")), (429, None));

    let client = Client::new(&us.host.address()).unwrap();
    let status = client
        .say(&[("x-mesh-service", "refusing")], "")
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(
        status
            .message()
            .starts_with("over the limit of refusing (service 1/day region): try again in 86"),
        "{status:?}"
    );
    let said = |name: &str| {
        let value = status.metadata().get(name);
        value.map(|value| value.to_str().unwrap())
    };
    assert_eq!(said("x-mesh-error"), Some("rate_limited"));
    assert!(said("retry-after").is_some_and(|seconds| seconds.starts_with("86")));
    assert_eq!(
        said("ratelimit-policy"),
        Some(r#""service 1/day region";q=1;w=86400"#)
    );
    // A request that one limit refused is charged to none.
    service.counts(&[
        "service,,day,enforce allowed 1",
        "service,,day,enforce denied 3",
        "caller,,day,enforce allowed 1",
    ]);
}

#[test]
fn a_change_leaves_other_budgets_alone() {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let of = |path: &str, requests: usize| {
        limit_with(json!("caller"), requests, json!({"method": path}))
    };
    let service = Limited::new(
        us,
        "changing",
        &[&us.host],
        json!([of("/a", 3), of("/b", 5)]),
    );
    let ask = |path: &str, times: usize| service.passed(&us.host, path, times);
    assert_eq!((ask("/a", 9), ask("/b", 2)), (3, 2));
    service.put(2, json!([of("/b", 5), of("/c", 1), of("/a", 4)]));
    assert_eq!((ask("/a", 9), ask("/b", 9), ask("/c", 9)), (1, 3, 1));
    // Gone, and back, as it was.
    service.put(3, json!([]));
    assert_eq!(ask("/a", 3), 3);
    service.put(4, json!([of("/a", 5)]));
    assert_eq!(ask("/a", 9), 1);
    service.put(5, json!([of("/a", 2)]));
    assert_eq!(ask("/a", 3), 0);
}

#[test]
fn a_shadow_limit_only_counts() {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let shadow = limit_with(json!("caller"), 2, json!({"mode": "shadow"}));
    let service = Limited::new(
        us,
        "shadowed",
        &[&us.host],
        json!([shadow, limit(json!("service"), 4)]),
    );
    assert_eq!(service.passed(&us.host, "/", 9), 4);
    service.counts(&[
        "caller,,day,shadow allowed 2",
        // Two that passed, and five that the other limit refused.
        "caller,,day,shadow shadow_denied 7",
        "service,,day,enforce allowed 4",
        "service,,day,enforce denied 5",
    ]);
}

#[test]
fn local_limits_come_first() {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let local = json!({"per": "caller", "requests": 3, "unit": "day"});
    let service = Limited::new(
        us,
        "local-first",
        &[&us.host],
        json!([limit(json!("caller"), 9), local]),
    );
    assert_eq!(service.passed(&us.host, "/", 8), 3);
    service.counts(&["caller,,day,enforce allowed 3"]);
}

#[test]
fn no_header_of_a_caller_is_a_way_out() {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let service = Limited::new(
        us,
        "spoofed",
        &[&us.host],
        json!([limit(json!("caller"), 3)]),
    );
    let other = "1h;other;service,,day,enforce|";
    let spoofed = (0..9).map(|n| {
        service
            .call(&us.host, "/")
            .header("x-mesh-caller", format!("us/somebody-{n}"))
            .header("x-mesh-limit-allow", other)
            .header("x-mesh-limit-allow", other)
            .header("x-mesh-limit-deny", other)
            .header("x-mesh-hops", "1")
            .header("x-envoy-original-path", format!("/{n}"))
    });
    assert_eq!(passed(spoofed), 3);
    // Nor do they get further than this Envoy where there is nothing to ask.
    let reply = us.host.call("GET", "/").service("payments");
    let reply = reply.header("x-mesh-limit-deny", other).send().unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(!reply.body.contains("x-mesh-limit"), "{reply:?}");
    let asked = |service: &str| us.host.stat_sum(&format!("{service}.us.ratelimit."));
    assert_eq!(asked("payments").unwrap(), 0);
    assert_eq!(asked("spoofed").unwrap(), 9);
}

#[test]
fn each_tenant_has_a_budget() {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let service = Limited::new(
        us,
        "tenants",
        &[&us.host],
        json!([limit(json!("header:x-tenant"), 2)]),
    );
    let ask = |values: &[&[u8]]| {
        let call = values
            .iter()
            .fold(service.call(&us.host, "/"), |call, value| {
                call.header("x-tenant", value)
            });
        passed(vec![call; 4])
    };
    assert_eq!(ask(&[b"a"]), 2);
    assert_eq!(ask(&[b"a;b|c,d%"]), 2);
    assert_eq!(ask(&[b"a"]), 0);
    assert_eq!(ask(&[b"\xff\xfe"]), 2, "any bytes");
    assert_eq!(ask(&[&[b'a'; 300]]), 2);
    assert_eq!(ask(&[&[b'b'; 20_000]]), 0, "no way out by length");
    assert_eq!(ask(&[]), 2);
    assert_eq!(ask(&[b"a", b"c"]), 2);
    assert_eq!(ask(&[b"a", b"d"]), 0);
}

#[test]
fn a_gateway_and_its_region_share_a_budget() {
    let stage = stage::shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let service = Limited::new(
        eu,
        "far",
        &[&eu.host],
        json!([limit(json!("service"), 6), limit(json!("caller_region"), 4)]),
    );
    service.knows(&us.host, 1);
    let from_us = us.host.call("GET", "/").service("far").region("eu");
    assert_eq!(passed(vec![from_us.clone(); 9]), 4);
    let reply = from_us.debug().send().unwrap();
    let receipt = reply.header("x-mesh-receipt").unwrap();
    assert!(receipt.starts_with("\"eu\";mode=gateway"), "{receipt}");
    assert!(
        receipt.contains("refused=rate_limited;limit=\"caller_region 4/day region\""),
        "{receipt}"
    );
    assert_eq!(service.passed(&eu.host, "/", 9), 2);
}

/// Up to 1.37 it lets the filters see the first request for a cluster twice: that is charged once all the same. In 1.38 its
/// rate limit filter takes that request for one without a cluster, and does not ask.
pub(crate) fn an_older_envoy_asks_too(version: &str) {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let name = format!("old-limited-{}", version.replace('.', "-"));
    let host = us.envoy(&Node::host(&name).version(version)).unwrap();
    let service = Limited::new(us, &name, &[&host], json!([limit(json!("caller"), 3)]));
    let unasked = usize::from(version.starts_with("1.38."));
    assert_eq!(service.passed(&host, "/", 6), 3 + unasked);
    let reply = service.call(&host, "/").debug().send().unwrap();
    let receipt = reply.header("x-mesh-receipt").unwrap();
    assert!(
        receipt.contains("refused=rate_limited;limit=\"caller 3/day region\""),
        "{receipt}"
    );
}

#[test]
fn when_ems_is_gone_each_limit_says_what_then() {
    let mut us = Region::start("us").unwrap();
    let open = limit_with(json!("caller"), 3, json!({"method": "/open"}));
    let shut = limit_with(
        json!("caller"),
        3,
        json!({"method": "/shut", "onError": "deny"}),
    );
    let _upstream = {
        let method = "/isthmus.test.v1.Echo/Say";
        let say = limit_with(
            json!("service"),
            3,
            json!({"method": method, "onError": "deny"}),
        );
        let service = Limited::new(&us, "orphan", &[&us.host], json!([open, shut, say]));
        assert_eq!(service.passed(&us.host, "/open", 4), 3);
        assert_eq!(service.passed(&us.host, "/shut", 1), 1);
        service._upstream
    };
    us.ems.kill();
    let call = |path: &str| us.host.call("GET", path).service("orphan");
    assert_eq!(passed(vec![call("/open"); 6]), 6);
    let reply = call("/shut").debug().send().unwrap();
    assert_eq!((reply.status, reply.error()), (429, Some("rate_limited")));
    assert_eq!(reply.json()["error"], "rate_limited", "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some("1"));
    let receipt = reply.header("x-mesh-receipt").unwrap();
    assert!(
        receipt.ends_with(";refused=rate_limited;limits=\"caller /shut 3/day region\""),
        "{receipt}"
    );
    let client = Client::new(&us.host.address()).unwrap();
    let status = client.say(&[("x-mesh-service", "orphan")], "").unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(
        status.message(),
        "whether it is over a limit cannot be said now, try again in 1 s: orphan.us"
    );
    let error = status.metadata().get("x-mesh-error").unwrap();
    assert_eq!(error, "rate_limited");
    for mode in ["allow", "deny"] {
        let errors = us
            .host
            .stat_sum(&format!(".ratelimit.{mode}.error"))
            .unwrap();
        assert!(errors > 0, "{mode}");
    }
    us.ems.start_again().unwrap();
    eventually("an answer from EMS", || {
        let reply = us.host.call("GET", "/shut").service("orphan").send()?;
        anyhow::ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    })
    .unwrap();
}
