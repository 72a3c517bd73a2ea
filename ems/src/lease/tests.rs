//! What Envoys are given, step by step; and many Envoys with token buckets, delays and cuts, which never let pass more
//! than is stated.

use proptest::prelude::*;

use super::{division::PARTS, *};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Duration {
    SECOND * u32::try_from(seconds).unwrap()
}

fn budget(requests: u32) -> Budget {
    Budget {
        requests,
        unit: 1,
        burst: 60,
    }
}

fn came(requests: u64) -> Usage {
    Usage {
        allowed: requests / 2,
        denied: requests - requests / 2,
        ..Usage::default()
    }
}

/// Leases of one bucket, and Envoys with the names that a test gives them.
struct World {
    leases: Leases,
    holders: HashMap<&'static str, Holder>,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        Self {
            leases: Leases::new(bounds),
            holders: HashMap::new(),
        }
    }

    fn holder(&mut self, node: &'static str) -> Holder {
        let leases = &mut self.leases;
        *self
            .holders
            .entry(node)
            .or_insert_with(|| leases.join(node))
    }

    fn answer(&mut self, node: &'static str, requests: u64, budget: Budget, now: u64) -> Answer {
        let holder = self.holder(node);
        let budget = Some(budget);
        let leases = &mut self.leases;
        let (_, answer) = leases.report(holder, "bucket", came(requests), budget, at(now));
        answer
    }

    /// Requests in a second that it is given of 90, and how many at once.
    fn report(&mut self, node: &'static str, requests: u64, now: u64) -> (u64, u32) {
        let answer = self.answer(node, requests, budget(90), now);
        let Answer::Lease(grant) = answer else {
            panic!("{answer:?}");
        };
        (u64::from(grant.rate) / PARTS, grant.burst)
    }

    fn out(&self, now: u64) -> u64 {
        let divisions = self.leases.divisions.values();
        divisions.map(|division| division.lent(at(now)).rate).sum()
    }
}

/// What decided, and what is leased out after the answer: how many hold how much of 90.
#[test]
fn what_decided_and_what_is_lent() {
    let mut world = World::new(Bounds {
        buckets: 1,
        holders: 2,
    });
    for (node, bucket, counted, now, by, lent) in [
        ("a", "bucket", 0, 0, By::OnError, (1, 90)),
        // It may be another process of the same name: that is not known.
        ("a", "bucket", 0, 1, By::Lease, (1, 90)),
        ("a", "bucket", 5, 5, By::Lease, (1, 90)),
        // It may have a lease of an EMS that was here before.
        ("b", "bucket", 5, 6, By::Lease, (2, 90)),
        ("c", "bucket", 0, 7, By::OnError, (2, 90)),
        // There was no room for it, and there is none for another bucket.
        ("c", "bucket", 5, 12, By::OnError, (2, 90)),
        ("a", "other", 5, 13, By::OnError, (0, 0)),
        // That it has less now, it may not have heard yet.
        ("a", "bucket", 5, 15, By::Lease, (2, 90)),
        // Its lease has lapsed meanwhile: how much came before that is not known. The others are gone.
        ("a", "bucket", 60, 75, By::Lease, (1, 90)),
        // It has forgotten the bucket by itself, and comes back.
        ("a", "bucket", 0, 100, By::OnError, (1, 90)),
    ] {
        let holder = world.holder(node);
        let usage = Usage {
            counted: at(counted),
            ..came(900)
        };
        let (decided, _) = world
            .leases
            .report(holder, bucket, usage, Some(budget(90)), at(now));
        let found = world.leases.lent(bucket, at(now));
        let found = (found.envoys, found.rate / PARTS);
        assert_eq!((decided, found), (by, lent), "{node} {bucket} at {now}");
    }
}

#[test]
fn a_newcomer_gets_its_share_when_the_others_have_given_it_back() {
    let mut world = World::new(Bounds::default());
    // Alone, and how much it wants it has not said yet.
    assert_eq!(world.report("a", 1, 0), (90, 60));
    assert_eq!(world.report("a", 900, 5), (90, 60));
    // All is given away; it has its share of the burst meanwhile.
    assert_eq!(world.report("b", 1, 6), (0, 30));
    // That is given back...
    assert_eq!(world.report("a", 900, 10), (45, 30));
    // ...which is known only when the one who had it is heard again.
    assert_eq!(world.report("b", 900, 11), (0, 30));
    assert_eq!(world.report("a", 900, 15), (45, 30));
    assert_eq!(world.report("b", 900, 16), (45, 30));
}

