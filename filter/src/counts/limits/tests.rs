//! Names of counters, which limits have some, and how many there can ever be.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use isthmus_model::{ServiceName, limit::check_service};

use super::*;

/// An Envoy whose threads share it.
#[derive(Clone, Default)]
struct Envoy(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    names: Vec<String>,
    list: Vec<u8>,
    version: u32,
    calls: usize,
    /// What another thread puts on the list before the writes to come.
    meanwhile: Vec<String>,
    broken: bool,
    /// How often it was told that the list is full.
    full: usize,
}

impl Counters for Envoy {
    fn define(&mut self, name: &str) -> Option<u32> {
        let mut state = self.0.borrow_mut();
        state.calls += 1;
        if state.broken {
            return None;
        }
        let at = state.names.iter().position(|other| other == name);
        let at = at.unwrap_or_else(|| {
            state.names.push(name.to_owned());
            state.names.len() - 1
        });
        u32::try_from(at).ok()
    }

    fn list(&mut self) -> Option<(Vec<u8>, u32)> {
        let mut state = self.0.borrow_mut();
        state.calls += 1;
        (!state.broken).then(|| (state.list.clone(), state.version))
    }

    fn replace_list(&mut self, list: &[u8], version: u32) -> Option<bool> {
        let mut state = self.0.borrow_mut();
        state.calls += 1;
        if let Some(other) = state.meanwhile.pop() {
            enlist(&mut state.list, &other);
            state.version += 1;
        }
        if state.version != version {
            return Some(false);
        }
        state.list = list.to_vec();
        state.version += 1;
        Some(true)
    }

    fn full(&mut self) {
        self.0.borrow_mut().full += 1;
    }
}

impl Envoy {
    fn calls(&self) -> usize {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }

    /// What a thread hands over, by the names of counters.
    fn drain(&self, counts: &mut LimitCounts) -> BTreeMap<String, i64> {
        let names = &self.0.borrow().names;
        let drained = counts.drain();
        drained
            .map(|(id, by)| (names[usize::try_from(id).unwrap()].clone(), by))
            .collect()
    }
}

