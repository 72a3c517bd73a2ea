//! One limit's budget, divided among the Envoys that have requests for it.
//!
//! An Envoy gets an answer when it reports, and only then: that it reports says that it can be reached. What an answer
//! takes from it counts as its own until its next report shows that the answer has arrived, or until its lease lapses. So
//! at each moment the rates that Envoys go by, whichever answers were lost, add up to the budget at most.
//!
//! Rates are counted in thousandths of a request per unit, so that small limits can be divided too.

use std::{collections::BTreeMap, time::Duration};

use super::{ARRIVAL, Answer, Budget, Holder, IDLE, Lent, TTL, share::share};

/// Of a request.
pub const PARTS: u64 = 1_000;

/// What an Envoy may let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Thousandths of requests in a unit of time; never 0, which Envoy does not take.
    pub rate: u32,
    /// How many at once, after a pause; never 0.
    pub burst: u32,
}

/// What came in an Envoy since its last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that passed.
    pub allowed: u64,
    /// Requests that it refused.
    pub denied: u64,
    /// For how long the Envoy has counted; nothing, when the bucket is a new one to it.
    pub counted: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Division {
    held: BTreeMap<Holder, Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    /// What it asks for. `None`: it has not said yet, and counts as one that could use all.
    demand: Option<u64>,
    /// What it may not get more than, this time.
    cap: u64,
    /// The last answer.
    given: u64,
    /// The most it may go by.
    most: u64,
    /// How many came since then, as far as it has said.
    came: u64,
    since: Duration,
    /// When it was answered last.
    answered: Duration,
    /// When it had requests last.
    used: Duration,
    /// It was told to forget the bucket, so what it reports next is a beginning.
    forgotten: bool,
    /// When all that it was given has lapsed.
    until: Duration,
}

impl Division {
    /// Takes a report, and says what the Envoy may let pass from now on.
    pub fn report(
        &mut self,
        holder: Holder,
        usage: Usage,
        budget: Budget,
        now: Duration,
    ) -> Answer {
        let mut mine = self.hear(holder, usage, budget, now);
        if now >= mine.used + IDLE {
            // It may not hear this, so what it has counts until that lapses.
            mine.forgotten = true;
            mine.demand = Some(0);
            self.held.insert(holder, mine);
            return Answer::Forget;
        }
        Answer::Lease(self.grant(holder, mine, budget, now))
    }

    /// What an Envoy may let pass from now on, although it has not reported: the budget is another one.
    pub fn again(&mut self, holder: Holder, budget: Budget, now: Duration) -> Option<Grant> {
        let mine = *self.held.get(&holder).filter(|held| now < held.until)?;
        (!mine.forgotten).then(|| self.grant(holder, mine, budget, now))
    }

    fn grant(&mut self, holder: Holder, mut mine: Held, budget: Budget, now: Duration) -> Grant {
        let total = u64::from(budget.requests).saturating_mul(PARTS);
        let (mut demands, mut others) = (Vec::new(), 0_u64);
        demands.push(mine.demand.unwrap_or(total));
        for (other, held) in &self.held {
            if *other != holder && now < held.until {
                demands.push(held.demand.unwrap_or(total));
                others = others.saturating_add(held.most);
            }
        }
        let members = u32::try_from(demands.len()).unwrap_or(u32::MAX);
        // What counts as its own already it can have.
        let left = total.saturating_sub(others).max(mine.most);
        let rate = share(total, &demands, 0).min(left).min(mine.cap).max(1);
        let grant = Grant {
            rate: u32::try_from(rate).unwrap_or(u32::MAX),
            burst: budget.burst.checked_div(members).unwrap_or(0).max(1),
        };
        mine.cap = u64::MAX;
        mine.given = rate;
        mine.answered = now;
        mine.most = mine.most.max(rate);
        mine.until = now + TTL + ARRIVAL;
        self.held.insert(holder, mine);
        grant
    }

    /// What is known of an Envoy with a report of it.
    fn hear(&self, holder: Holder, usage: Usage, budget: Budget, now: Duration) -> Held {
        let known = self.held.get(&holder).filter(|held| now < held.until);
        let mut held = known.copied().unwrap_or(Held {
            demand: None,
            cap: cap(usage, budget, now),
            given: 0,
            most: 0,
            came: 0,
            since: now,
            answered: now,
            used: now,
            forgotten: true,
            until: now,
        });
        let requests = usage.allowed.saturating_add(usage.denied);
        if requests > 0 {
            held.used = now;
        }
        // Of two reports in a row the second may have been sent before the answer to the first was there.
        if now >= held.answered + ARRIVAL {
            held.most = held.given;
        }
        if held.forgotten && requests > 0 {
            held.forgotten = false;
            held.demand = None;
            held.came = 0;
            held.since = now;
        } else {
            held.came = held.came.saturating_add(requests);
            let passed = now.saturating_sub(held.since);
            if passed >= ARRIVAL {
                held.demand = Some(per_unit(held.came, budget.unit, passed));
                held.came = 0;
                held.since = now;
            }
        }
        held
    }

    /// Whether somebody is known here.
    #[must_use]
    pub fn has(&self, holder: Holder) -> bool {
        self.held.contains_key(&holder)
    }

    /// How many hold something.
    #[must_use]
    pub fn holders(&self) -> usize {
        self.held.len()
    }

    /// Forgets what has lapsed.
    pub fn sweep(&mut self, now: Duration) {
        self.held.retain(|_, held| now < held.until);
    }

    /// Whether somebody holds something of which it knows.
    #[must_use]
    pub fn holds(&self, holder: Holder, now: Duration) -> bool {
        let held = self.held.get(&holder);
        held.is_some_and(|held| now < held.until && !held.forgotten)
    }

    /// The rates that Envoys may go by at a time, together, and how many these are.
    #[must_use]
    pub fn lent(&self, now: Duration) -> Lent {
        let live = self.held.values().filter(|held| now < held.until);
        live.fold(Lent::default(), |lent, held| Lent {
            envoys: lent.envoys + 1,
            rate: lent.rate.saturating_add(held.most),
        })
    }
}

/// What is unknown may be held from an EMS that was here before. Who comes from there goes on with what it has, until all
/// that hold something have reported.
fn cap(usage: Usage, budget: Budget, now: Duration) -> u64 {
    if usage.counted.is_zero() || now >= TTL + ARRIVAL {
        return u64::MAX;
    }
    per_unit(usage.allowed, budget.unit, usage.counted)
}

/// So many requests in so long, as a rate.
fn per_unit(requests: u64, unit: u32, since: Duration) -> u64 {
    let parts = u128::from(requests) * u128::from(PARTS) * u128::from(unit) * 1_000;
    let rate = parts.checked_div(since.as_millis()).unwrap_or(u128::MAX);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