#[test]
fn what_one_does_not_use_the_others_get() {
    let mut world = World::new(Bounds::default());
    for now in [0, 5, 10, 15] {
        world.report("a", 900, now);
        world.report("b", 900, now + 1);
    }
    assert_eq!(world.report("a", 900, 20), (45, 30));
    // Twenty a second are enough for it.
    assert_eq!(world.report("b", 100, 21), (20, 30));
    assert_eq!(world.report("a", 900, 25), (45, 30));
    assert_eq!(world.report("b", 100, 26), (20, 30));
    assert_eq!(world.report("a", 900, 30), (70, 30));
    assert_eq!(world.report("b", 100, 31), (20, 30));
    // If all have enough, what is left is divided, with a share for who comes next.
    assert_eq!(world.report("a", 50, 35), (30, 30));
    assert_eq!(world.report("b", 100, 36), (20, 30), "not known yet");
    assert_eq!(world.report("a", 50, 40), (30, 30));
    assert_eq!(world.report("b", 100, 41), (40, 30));
    assert_eq!(world.report("c", 1, 42), (20, 20));
}

#[test]
fn who_falls_silent_keeps_its_share_until_the_lease_lapses() {
    let mut world = World::new(Bounds::default());
    for now in [0, 5, 10] {
        world.report("a", 900, now);
        world.report("b", 900, now);
    }
    for now in [15, 20, 25] {
        assert_eq!(world.report("a", 900, now).0, 45, "at {now}");
    }
    // The last answer to b was at 10.
    assert_eq!(world.report("a", 900, 30), (90, 60));
    assert_eq!(world.out(30), 90 * PARTS);
    world.leases.sweep(at(30));
    assert_eq!(world.leases.count(), (1, 1));
    world.leases.sweep(at(46));
    assert_eq!(world.leases.count(), (0, 0));
}

#[test]
fn two_reports_in_a_row_say_nothing_of_the_answer() {
    let mut world = World::new(Bounds::default());
    world.report("a", 1, 0);
    world.report("a", 900, 5);
    world.report("b", 1, 6);
    assert_eq!(world.report("a", 900, 10).0, 45);
    assert_eq!(world.report("a", 0, 10).0, 45);
    assert_eq!(world.report("b", 900, 11).0, 0);
    // Nor does it look as if few came.
    assert_eq!(world.report("a", 900, 15).0, 45);
}

#[test]
fn who_comes_back_is_who_it_was() {
    let mut leases = Leases::default();
    let first = leases.join("a");
    assert_ne!(leases.join("a"), first, "two at a time are two");
    leases.leave("a", first, at(0));
    assert_eq!(leases.join("a"), first);
    leases.leave("a", first, at(10));
    leases.sweep(at(25));
    assert_eq!(leases.join("a"), first);
    leases.leave("a", first, at(30));
    leases.sweep(at(46));
    assert_ne!(leases.join("a"), first, "long forgotten");
}

#[test]
fn unused_unknown_and_too_many() {
    let mut world = World::new(Bounds {
        buckets: 1,
        holders: 2,
    });
    world.report("a", 1, 0);
    for now in (5..60).step_by(5) {
        assert!(matches!(
            world.answer("a", 0, budget(90), now),
            Answer::Lease(_)
        ));
    }
    assert_eq!(world.answer("a", 0, budget(90), 60), Answer::Forget);
    assert_eq!(world.out(70), 45 * PARTS, "it may not have heard that");
    // It had not, or there are requests again.
    assert!(matches!(
        world.answer("a", 1, budget(90), 71),
        Answer::Lease(_)
    ));
    assert!(matches!(
        world.answer("b", 1, budget(90), 71),
        Answer::Lease(_)
    ));
    assert_eq!(world.answer("c", 1, budget(90), 71), Answer::Nothing);
    let a = world.holder("a");
    let mut other = |bucket, budget| world.leases.report(a, bucket, came(1), budget, at(71)).1;
    assert_eq!(other("other", Some(budget(1))), Answer::Nothing);
    assert_eq!(other("bucket", None), Answer::Forget);
}

