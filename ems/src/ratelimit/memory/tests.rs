//! Charges: alone, together, from several threads, and when there is no room.

use std::{sync::Arc, thread};

use super::*;
use crate::ratelimit::{book::Page, tests::page};

const LIMITS: &str = r#"[
    {"per": "caller", "requests": 2, "unit": "second", "scope": "region"},
    {"per": "service", "requests": 3, "unit": "minute", "scope": "region"},
    {"per": "header:t", "requests": 2, "unit": "second", "scope": "region"},
    {"per": "service", "requests": 1, "unit": "minute", "scope": "region", "mode": "shadow"}]"#;

/// Asks for the budgets of limits by their places, each with a key: `0a 1b`. Says whether the request passes.
fn ask(memory: &Memory, page: &Page, keys: &str, now: u64) -> bool {
    let claims = keys.split(' ').map(|key| Claim {
        entry: &page.entries()[key[..1].parse::<usize>().unwrap()],
        key,
        state: State::Unknown,
    });
    let mut claims: Vec<_> = claims.collect();
    memory.charge("payments", &mut claims, 1, now);
    !claims.iter().any(|claim| claim.refuses(1, now))
}

fn room(of_service: usize, of_origin: usize) -> Memory {
    Memory::new(Room {
        of_service,
        of_origin,
    })
}

#[test]
fn budgets_by_key_and_window() {
    let (memory, page) = (room(9, 9), page(LIMITS));
    for (at, keys, passes) in [
        (0, "0a", true),
        (1, "0a", true),
        (2, "0a", false),
        (2, "0b", true),
        (999, "0a", false),
        (1_000, "0a", true),
        (1_000, "0a", true),
        (1_999, "0a", false),
        // It begins with the first request, not with the clock.
        (2_500, "0a", true),
        (3_499, "0a", true),
        (3_499, "0a", false),
        (3_500, "0a", true),
    ] {
        assert_eq!(ask(&memory, &page, keys, at), passes, "{at} {keys}");
    }
}

#[test]
fn all_or_none() {
    let (memory, page) = (room(9, 9), page(LIMITS));
    assert!(ask(&memory, &page, "0a 1s", 0));
    assert!(ask(&memory, &page, "0a 1s", 0));
    // The caller's is used up, so the service's is not charged.
    assert!(!ask(&memory, &page, "0a 1s", 0));
    assert!(!ask(&memory, &page, "1s 0a", 0));
    assert!(ask(&memory, &page, "0b 1s", 0));
    // And the other way round.
    assert!(!ask(&memory, &page, "0b 1s", 0));
    assert!(ask(&memory, &page, "0b", 0));
    assert!(!ask(&memory, &page, "0b", 0));
}

#[test]
fn a_shadow_limit_is_charged_and_refuses_nothing() {
    let (memory, page) = (room(9, 9), page(LIMITS));
    for _ in 0..3 {
        assert!(ask(&memory, &page, "3x 1s", 0));
    }
    assert!(!ask(&memory, &page, "3x 1s", 0));
    assert!(ask(&memory, &page, "3x", 0));
}

#[test]
fn who_makes_up_keys_crowds_out_nobody_else() {
    let (memory, page) = (room(2, 100), page(LIMITS));
    let known = |keys: &str, now| {
        let mut claim = [Claim {
            entry: &page.entries()[keys[..1].parse::<usize>().unwrap()],
            key: keys,
            state: State::Unknown,
        }];
        memory.charge("payments", &mut claim, 1, now);
        claim[0].state != State::Unknown
    };
    assert!(known("2a", 0) && known("2b", 500));
    assert!(!known("2c", 501), "no room");
    // Those that have a place keep it, and identities have places of their own.
    assert!(known("2a", 502) && known("0a", 502) && known("0b", 502));
    assert!(!known("0c", 502));
    // A window is over, but it was looked for not long ago.
    assert!(!known("2c", 1_200));
    assert!(known("2c", 1_501));
    assert_eq!(memory.len(), 3);
    memory.sweep(2_501);
    assert_eq!((memory.len(), memory.is_empty()), (0, true));
    // The bound on all of them.
    let memory = room(9, 3);
    let mut fits = 0;
    for at in 0..5 {
        let mut claim = [Claim {
            entry: &page.entries()[2],
            key: &format!("2{at}"),
            state: State::Unknown,
        }];
        memory.charge("payments", &mut claim, 1, 0);
        fits += usize::from(claim[0].state != State::Unknown);
    }
    assert_eq!((fits, memory.len()), (3, 3));
    // Nobody can make up identities, and there is room for these whatever else there is.
    assert!(ask(&memory, &page, "0a 1s", 0));
    assert_eq!(memory.len(), 5);
}

#[test]
fn threads_share_a_budget_exactly() {
    const THREADS: usize = 4;
    let page = page(
        r#"[{"per": "service", "requests": 1000, "unit": "day", "scope": "region"},
            {"per": "caller", "requests": 400, "unit": "day", "scope": "region"}]"#,
    );
    for _ in 0..20 {
        let memory = Arc::new(room(9, 9));
        let passed: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|caller| {
                    let (memory, page) = (memory.clone(), page.clone());
                    scope.spawn(move || {
                        let keys = format!("0s 1{caller}");
                        (0..500).filter(|_| ask(&memory, &page, &keys, 0)).count()
                    })
                })
                .collect();
            let counts = threads.into_iter().map(|thread| thread.join().unwrap());
            counts.inspect(|count| assert!(*count <= 400)).sum()
        });
        assert_eq!(passed, 1000);
    }
}
