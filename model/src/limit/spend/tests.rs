//! Requests and budgets: one limit, several, and threads that get in each other's way.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use super::*;
use crate::{
    config::Config,
    decide::{Decision, decide},
    limit::{
        Origin,
        cell::{LONGEST, WAYS},
    },
    request::{
        Caller, Peer, Request,
        tests::{config, pairs},
    },
    testing::test,
};

const SECOND: u64 = 1_000_000_000;

/// Budgets as the host keeps them, with a clock that stands still. Before a write something else may happen to them.
#[derive(Default)]
struct Memory {
    cells: HashMap<CellName, (Cell, u32)>,
    now: u64,
    /// What another thread does before the writes to come: nothing, where there are fewer.
    meanwhile: Vec<fn(&mut Memory)>,
    broken: bool,
    written: u32,
}

impl Budgets for Memory {
    fn read(&mut self, name: &CellName) -> Result<(Cell, u32), Unavailable> {
        if self.broken {
            return Err(Unavailable);
        }
        Ok(self.cells.get(name).cloned().unwrap_or_default())
    }

    fn write(&mut self, name: &CellName, cell: &Cell, version: u32) -> Result<bool, Unavailable> {
        if let Some(other) = self.meanwhile.pop() {
            other(self);
        }
        let now = self.cells.entry(*name).or_default();
        if now.1 != version {
            return Ok(false);
        }
        *now = (cell.clone(), version + 1);
        self.written += 1;
        Ok(true)
    }

    fn now(&mut self) -> u64 {
        self.now
    }
}

struct World {
    config: Config,
    memory: Memory,
}

impl World {
    fn new(limits: &str) -> Self {
        Self {
            config: config(&format!(
                r#"{{"region": "us", "caller": "us/orders", "services": {{"a": {{"limits": {limits}}}}}}}"#
            )),
            memory: Memory {
                now: 1000 * SECOND,
                ..Memory::default()
            },
        }
    }

    /// What becomes of a request: `+` or the refusing limit and the wait; then what each limit said.
    fn ask(&mut self, headers: &str) -> String {
        let headers = format!("x-mesh-service: a\n{headers}");
        let headers: Vec<_> = pairs(&headers).collect();
        let request = Request::collect(self.config.headers(), headers.iter().copied());
        let caller = Caller::parse(&self.config, &request, Peer::default()).expect("a caller");
        let Decision::Route(route) = decide(&self.config, &caller) else {
            panic!("no route");
        };
        let hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
        let mut notes = Vec::new();
        let result = spend(
            &route,
            headers.iter().copied(),
            &hasher,
            &mut self.memory,
            |limit, outcome| {
                let word = limit.token().split([':', ',']).next().unwrap_or_default();
                notes.push(format!("{word}:{}", outcome.as_str()));
            },
        );
        let verdict = match result {
            Ok(()) => "+".to_owned(),
            Err(exceeded) => format!("{} after {}", exceeded.limit, exceeded.retry_after),
        };
        format!("{verdict} | {}", notes.join(" "))
    }

    fn check(&mut self, headers: &str, want: &str) {
        assert_eq!(self.ask(headers), want, "{headers}");
    }
}

#[test]
fn one_limit() {
    let mut world = World::new(r#"[{"per": "caller", "requests": 2, "unit": "minute"}]"#);
    world.check("", "+ | caller:allowed");
    world.check("", "+ | caller:allowed");
    world.check("", "caller 2/minute after 30 | caller:denied");
    world.memory.now += 29 * SECOND + 1;
    world.check("", "caller 2/minute after 1 | caller:denied");
    world.memory.now += SECOND - 1;
    world.check("", "+ | caller:allowed");
    assert_eq!(world.memory.written, 3, "a refusal writes nothing");
}

#[test]
fn all_or_nothing() {
    let mut world = World::new(
        r#"[{"per": "service", "requests": 3, "unit": "hour"},
            {"per": "header:x-tenant", "requests": 1, "unit": "day"},
            {"per": "caller", "method": "/other", "requests": 1, "unit": "day"}]"#,
    );
    world.check("x-tenant: 1", "+ | service:allowed header:allowed");
    let refused = "header:x-tenant 1/day after 86400 | header:denied";
    for _ in 0..9 {
        world.check("x-tenant: 1", refused);
    }
    // The service's budget was not charged for any of those.
    world.check("x-tenant: 2", "+ | service:allowed header:allowed");
    world.check("x-tenant: 3", "+ | service:allowed header:allowed");
    world.check("x-tenant: 4", "service 3/hour after 1200 | service:denied");
    // Of several that refuse, the longest wait.
    world.check(
        "x-tenant: 1",
        "header:x-tenant 1/day after 86400 | service:denied header:denied",
    );
}

