//! Who was busy, by tables and by a property.

use std::collections::HashMap;

use proptest::{collection::vec, prelude::*};

use super::*;

/// Requests as `key`, or `time:key`, of periods of 10; what is listed at the last time.
fn check(requests: &str, want: &str) {
    let mut busiest = Busiest::new(10);
    let mut now = 0;
    for word in requests.split_whitespace() {
        let key = word.split_once(':').map_or(word, |(time, key)| {
            now = time.parse().unwrap();
            key
        });
        if !key.is_empty() {
            busiest.note(key, 1, now);
        }
    }
    let list = busiest.list(3, now);
    let list: Vec<_> = list
        .iter()
        .map(|busy| format!("{}={}", busy.key, busy.requests))
        .collect();
    assert_eq!(list.join(" "), want, "{requests}");
}

#[test]
fn the_busiest_first() {
    check("", "");
    check("a", "a=1");
    check("a b b", "b=2 a=1");
    check("b a", "a=1 b=1");
    check("a b b c c c d", "c=3 b=2 a=1");
}

#[test]
fn the_present_and_the_period_before() {
    check("a 9:a", "a=2");
    check("a b 10:a", "a=2 b=1");
    check("a 10:b 19:", "a=1 b=1");
    check("a 10:b 20:", "b=1");
    // Nothing for longer than a period.
    check("a 19:", "a=1");
    check("a 20:", "");
    check("a 20:b", "b=1");
}

#[test]
fn a_long_key_is_cut_and_still_another() {
    let mut busiest = Busiest::new(10);
    let long = "ä".repeat(LONGEST);
    busiest.note(&format!("x{long}1"), 2, 0);
    busiest.note(&format!("x{long}2"), 1, 0);
    busiest.note("short", 1, 0);
    let list = busiest.list(9, 0);
    let list: Vec<_> = list
        .iter()
        .map(|b| (b.key.len(), b.is_whole, b.requests))
        .collect();
    assert_eq!(list, [(255, false, 2), (5, true, 1), (255, false, 1)]);
}

proptest! {
    /// A few busy keys among many that come once, over several periods.
    #[test]
    fn counts_are_right_within_their_error(
        requests in vec((prop_oneof![0..8_u32, 0..400_u32], 1..4_u64, 0..3_u64), 0..1_500)
    ) {
        let mut busiest = Busiest::new(500);
        // By period: they turn when the first request comes after their end.
        let (mut exact, mut ends, mut now) = ([HashMap::new(), HashMap::new()], 0, 0);
        for (key, hits, later) in requests {
            now += later;
            if now >= ends {
                let [present, _] = exact;
                let before = if now < ends + 500 { present } else { HashMap::new() };
                exact = [HashMap::new(), before];
                ends = now + 500;
            }
            *exact[0].entry(key).or_insert(0) += hits;
            busiest.note(&key.to_string(), hits, now);
        }
        let all = exact.each_ref().map(|counts| counts.values().sum::<u64>());
        let bound = all[0] / SLOTS as u64 + all[1] / SLOTS as u64;
        let truth = |key| exact.iter().map(|counts| counts.get(&key).copied().unwrap_or(0)).sum::<u64>();
        let list = busiest.list(usize::MAX, now);
        for busy in &list {
            let truth = truth(busy.key.parse().unwrap());
            prop_assert!(truth <= busy.requests && busy.requests - busy.error <= truth, "{busy:?} {truth}");
            prop_assert!(busy.error <= bound, "{busy:?} {bound}");
        }
        for key in 0..400 {
            let listed = list.iter().any(|busy| busy.key == key.to_string());
            prop_assert!(listed || truth(key) <= bound, "{key} {}", truth(key));
        }
    }
}
