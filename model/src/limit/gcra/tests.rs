//! What passes, and when.

use super::*;
use crate::testing::test;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;

/// Sends requests at these times (in tenths of a second) and says which passed: `+`, or the wait in tenths.
fn check(requests: u32, burst: u32, times: &[u64], want: &str) {
    let rate = Rate::new(requests, SECOND, burst).expect("a rate");
    let tenth = SECOND / 10;
    let mut tat = 0;
    let got: Vec<String> = times
        .iter()
        .map(|time| match rate.take(tat, 1000 * SECOND + time * tenth) {
            Ok(next) => {
                tat = next;
                "+".to_owned()
            }
            Err(Wait { wait, mend }) => {
                assert_eq!(mend, None, "{times:?}");
                format!("{}", wait / tenth)
            }
        })
        .collect();
    assert_eq!(got.join(" "), want, "{times:?}");
}

#[test]
fn what_passes() {
    check(1, 1, &[0, 0, 9, 10, 10, 20], "+ 10 1 + 10 +");
    // The burst at once, then one each interval, however many were refused.
    check(2, 3, &[0, 0, 0, 0, 4, 5, 5], "+ + + 5 1 + 5");
    // After a long silence the burst again, and no more than that.
    check(2, 3, &[0, 0, 0, 100, 100, 100, 100], "+ + + + + + 5");
    // A budget smaller than what a second has: evenly, one each tenth.
    check(10, 1, &[0, 0, 1, 1, 2, 3, 3], "+ 1 + 1 + + 1");
}

#[test]
fn rates_that_are_none() {
    assert_eq!(Rate::new(0, SECOND, 1), None);
    assert_eq!(Rate::new(1, 0, 1), None);
    assert_eq!(Rate::new(1, SECOND, 0), None);
    assert!(Rate::new(1, 24 * HOUR, 366).is_some());
    assert_eq!(Rate::new(1, 24 * HOUR, 367), None);
    assert_eq!(Rate::new(1, u64::MAX, u32::MAX), None);
    assert!(Rate::new(u32::MAX, SECOND, u32::MAX).is_some());
}

#[test]
fn a_state_of_another_rate_is_mended() {
    let hourly = Rate::new(1, HOUR, 1).expect("a rate");
    let secondly = Rate::new(1, SECOND, 5).expect("a rate");
    let tat = hourly.take(0, SECOND).expect("the first");
    let refused = secondly
        .take(tat, 2 * SECOND)
        .expect_err("too much is owed");
    assert_eq!(
        refused.wait, SECOND,
        "as if the burst had just been used up"
    );
    let mended = refused.mend.expect("further away than five seconds");
    assert_eq!(mended, 7 * SECOND);
    assert_eq!(secondly.take(mended, 3 * SECOND), Ok(8 * SECOND));
    // What is owed stays owed where the new rate can owe as much.
    let wider = Rate::new(2, HOUR, 4).expect("a rate");
    assert_eq!(wider.take(tat, SECOND), Ok(HOUR + HOUR / 2 + SECOND));
}

#[test]
fn the_end_of_time() {
    let rate = Rate::new(1, SECOND, 2).expect("a rate");
    for (tat, now) in [(u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        let _ = rate.take(tat, now);
    }
    assert_eq!(rate.give_back(0), 0);
}

#[test]
fn within() {
    let rate = |requests, burst| Rate::new(requests, SECOND, burst).expect("a rate");
    assert!(rate(10, 5).is_within(rate(10, 5)));
    assert!(rate(10, 5).is_within(rate(11, 5)));
    assert!(rate(10, 5).is_within(rate(10, 6)));
    assert!(!rate(10, 5).is_within(rate(9, 5)));
    assert!(!rate(10, 5).is_within(rate(100, 4)));
}

#[cfg(not(target_arch = "wasm32"))]
mod always {
    use proptest::prelude::*;

    use super::*;

    /// A rate with its numbers, and times at which requests come.
    fn load() -> impl Strategy<Value = (u32, u64, u32, Vec<u64>)> {
        let unit = proptest::sample::select(&[SECOND, 60 * SECOND, HOUR, 24 * HOUR][..]);
        (1..50_u32, unit, 1..40_u32).prop_flat_map(|(requests, unit, burst)| {
            let gap = 0..(unit / u64::from(requests)) * 2;
            let gaps = proptest::collection::vec(prop_oneof![Just(0), gap], 1..200);
            (Just(requests), Just(unit), Just(burst), gaps)
        })
    }

    /// The times at which requests passed.
    fn passed(rate: Rate, gaps: &[u64]) -> Vec<u64> {
        let mut tat = 0;
        let mut now = SECOND;
        let mut passed = Vec::new();
        for gap in gaps {
            now += gap;
            if let Ok(next) = rate.take(tat, now) {
                tat = next;
                passed.push(now);
            }
        }
        passed
    }

    proptest! {
        /// In any window: no more than the burst and what the window refills.
        #[test]
        fn no_more_than_was_said((requests, unit, burst, gaps) in load()) {
            let rate = Rate::new(requests, unit, burst).expect("a rate");
            let passed = passed(rate, &gaps);
            for (at, begin) in passed.iter().enumerate() {
                for (count, end) in passed[at..].iter().enumerate() {
                    let refilled = u128::from(end - begin) * u128::from(requests) / u128::from(unit);
                    // `count` of them came before this one.
                    prop_assert!((count as u128) < u128::from(burst) + refilled);
                }
            }
        }

        /// Whoever waits as long as was said passes, and not a nanosecond before.
        #[test]
        fn the_wait_is_exact((requests, unit, burst, gaps) in load()) {
            let rate = Rate::new(requests, unit, burst).expect("a rate");
            let (mut tat, mut now) = (0, SECOND);
            for gap in gaps {
                now += gap;
                match rate.take(tat, now) {
                    Ok(next) => tat = next,
                    Err(Wait { wait, .. }) => {
                        prop_assert!(rate.take(tat, now + wait).is_ok());
                        prop_assert!(rate.take(tat, now + wait - 1).is_err());
                    }
                }
            }
        }

        /// After an idle window the whole burst passes at once, whatever was before.
        #[test]
        fn fair_after_idle((requests, unit, burst, gaps) in load()) {
            let rate = Rate::new(requests, unit, burst).expect("a rate");
            let mut tat = 0;
            let mut now = SECOND;
            for gap in gaps {
                now += gap;
                tat = rate.take(tat, now).unwrap_or(tat);
            }
            now += rate.window;
            for _ in 0..burst {
                let next = rate.take(tat, now);
                prop_assert!(next.is_ok());
                tat = next.unwrap_or(tat);
            }
            prop_assert!(rate.take(tat, now).is_err());
        }

        /// Later is never worse, and what is given back can be had again.
        #[test]
        fn monotone((requests, unit, burst, gaps) in load(), later in 0..HOUR) {
            let rate = Rate::new(requests, unit, burst).expect("a rate");
            let (mut tat, mut now) = (0, SECOND);
            for gap in gaps {
                now += gap;
                if let Ok(next) = rate.take(tat, now) {
                    prop_assert!(next > tat);
                    prop_assert!(rate.take(tat, now + later).is_ok());
                    prop_assert_eq!(rate.take(rate.give_back(next).max(tat), now), Ok(next));
                    tat = next;
                }
            }
        }
    }
}