#[test]
fn methods() {
    let mut world = World::new(
        r#"[{"per": "service", "method": "/a.B/C", "requests": 1, "unit": "hour"},
            {"per": "method", "requests": 2, "unit": "hour"}]"#,
    );
    world.check(":path: /a.B/C?x=1", "+ | service:allowed method:allowed");
    world.check(
        ":path: /a.B/C?x=2",
        "service /a.B/C 1/hour after 3600 | service:denied",
    );
    world.check(":path: /a.B/D", "+ | method:allowed");
    world.check(":path: /a.B/D", "+ | method:allowed");
    world.check(":path: /a.B/D", "method 2/hour after 1800 | method:denied");
}

#[test]
fn shadow_limits_only_count() {
    let mut world = World::new(
        r#"[{"per": "caller", "requests": 1, "unit": "hour", "mode": "shadow"},
            {"per": "service", "requests": 3, "unit": "hour"}]"#,
    );
    world.check("", "+ | caller:allowed service:allowed");
    world.check("", "+ | caller:shadow_denied service:allowed");
    world.check("", "+ | caller:shadow_denied service:allowed");
    world.check(
        "",
        "service 3/hour after 1200 | caller:shadow_denied service:denied",
    );
    world.memory.now += 3600 * SECOND;
    world.check("", "+ | caller:allowed service:allowed");
}

#[test]
fn a_budget_that_cannot_be_asked_for() {
    let mut world = World::new(
        r#"[{"per": "caller", "requests": 1, "unit": "hour"},
            {"per": "service", "requests": 1, "unit": "hour", "on_error": "deny", "mode": "shadow"}]"#,
    );
    world.memory.broken = true;
    world.check("", "+ | caller:unchecked service:unchecked");
    let mut world =
        World::new(r#"[{"per": "caller", "requests": 1, "unit": "hour", "on_error": "deny"}]"#);
    world.memory.broken = true;
    world.check("", "caller 1/hour after 1 | caller:unchecked");
}

#[test]
fn a_cell_without_a_place() {
    for (on_error, want) in [
        ("allow", "+ | header:unchecked"),
        ("deny", "header:t 1/hour after 1 | header:unchecked"),
    ] {
        let mut world = World::new(&format!(
            r#"[{{"per": "header:t", "requests": 1, "unit": "hour", "on_error": "{on_error}"}}]"#
        ));
        world.check("t: 1", "+ | header:allowed");
        let busy = world.memory.now + 1;
        for (cell, _) in world.memory.cells.values_mut() {
            for n in 1..WAYS as u64 {
                cell.set(n << 14, busy, 0);
            }
        }
        // The key that has a place keeps it.
        world.check("t: 1", "header:t 1/hour after 3600 | header:denied");
        let names: Vec<CellName> = world.memory.cells.keys().copied().collect();
        for (cell, _) in world.memory.cells.values_mut() {
            *cell = Cell::default();
            for n in 0..WAYS as u64 {
                cell.set(n << 14, busy, 0);
            }
        }
        world.check("t: 1", want);
        world.memory.now = busy;
        world.check("t: 1", "+ | header:allowed");
        assert_eq!(
            names,
            world.memory.cells.keys().copied().collect::<Vec<_>>()
        );
    }
}

/// What another thread does: it takes all that is left of every budget that there is.
fn empty_all(memory: &mut Memory) {
    let until = memory.now + 3600 * SECOND;
    for (cell, version) in memory.cells.values_mut() {
        let mut bytes = [0; LONGEST];
        let len = cell.to_bytes(&mut bytes);
        for entry in bytes[..len].chunks_mut(LONGEST / WAYS) {
            entry[7..].copy_from_slice(&until.to_le_bytes());
        }
        *cell = Cell::from_bytes(&bytes[..len]);
        *version += 1;
    }
}

/// It writes every cell, and changes nothing in it.
fn touch_all(memory: &mut Memory) {
    for (_, version) in memory.cells.values_mut() {
        *version += 1;
    }
}

