//! Limits beside each other, and which of them never bind.

use super::*;
use crate::{limit::tests::limits, testing::test};

/// Limits as `<per> [<method>] <requests>/<unit> <burst, or region> [shadow]`, one a line, and the pairs found:
/// `idle<strict`.
fn check(lines: &[&str], want: &str) {
    let json: Vec<String> = lines
        .iter()
        .map(|line| {
            let (line, mode) = match line.strip_suffix(" shadow") {
                Some(line) => (line, "shadow"),
                None => (*line, "enforce"),
            };
            let words: Vec<&str> = line.split(' ').collect();
            let (method, numbers) = match words[1..] {
                [method, rate, burst] => (format!(r#""method": "{method}","#), [rate, burst]),
                [rate, burst] => (String::new(), [rate, burst]),
                _ => panic!("{line}"),
            };
            let per: Vec<String> = words[0].split('+').map(|part| format!("\"{part}\"")).collect();
            let (requests, unit) = numbers[0].split_once('/').expect("a rate");
            format!(
                r#"{{"per": [{}], {method} "requests": {requests}, "unit": "{unit}", {}, "mode": "{mode}"}}"#,
                per.join(","),
                match numbers[1] {
                    "region" => r#""scope": "region""#.to_owned(),
                    burst => format!(r#""burst": {burst}"#),
                },
            )
        })
        .collect();
    let found = never_binding(&limits(&format!("[{}]", json.join(","))));
    let got: Vec<String> = found
        .iter()
        .map(|(idle, strict)| format!("{idle}<{strict}"))
        .collect();
    assert_eq!(got.join(" "), want, "{lines:?}");
}

#[test]
fn a_coarser_and_stricter_limit_is_in_the_way() {
    check(&["caller 100/second 200", "service 50/second 100"], "0<1");
    check(&["service 50/second 100", "caller 50/second 100"], "1<0");
    check(
        &["caller 100/second 200", "caller_region 50/second 100"],
        "0<1",
    );
    check(
        &["caller+header:t 9/minute 9", "header:t 5/minute 5"],
        "0<1",
    );
    check(
        &["caller /a 100/second 200", "service 50/second 100"],
        "0<1",
    );
    check(&["caller /a 100/second 200", "method 50/second 100"], "0<1");
    check(&["caller 100/second 200", "caller 9/minute 9"], "0<1");
    check(
        &["caller 100/second 200 shadow", "service 50/second 100"],
        "0<1",
    );
}

#[test]
fn others_are_not() {
    // More at once, or more in the long run.
    check(&["caller 100/second 200", "service 50/second 300"], "");
    check(&["caller 100/second 200", "service 500/second 100"], "");
    check(&["caller 100/second 200", "service 9000/minute 100"], "");
    // Finer, or of something else.
    check(
        &["caller_region 100/second 200", "caller 50/second 100"],
        "",
    );
    check(&["header:t 100/second 200", "caller 50/second 100"], "");
    check(&["header:t 100/second 200", "header:u 50/second 100"], "");
    // Not of all its requests.
    check(&["caller 100/second 200", "service /a 50/second 100"], "");
    check(
        &["caller /b 100/second 200", "service /a 50/second 100"],
        "",
    );
    check(&["caller 100/second 200", "method 50/second 100"], "");
    // It lets everything pass.
    check(
        &["caller 100/second 200", "service 50/second 100 shadow"],
        "",
    );
}

#[test]
fn of_equals_the_second_is_idle() {
    check(&["caller 60/minute 10", "caller 1/second 10"], "1<0");
    check(
        &[
            "caller 60/minute 10",
            "caller 1/second 10",
            "service 1/hour 1",
        ],
        "0<2 1<0",
    );
}

/// What is said to be idle is idle: whatever passes the strict one passes it too.
#[cfg(not(target_arch = "wasm32"))]
mod always {
    use proptest::prelude::*;

    use crate::limit::Rate;

    fn rate() -> impl Strategy<Value = Rate> {
        (1..20_u32, 1..1000_u64, 1..20_u32)
            .prop_map(|(requests, unit, burst)| Rate::new(requests, unit, burst).expect("a rate"))
    }

    proptest! {
        #[test]
        fn within_means_within(
            strict in rate(),
            wide in rate(),
            gaps in proptest::collection::vec(0..200_u64, 1..200),
        ) {
            prop_assume!(strict.is_within(wide));
            let (mut now, mut strict_tat, mut wide_tat) = (1000, 0, 0);
            for gap in gaps {
                now += gap;
                if let Ok(next) = strict.take(strict_tat, now) {
                    strict_tat = next;
                    let passed = wide.take(wide_tat, now);
                    prop_assert!(passed.is_ok());
                    wide_tat = passed.unwrap_or_default();
                }
            }
        }
    }
}

#[test]
fn limits_of_the_region() {
    // Local ones come first, and are charged for what the region refuses.
    check(&["caller 1000/second 1000", "service 1/day region"], "");
    // Twice as much as in one window passes at the border of two.
    check(
        &["caller 119/minute region", "service 60/minute region"],
        "",
    );
    check(
        &["caller 120/minute region", "service 60/minute region"],
        "0<1",
    );
    check(&["caller 6/hour region", "service 2/minute region"], "");
    check(
        &["caller 122/hour region", "service 2/minute region"],
        "0<1",
    );
    check(&["caller 119/minute region", "service 60/hour region"], "");
    check(
        &["caller 120/minute region", "service 60/hour region"],
        "0<1",
    );
    // Of one Envoy it is said how much passes, but not how many there are.
    check(&["caller 1000000/second region", "service 1/day 1"], "");
}