fn limits(service: &str, json: &str) -> Vec<Limit> {
    let service = ServiceName::parse(service.as_bytes()).unwrap();
    check_service(&service, &serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap()
}

fn limit(service: &str, json: &str) -> Limit {
    limits(service, &format!("[{json}]")).remove(0)
}

/// The limit of the number: no two are the same.
fn numbered(n: usize) -> Limit {
    let json = format!(r#"{{"per": "caller", "method": "/{n}", "requests": 1, "unit": "day"}}"#);
    limit("a", &json)
}

fn counted(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
    let name = |name: &str| format!("isthmus.limit_requests_total.{name}");
    pairs.iter().map(|(n, count)| (name(n), *count)).collect()
}

#[test]
fn names() {
    let longest = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    for (service, json, want) in [
        (
            "payments",
            r#"{"per": "caller", "requests": 1, "unit": "second"}"#,
            "payments;caller,,second,enforce.allowed",
        ),
        (
            "A.b--C.2..d",
            r#"{"per": "service", "method": "/a.B/C", "requests": 1, "unit": "day", "mode": "shadow"}"#,
            "a.b--c.2..d;service,/a.B/C,day,shadow.allowed",
        ),
        (
            &longest,
            r#"{"per": ["header:X.Y_z", "caller"], "method": "/a:b;c=d|e%f", "requests": 1, "unit": "hour"}"#,
            &format!("{longest};caller+header:x.y_z,/a:b%3Bc%3Dd%7Ce%25f,hour,enforce.allowed"),
        ),
    ] {
        let (envoy, mut counts) = (Envoy::default(), LimitCounts::default());
        let limit = limit(service, json);
        let service = service.to_ascii_lowercase();
        counts.add(&service, &limit, Outcome::Allowed, &mut envoy.clone());
        assert_eq!(envoy.drain(&mut counts), counted(&[(want, 1)]));
    }
}

#[test]
fn each_limit_and_outcome_has_its_own_counter() {
    let (envoy, mut counts) = (Envoy::default(), LimitCounts::default());
    let (a, b) = (numbered(1), numbered(2));
    let twice = [Outcome::Allowed, Outcome::Allowed];
    for outcome in twice.into_iter().chain(Outcome::ALL) {
        counts.add("a", &a, outcome, &mut envoy.clone());
    }
    counts.add("a", &b, Outcome::Denied, &mut envoy.clone());
    let want = [
        ("a;caller,/1,day,enforce.allowed", 3),
        ("a;caller,/1,day,enforce.denied", 1),
        ("a;caller,/1,day,enforce.shadow_denied", 1),
        ("a;caller,/1,day,enforce.unchecked", 1),
        ("a;caller,/2,day,enforce.denied", 1),
    ];
    assert_eq!(envoy.drain(&mut counts), counted(&want));
    assert_eq!(envoy.drain(&mut counts), counted(&[]), "handed over once");
    assert_eq!(
        envoy.0.borrow().names.len(),
        8,
        "those that are zero as well"
    );
}

#[test]
fn the_host_is_called_for_the_first_time_only() {
    let (envoy, mut counts) = (Envoy::default(), LimitCounts::default());
    let mut add = |limit: &Limit| {
        counts.add("a", limit, Outcome::Allowed, &mut envoy.clone());
        envoy.calls()
    };
    assert_eq!(add(&numbered(1)), 2 + OUTCOMES);
    assert_eq!(add(&numbered(1)), 0);
    let more = r#"{"per": "caller", "method": "/1", "requests": 9, "burst": 99, "unit": "day", "on_error": "deny"}"#;
    assert_eq!(add(&limit("a", more)), 0, "numbers make no other limit");
    assert_eq!(add(&numbered(2)), 2 + OUTCOMES);
    // So it is for those without counters of their own.
    for n in 3..=MOST {
        assert_ne!(add(&numbered(n)), 0);
    }
    assert_eq!(add(&numbered(0)), 1 + OUTCOMES);
    assert_eq!(add(&numbered(0)), 0);
    assert_eq!(add(&numbered(MOST + 1)), 0);
}

#[test]
fn limits_beyond_the_bound_share_counters() {
    let (envoy, mut counts) = (Envoy::default(), LimitCounts::default());
    for n in 0..MOST + 7 {
        counts.add("a", &numbered(n), Outcome::Denied, &mut envoy.clone());
        let told = usize::from(n >= MOST);
        assert_eq!(envoy.0.borrow().full, told, "once, at the first of them");
    }
    let drained = envoy.drain(&mut counts);
    assert_eq!(drained.len(), MOST + 1);
    let others = "isthmus.limit_requests_total.other;other.denied";
    assert_eq!(drained[others], 7);
    assert_eq!(drained.values().filter(|count| **count == 1).count(), MOST);
    // A limit that has counters keeps them.
    counts.add("a", &numbered(0), Outcome::Denied, &mut envoy.clone());
    let want = [("a;caller,/0,day,enforce.denied", 1)];
    assert_eq!(envoy.drain(&mut counts), counted(&want));
}

#[test]
fn configs_may_change_for_ever() {
    let envoy = Envoy::default();
    // Two threads, which meet the limits in another order, and one that comes when the list is full.
    let mut threads = [(); 3].map(|()| LimitCounts::default());
    for change in 0..10_000 {
        let limits = [numbered(2 * change), numbered(2 * change + 1)];
        let [first, second, third] = &mut threads;
        for limit in &limits {
            first.add("a", limit, Outcome::Allowed, &mut envoy.clone());
        }
        for limit in limits.iter().rev() {
            second.add("a", limit, Outcome::Allowed, &mut envoy.clone());
        }
        if change >= MOST {
            third.add("a", &limits[0], Outcome::Allowed, &mut envoy.clone());
        }
    }
    assert_eq!(envoy.0.borrow().names.len(), (MOST + 1) * OUTCOMES);
    let [first, second, third] = &mut threads;
    assert!([&*first, second, third].iter().all(|t| t.own.len() == MOST));
    let drained = envoy.drain(first);
    assert_eq!(drained, envoy.drain(second), "they agree on the list");
    let others = "isthmus.limit_requests_total.other;other.allowed";
    assert_eq!(drained[others], 20_000 - i64::try_from(MOST).unwrap());
    let want = counted(&[("other;other.allowed", 10_000 - i64::try_from(MOST).unwrap())]);
    assert_eq!(envoy.drain(third), want);
}

#[test]
fn what_other_threads_do_meanwhile() {
    let (envoy, mut counts) = (Envoy::default(), LimitCounts::default());
    let mine = numbered(1);
    envoy.0.borrow_mut().meanwhile = vec!["b".to_owned(), mine.identity().to_owned()];
    counts.add("a", &mine, Outcome::Allowed, &mut envoy.clone());
    let want = [("a;caller,/1,day,enforce.allowed", 1)];
    assert_eq!(envoy.drain(&mut counts), counted(&want));
    let list = envoy.0.borrow().list.clone();
    assert_eq!(entries(&list).count(), 1, "another thread put it there");

    // The last place goes to somebody else.
    let (envoy, mut counts) = (Envoy::default(), LimitCounts::default());
    for n in 1..MOST {
        enlist(&mut envoy.0.borrow_mut().list, &n.to_string());
    }
    envoy.0.borrow_mut().meanwhile = vec!["b".to_owned()];
    counts.add("a", &mine, Outcome::Allowed, &mut envoy.clone());
    let want = [("other;other.allowed", 1)];
    assert_eq!(envoy.drain(&mut counts), counted(&want));
}

#[test]
fn what_cannot_be_counted_stops_nothing() {
    let (envoy, mut counts) = (Envoy::default(), LimitCounts::default());
    envoy.0.borrow_mut().broken = true;
    counts.add("a", &numbered(1), Outcome::Allowed, &mut envoy.clone());
    assert_eq!(envoy.drain(&mut counts), counted(&[]));
    envoy.0.borrow_mut().broken = false;
    // With more words than fit on the list.
    let words: Vec<_> = (0..40)
        .map(|n| format!("header:{}{n}", "x".repeat(30)))
        .collect();
    let json = format!(r#"{{"per": {words:?}, "requests": 1, "unit": "day"}}"#);
    let long = limit("a", &json);
    counts.add("a", &long, Outcome::Allowed, &mut envoy.clone());
    let want = [("other;other.allowed", 1)];
    assert_eq!(envoy.drain(&mut counts), counted(&want));
    assert!(envoy.0.borrow().list.is_empty());
}

/// What the list and the names lean on.
#[test]
fn limits_are_told_apart_by_what_names_show() {
    let json = r#"[
        {"per": "caller", "requests": 1, "unit": "day"},
        {"per": "caller", "requests": 1, "unit": "hour"},
        {"per": "caller", "requests": 1, "unit": "hour", "mode": "shadow"},
        {"per": "caller", "method": "/a;b", "requests": 1, "unit": "hour"}
    ]"#;
    let limits = limits("a.b", json);
    for (at, limit) in limits.iter().enumerate() {
        assert!(!limit.identity().bytes().any(|byte| byte == END));
        assert!(!limit.token().contains(';'), "{}", limit.token());
        for other in &limits[..at] {
            assert_ne!(limit.identity(), other.identity());
            assert_ne!(limit.token(), other.token());
        }
    }
    for outcome in Outcome::ALL {
        assert!(!outcome.as_str().contains('.'));
    }
}