#[test]
fn numbers_that_change() {
    let mut world = World::new(Bounds::default());
    for now in [0, 5, 10] {
        world.report("a", 900, now);
        world.report("b", 900, now);
    }
    let mut rates = |requests, now| {
        ["a", "b"].map(
            |node| match world.answer(node, 900, budget(requests), now) {
                Answer::Lease(grant) => u64::from(grant.rate) / PARTS,
                other => panic!("{other:?}"),
            },
        )
    };
    assert_eq!(rates(90, 15), [45, 45]);
    assert_eq!(rates(60, 20), [30, 30]);
    // Not before it is known that neither has more.
    assert_eq!(rates(61, 25), [30, 30]);
    assert_eq!(rates(300, 30), [150, 150]);

    // Who has not reported is told the same, as far as it holds something.
    let (a, b) = (world.holder("a"), world.holder("b"));
    let mut again = |holder, requests, now| {
        let budget = |_: &str| Some(budget(requests));
        let leases = world.leases.again(holder, "buck", budget, at(now));
        leases
            .first()
            .map(|(bucket, _, grant)| (bucket.to_string(), u64::from(grant.rate) / PARTS))
    };
    let bucket = |rate| Some(("bucket".to_owned(), rate));
    assert_eq!(
        (again(a, 60, 31), again(b, 60, 31)),
        (bucket(30), bucket(30))
    );
    assert_eq!(
        (again(a, 600, 32), again(b, 600, 32)),
        (bucket(260), bucket(260))
    );
    assert_eq!(again(a, 60, 60), None);
    let c = world.holder("c");
    assert_eq!(
        world.leases.again(c, "bucket", |_| Some(budget(9)), at(33)),
        []
    );
    assert_eq!(
        world.leases.again(a, "other", |_| Some(budget(9)), at(33)),
        []
    );
    assert_eq!(world.leases.again(a, "bucket", |_| None, at(33)), []);
}