#[test]
fn what_changed_meanwhile_is_looked_at_again() {
    let mut world = World::new(r#"[{"per": "caller", "requests": 3, "unit": "hour"}]"#);
    world.check("", "+ | caller:allowed");
    world.memory.meanwhile = vec![touch_all; 9];
    world.check("", "+ | caller:allowed");
    assert!(world.memory.meanwhile.is_empty());
    // Were it written as it was first worked out, this would pass.
    world.memory.meanwhile = vec![empty_all];
    world.check("", "caller 3/hour after 1200 | caller:denied");
}

#[test]
fn endless_trouble_is_an_error() {
    let mut world = World::new(r#"[{"per": "caller", "requests": 3, "unit": "hour"}]"#);
    world.check("", "+ | caller:allowed");
    world.memory.meanwhile = vec![touch_all; 1000];
    world.check("", "+ | caller:unchecked");
}

#[test]
fn an_early_charge_is_given_back() {
    let mut world = World::new(
        r#"[{"per": "caller", "requests": 2, "unit": "hour"},
            {"per": "service", "requests": 2, "unit": "hour"}]"#,
    );
    world.check("", "+ | caller:allowed service:allowed");
    // The first write is undisturbed; then the service's budget is gone.
    fn empty_service(memory: &mut Memory) {
        let until = memory.now + 3600 * SECOND;
        let service = |name: &&CellName| name.as_bytes().starts_with(b"ist1l");
        let name = *memory.cells.keys().find(service).expect("its cell");
        let key = u64::from_be_bytes(*name.as_bytes().last_chunk().expect("eight bytes"));
        assert_eq!(CellName::of(Origin::Limit, key), name);
        if let Some((cell, version)) = memory.cells.get_mut(&name) {
            cell.set(key, until, memory.now);
            *version += 1;
        }
    }
    world.memory.meanwhile = vec![empty_service, |_| ()];
    world.check("", "service 2/hour after 1800 | service:denied");
    // Both budgets are whole again after half an hour, so the caller's has still the one that was given back.
    world.memory.now += 1800 * SECOND;
    world.check("", "+ | caller:allowed service:allowed");
    world.check("", "service 2/hour after 1800 | service:denied");
}

#[test]
fn changed_numbers_apply_to_what_is_left() {
    let mut world = World::new(r#"[{"per": "caller", "requests": 1, "unit": "hour", "burst": 4}]"#);
    for _ in 0..4 {
        world.check("", "+ | caller:allowed");
    }
    let with = |world: &mut World, requests: u32, burst: u32| {
        let other = World::new(&format!(
            r#"[{{"per": "caller", "requests": {requests}, "unit": "hour", "burst": {burst}}}]"#
        ));
        world.config = other.config;
    };
    // More at once: the difference is there now.
    with(&mut world, 1, 5);
    world.check("", "+ | caller:allowed");
    world.check("", "caller 1/hour after 3600 | caller:denied");
    // Four hours owed are no more than an empty budget of the new rate.
    with(&mut world, 60, 10);
    world.check("", "caller 60/hour after 60 | caller:denied");
    world.memory.now += 60 * SECOND;
    world.check("", "+ | caller:allowed");
    world.check("", "caller 60/hour after 60 | caller:denied");
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn threads_share_a_budget_exactly() {
    use std::sync::{Arc, Mutex};

    /// Budgets that threads share, each call by itself.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Memory>>);

    impl Budgets for Shared {
        fn read(&mut self, name: &CellName) -> Result<(Cell, u32), Unavailable> {
            self.0.lock().expect("no panic").read(name)
        }

        fn write(
            &mut self,
            name: &CellName,
            cell: &Cell,
            version: u32,
        ) -> Result<bool, Unavailable> {
            std::thread::yield_now();
            self.0.lock().expect("no panic").write(name, cell, version)
        }

        fn now(&mut self) -> u64 {
            self.0.lock().expect("no panic").now()
        }
    }

    let world = World::new(
        r#"[{"per": "caller", "requests": 100, "unit": "day"},
            {"per": "header:t", "requests": 30, "unit": "day"}]"#,
    );
    let shared = Shared::default();
    let passed: usize = std::thread::scope(|scope| {
        let ask = |tenant: &'static str| {
            let (config, mut budgets) = (&world.config, shared.clone());
            scope.spawn(move || {
                let headers: [(&[u8], &[u8]); 2] =
                    [(b"x-mesh-service", b"a"), (b"t", tenant.as_bytes())];
                let request = Request::collect(config.headers(), headers);
                let caller = Caller::parse(config, &request, Peer::default()).expect("a caller");
                let Decision::Route(route) = decide(config, &caller) else {
                    panic!("no route");
                };
                let hasher = DefaultHasher::new();
                let passes = |_: &u32| {
                    spend(
                        &route,
                        headers.into_iter(),
                        &hasher,
                        &mut budgets,
                        |_, _| (),
                    )
                    .is_ok()
                };
                (0..200_u32).filter(passes).count()
            })
        };
        let threads = ["1", "2", "1", "2"].map(ask);
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum()
    });
    assert_eq!(
        passed, 60,
        "thirty for each of two, and never more than a hundred"
    );
    // Refused for the tenant's sake, so the caller's budget has the rest.
    let memory = shared.0.lock().expect("no panic");
    let day = 86_400 * SECOND;
    let owed: Vec<u64> = memory
        .cells
        .iter()
        .filter(|(name, _)| name.as_bytes().starts_with(b"ist1i"))
        .map(|(_, (cell, _))| {
            let mut bytes = [0; LONGEST];
            cell.to_bytes(&mut bytes);
            u64::from_le_bytes(*bytes[7..15].first_chunk().expect("eight bytes"))
        })
        .collect();
    assert_eq!(owed, [60 * day / 100]);
}
