//! Leased limits: several Envoys, none of which asks for each request, let pass no more than is stated, cut off or not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use isthmus_tests::{Call, Envoy, Link, Region, artifact, ems::Node, eventually, http, within};
use isthmus_upstream::{Client, ECHO_SERVICE};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    limits::{is_passed, passed},
    stage,
};

/// More than a lease takes to lapse, and an Envoy to come back.
const LONG: Duration = Duration::from_secs(60);

fn limits(limit: Value) -> Value {
    let mut whole = json!({"scope": "region", "lease": true, "onError": "deny"});
    let fields = limit.as_object().unwrap().clone();
    whole.as_object_mut().unwrap().extend(fields);
    json!({"rateLimits": [whole]})
}

/// Steady requests through an Envoy, some hundred a second, which pass or are refused.
struct Caller {
    passed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Caller {
    fn start(envoy: &Envoy, service: &str) -> Self {
        let client = http::agent(Duration::from_secs(10));
        let url = format!("http://{}/", envoy.address());
        let call = Call::on(&client, "GET", url).service(service);
        let (passed, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, stopped) = (passed.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                if is_passed(&call.send().unwrap()) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            passed,
            stop,
            thread: Some(thread),
        }
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

/// How many had passed, all together and through each Envoy, and between which moments they were counted.
struct Sample {
    before: Instant,
    after: Instant,
    each: Vec<u64>,
}

impl Sample {
    fn of(callers: &[Caller]) -> Self {
        let before = Instant::now();
        let each = callers.iter().map(Caller::passed).collect();
        Self {
            before,
            after: Instant::now(),
            each,
        }
    }

    fn since(&self, earlier: &Self, which: impl Fn(usize) -> bool) -> u64 {
        let both = self.each.iter().zip(&earlier.each).enumerate();
        let differences = both.filter(|(n, _)| which(*n)).map(|(_, (a, b))| a - b);
        differences.sum()
    }
}

#[test]
fn three_envoys_and_one_that_is_cut_off() {
    const RATE: u32 = 60;
    const BURST: u32 = 12;
    let us = Region::start("us").unwrap();
    let link = Link::to(&us.ems.xds_address()).unwrap();
    let envoys = [
        Node::host("client").named("first").workers(2),
        Node::host("client").named("second"),
        Node::host("client").named("third").through(link.port()),
    ]
    .map(|node| us.envoy(&node).unwrap());
    let _upstream = stage::service(&us, "shop", json!({}), "shop-1");
    for envoy in &envoys {
        stage::reaches(envoy, "shop", "us", "shop-1");
    }
    let limit = json!({"per": "service", "requests": RATE, "burst": BURST});
    us.ems.put_service("shop", limits(limit)).unwrap();
    // Until its lease is there each of them refuses.
    for envoy in &envoys {
        stage::refuses(envoy, "shop", "us", "rate_limited");
    }
    let callers = envoys.each_ref().map(|envoy| Caller::start(envoy, "shop"));
    let mut samples = vec![Sample::of(&callers)];
    let mut watch = |what: &str, look: &dyn Fn(&Sample, &Sample) -> bool| {
        let found = within(LONG, what, || {
            let sample = Sample::of(&callers);
            // Over the last three seconds.
            let earlier = samples
                .iter()
                .rev()
                .find(|earlier| sample.before - earlier.before > Duration::from_secs(3));
            let found = earlier.is_some_and(|earlier| look(&sample, earlier));
            samples.push(sample);
            found
        });
        found.unwrap();
    };
    let whole = u64::from(RATE) * 3;
    let all = |_| true;
    watch("all to have a third", &|now, then| {
        now.since(then, all) > whole * 9 / 10
            && (0..3).all(|one| now.since(then, |n| n == one) > whole / 4)
    });
    // What is asked for is much more, and yet EMS is asked now and then only.
    let asked = envoys[0].stat("cluster.ems.upstream_rq_total").unwrap();
    assert!(asked < 10, "{asked}");
    link.silence();
    watch("its lease to lapse", &|now, then| {
        now.since(then, |n| n == 2) == 0
    });
    watch("the others to have its share", &|now, then| {
        now.since(then, |n| n != 2) > whole * 9 / 10
    });
    link.mend();
    watch("it to come back", &|now, then| {
        now.since(then, all) > whole * 9 / 10 && now.since(then, |n| n == 2) > whole / 4
    });

    // In any window: what the rate allows, the burst, and a part of it for each time that one of them came or went. The
    // second and the third came, the third went and came again.
    let most_at_once = f64::from(BURST + BURST / 2 + 3 * (BURST / 3));
    let mut worst = 0.0_f64;
    for (at, from) in samples.iter().enumerate() {
        for to in samples.iter().skip(at + 1) {
            let window = (to.after - from.before).as_secs_f64();
            let passed = u32::try_from(to.since(from, all)).unwrap();
            worst = worst.max(f64::from(passed) - f64::from(RATE) * window);
        }
    }
    assert!(worst <= most_at_once, "{worst} more than the rate allows");
}

/// One request passes in a minute, after the first five.
#[test]
fn what_is_refused_and_how() {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let node = Node::host("client").named("leasing").workers(2);
    let envoy = us.envoy(&node).unwrap();
    let limit = json!({"per": "caller", "requests": 1, "unit": "minute", "burst": 5});
    let record = limits(limit);
    let _upstream = stage::service_for(us, "leased", json!({}), "leased-1", &envoy);
    us.ems.put_service("leased", record.clone()).unwrap();
    let call = || envoy.call("GET", "/").service("leased");
    stage::refuses(&envoy, "leased", "us", "rate_limited");
    let reply = eventually("a lease", || {
        let reply = call().send()?;
        anyhow::ensure!(reply.status == 200, "{reply:?}");
        Ok(reply)
    });
    assert!(!reply.unwrap().body.contains("x-mesh-lease"));
    // Whatever a caller says of leases.
    let other = "1;other;service,,second,enforce,lease|";
    let spoofed = vec![
        call()
            .header("x-mesh-lease-allow", other)
            .header("x-mesh-lease-deny", other);
        20
    ];
    let passed = passed(spoofed);
    assert!((3..=5).contains(&passed), "{passed}");

    let reply = call().debug().send().unwrap();
    assert_eq!((reply.status, reply.error()), (429, Some("rate_limited")));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let message = "over a leased limit, try again in 1 s: leased.us";
    let body = json!({"error": "rate_limited", "message": message});
    assert_eq!(reply.json(), body);
    let receipt = reply.header("x-mesh-receipt").unwrap();
    let name = "caller 1/minute leased";
    assert!(
        receipt.ends_with(&format!(
            ";refused=rate_limited;limit=\"{name}\";limits=\"{name}\""
        )),
        "{receipt}"
    );
    let client = Client::new(&envoy.address()).unwrap();
    let status = client.say(&[("x-mesh-service", "leased")], "").unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(status.message(), message);
    let error = status.metadata().get("x-mesh-error").unwrap();
    assert_eq!(error, "rate_limited");

    // What the filters say to each other goes no further.
    let reply = envoy.call("GET", "/").service("payments");
    let reply = reply.header("x-mesh-lease-deny", other).send().unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(!reply.body.contains("x-mesh-lease"), "{reply:?}");
    let explained = us
        .ems
        .run(["explain", "--service", "leased", "--caller", "us/client"])
        .unwrap();
    for words in [
        "caller 1/minute leased, of which this Envoy holds a share",
        "of 1 requests a minute: 1 Envoy holds 1; how full its share is only the Envoy knows",
    ] {
        assert!(explained.contains(words), "{explained}");
    }
    within(LONG, "what Envoy counted", || {
        let labels = "service=\"leased\",limit=\"caller,,minute,enforce,lease\",outcome=\"denied\"";
        let denied = us.ems.metric("ems_limit_requests_total", labels)?;
        anyhow::ensure!(denied >= 15.0, "{denied}");
        Ok(())
    })
    .unwrap();
    // What was refused before there was a lease.
    let labels = "service=\"leased\",limit=\"caller,,minute,enforce,lease\",outcome=\"unchecked\"";
    let unchecked = us.ems.metric("ems_limit_requests_total", labels).unwrap();
    assert!(unchecked >= 1.0, "{unchecked}");

    // Another number finds its way to those who hold leases.
    let limit = json!({"per": "caller", "requests": 600_000, "unit": "minute", "burst": 5});
    us.ems.put_service("leased", limits(limit)).unwrap();
    within(LONG, "the new rate", || {
        let replies = (0..6).map(|_| call().send().unwrap());
        replies.filter(is_passed).count() == 6
    })
    .unwrap();
}

#[test]
fn a_gateway_leases_too() {
    let stage = stage::shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let limit = json!({"per": "caller_region", "requests": 1, "unit": "minute", "burst": 5});
    let _upstream = stage::service_for(eu, "far-leased", json!({}), "far-1", &eu.host);
    stage::reaches(&us.host, "far-leased", "eu", "far-1");
    eu.ems.put_service("far-leased", limits(limit)).unwrap();
    stage::refuses(&us.host, "far-leased", "eu", "rate_limited");
    stage::reaches(&us.host, "far-leased", "eu", "far-1");
    let call = us.host.call("GET", "/").service("far-leased").region("eu");
    let passed = passed(vec![call.clone(); 20]);
    assert!((2..=5).contains(&passed), "{passed}");
    let reply = call.debug().send().unwrap();
    let receipt = reply.header("x-mesh-receipt").unwrap();
    let refused = ";refused=rate_limited;limit=\"caller_region 1/minute leased\"";
    assert!(
        receipt.starts_with("\"eu\";mode=gateway") && receipt.contains(refused),
        "{receipt}"
    );
}

#[test]
fn the_oldest_envoy_leases_too() {
    let stage = stage::shared();
    let us = &stage.mesh.us;
    let node = Node::host("old-leasing").version(artifact::OLDER_ENVOYS[0]);
    let envoy = us.envoy(&node).unwrap();
    let limit = json!({"per": "service", "requests": 1, "unit": "minute", "burst": 5});
    let _upstream = stage::service_for(us, "old-leased", json!({}), "old-leased-1", &envoy);
    us.ems.put_service("old-leased", limits(limit)).unwrap();
    stage::refuses(&envoy, "old-leased", "us", "rate_limited");
    stage::reaches(&envoy, "old-leased", "us", "old-leased-1");
    let call = envoy.call("GET", "/").service("old-leased");
    let passed = passed(vec![call.clone(); 20]);
    assert!((3..=5).contains(&passed), "{passed}");
    let reply = call.debug().send().unwrap();
    let receipt = reply.header("x-mesh-receipt").unwrap();
    let refused = ";refused=rate_limited;limit=\"service 1/minute leased\"";
    assert!(receipt.contains(refused), "{receipt}");
    let client = Client::new(&envoy.address()).unwrap();
    let headers = [("x-mesh-service", "old-leased")];
    let status = client.say(&headers, ECHO_SERVICE).unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[test]
fn when_ems_is_gone_a_lease_holds_until_it_lapses() {
    let mut us = Region::start("us").unwrap();
    let _upstreams = [("open", "allow"), ("shut", "deny")].map(|(name, on_error)| {
        let limit =
            json!({"per": "caller", "requests": 600, "unit": "minute", "onError": on_error});
        let upstream = stage::service(&us, name, json!({}), &format!("{name}-1"));
        us.ems.put_service(name, limits(limit)).unwrap();
        upstream
    });
    stage::refuses(&us.host, "shut", "us", "rate_limited");
    stage::reaches(&us.host, "shut", "us", "shut-1");
    stage::reaches(&us.host, "open", "us", "open-1");
    // Ten a second are fewer than are asked for.
    let open = || us.host.call("GET", "/").service("open");
    let shut = us.host.call("GET", "/").service("shut");
    let refuses_some = || passed(vec![open(); 1_000]) < 1_000;
    eventually("the lease of the open one", refuses_some).unwrap();
    us.ems.kill();
    assert!(refuses_some(), "the lease is held");
    within(LONG, "the leases to lapse", || {
        passed(vec![open(); 1_000]) == 1_000 && passed(vec![shut.clone(); 20]) == 0
    })
    .unwrap();
    us.ems.start_again().unwrap();
    within(LONG, "new leases", || {
        passed(vec![open_call(&us); 1_000]) < 1_000 && passed(vec![shut.clone(); 20]) > 0
    })
    .unwrap();
}

fn open_call(us: &Region) -> Call {
    us.host.call("GET", "/").service("open")
}