#[test]
fn after_a_restart_all_go_on_with_what_they_have() {
    let mut world = World::new(Bounds::default());
    let mut rate = |node, allowed, now| {
        let holder = world.holder(node);
        let usage = Usage {
            allowed,
            denied: 1_000,
            counted: at(5),
        };
        let answer = world
            .leases
            .report(holder, "bucket", usage, Some(budget(90)), at(now));
        match answer.1 {
            Answer::Lease(grant) => u64::from(grant.rate) / PARTS,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rate("a", 150, 1), 30);
    assert_eq!(rate("b", 50, 2), 10);
    assert_eq!((rate("a", 150, 6), rate("b", 50, 7)), (45, 45));
    // Later nothing can be held that is not known.
    assert_eq!(rate("c", 50, 40), 90);
}

/// An Envoy of the simulation: a token bucket as Envoy's filter has it, always asked for more than it may let pass.
#[derive(Clone, Debug)]
struct Sim {
    holder: Option<Holder>,
    /// Where its reports fall, in ticks.
    phase: u64,
    /// Ticks that its reports and their answers take.
    delay: (u64, u64),
    /// How much is asked of it, in a tick.
    load: u64,
    /// When it begins, and when it is cut off, and when that is over.
    from: u64,
    cut: (u64, u64),
    tokens: f64,
    grant: Option<(Grant, u64)>,
    usage: Usage,
    /// Tokens that were made by a lease that begins or becomes larger.
    made: f64,
}

/// Ticks in a second.
const TICKS: u64 = 10;
const REPORT: u64 = 5 * TICKS;

impl Sim {
    fn connected(&self, tick: u64) -> bool {
        !(self.cut.0..self.cut.1).contains(&tick)
    }

    fn take(&mut self, grant: Grant, tick: u64) {
        let burst = f64::from(grant.burst);
        let tokens = match self.grant {
            // Envoy keeps the bucket as full as it was.
            Some((old, _)) => (burst * self.tokens / f64::from(old.burst)).floor(),
            None => burst,
        };
        self.made += (tokens - self.tokens).max(0.0);
        self.tokens = tokens;
        self.grant = Some((grant, tick + 15 * TICKS));
    }

    /// What passes in a tick.
    fn pass(&mut self, tick: u64) -> u64 {
        if self.grant.is_some_and(|(_, until)| tick >= until) {
            self.grant = None;
            self.tokens = 0.0;
        }
        let Some((grant, _)) = self.grant else {
            self.usage.denied += self.load;
            return 0;
        };
        let parts = f64::from(u32::try_from(PARTS * TICKS).unwrap());
        self.tokens = (self.tokens + f64::from(grant.rate) / parts).min(f64::from(grant.burst));
        let mut passed = 0;
        while self.tokens >= 1.0 && passed < self.load {
            self.tokens -= 1.0;
            passed += 1;
        }
        self.usage.allowed += passed;
        self.usage.denied += self.load - passed;
        passed
    }
}

fn sims() -> impl Strategy<Value = Vec<Sim>> {
    let sim = (
        0..REPORT,
        (0..5_u64, 0..5_u64),
        0..60_u64,
        0..20 * TICKS,
        (0..80 * TICKS, 0..40 * TICKS),
    )
        .prop_map(|(phase, delay, load, from, (cut, long))| Sim {
            holder: None,
            phase,
            delay,
            load,
            from,
            cut: (cut, cut + long),
            tokens: 0.0,
            grant: None,
            usage: Usage::default(),
            made: 0.0,
        });
    prop::collection::vec(sim, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// In any window of time no more passes than the limit's rate allows, and what bursts were handed out. Whoever wants
    /// something gets something. And what is asked for is not kept back without need.
    #[test]
    fn no_more_than_is_stated(mut sims in sims()) {
        const SECONDS: u64 = 100;
        const RATE: u32 = 100;
        let budget = Budget { requests: RATE, unit: 1, burst: 20 };
        let mut leases = Leases::default();
        let mut world = Vec::new();
        let (mut excess, mut most_excess) = (0.0_f64, 0.0_f64);
        let names: Vec<_> = (0..sims.len()).map(|n| n.to_string()).collect();
        for tick in 0..SECONDS * TICKS {
            let now = SECOND * u32::try_from(tick).unwrap() / u32::try_from(TICKS).unwrap();
            let mut passed = 0;
            for (n, sim) in sims.iter_mut().enumerate() {
                if tick < sim.from || sim.load == 0 {
                    continue;
                }
                if !sim.connected(tick) && let Some(holder) = sim.holder.take() {
                    leases.leave(&names[n], holder, now);
                }
                if (tick == sim.from || (tick - sim.from) % REPORT == sim.phase) && sim.connected(tick) {
                    world.push((tick + sim.delay.0, n, None, std::mem::take(&mut sim.usage)));
                }
                passed += sim.pass(tick);
            }
            for (when, n, grant, usage) in std::mem::take(&mut world) {
                let sim = &mut sims[n];
                if when > tick {
                    world.push((when, n, grant, usage));
                } else if !sim.connected(tick) {
                    // Lost on the way.
                } else if let Some(grant) = grant {
                    sim.take(grant, tick);
                } else {
                    let holder = *sim.holder.get_or_insert_with(|| leases.join(&names[n]));
                    if let (_, Answer::Lease(grant)) = leases.report(holder, "bucket", usage, Some(budget), now) {
                        world.push((tick + sim.delay.1, n, Some(grant), Usage::default()));
                    }
                }
            }
            let out = leases.divisions.values().map(|division| division.lent(now).rate).sum::<u64>();
            prop_assert!(out <= u64::from(RATE) * PARTS + u64::try_from(sims.len()).unwrap());
            #[allow(clippy::cast_precision_loss)]
            let (passed, fill) = (passed as f64, f64::from(RATE) / TICKS as f64);
            excess = (excess - fill).max(0.0) + passed;
            most_excess = most_excess.max(excess);
        }
        let made: f64 = sims.iter().map(|sim| sim.made).sum();
        prop_assert!(most_excess <= made + f64::from(RATE) / 10.0 + 1.0, "{most_excess} with {made}");
        let asked: u64 = sims.iter().map(|sim| sim.load * TICKS).sum();
        for sim in &sims {
            let calm = sim.cut.1 < 60 * TICKS || sim.cut.0 >= sim.cut.1;
            if calm && sim.load > 0 {
                let (grant, _) = sim.grant.unwrap();
                let fair = u64::from(RATE) * PARTS / u64::try_from(sims.len()).unwrap();
                let want = (sim.load * TICKS * PARTS).min(fair);
                prop_assert!(u64::from(grant.rate) + 1_000 >= want || asked > 0 && want == 0, "{grant:?} for {want}");
            }
        }
    }
}
