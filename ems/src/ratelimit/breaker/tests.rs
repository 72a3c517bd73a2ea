//! A breaker's life, step by step.

use super::*;

/// Steps at times: `?` may a call be made (`y`, `n`), `+` it succeeded, `-` it failed. After each of the last two, whether
/// that opened or closed it: `!`.
fn check(steps: &[(u64, &str)]) {
    let mut breaker = Breaker::default();
    for (at, (now, step)) in steps.iter().enumerate() {
        let got = match step.as_bytes()[0] {
            b'?' if breaker.lets_out(*now) => "?y",
            b'?' => "?n",
            b'+' if breaker.succeeded() => "+!",
            b'+' => "+",
            _ if breaker.failed(*now) => "-!",
            _ => "-",
        };
        assert_eq!(got, *step, "step {at} of {steps:?}");
    }
}

#[test]
fn failures_in_a_row_open_it() {
    check(&[
        (0, "?y"),
        (0, "-"),
        (1, "-"),
        (2, "-"),
        (3, "-"),
        (3, "?y"),
        (4, "-!"),
        (5, "?n"),
        (1_003, "?n"),
    ]);
    check(&[
        (0, "-"),
        (0, "-"),
        (0, "-"),
        (0, "-"),
        (0, "+"),
        (0, "-"),
        (0, "-"),
        (0, "-"),
        (0, "-"),
        (0, "?y"),
        (0, "-!"),
    ]);
}

const OPEN: [(u64, &str); 5] = [(0, "-"), (0, "-"), (0, "-"), (0, "-"), (0, "-!")];

#[test]
fn after_a_pause_one_finds_out() {
    let check = |steps: &[(u64, &str)]| check(&[&OPEN, steps].concat());
    check(&[
        (1_000, "?y"),
        (1_000, "?n"),
        (1_100, "-"),
        (1_999, "?n"),
        (2_000, "?y"),
        (2_001, "+!"),
        (2_001, "?y"),
        (2_001, "?y"),
        (2_001, "-"),
    ]);
    // Nobody says what became of it.
    check(&[(1_500, "?y"), (2_499, "?n"), (2_500, "?y"), (2_500, "?n")]);
    // Those that were under way when it opened: failures add nothing, an answer is an answer.
    check(&[(10, "-"), (999, "?n"), (1_000, "?y")]);
    check(&[(10, "+!"), (11, "?y")]);
}

#[test]
fn open_or_not() {
    let mut breaker = Breaker::default();
    assert!(!breaker.is_open());
    for _ in 0..FAILURES {
        breaker.failed(0);
    }
    assert!(breaker.is_open() && breaker.lets_out(PAUSE) && breaker.is_open());
    breaker.succeeded();
    assert!(!breaker.is_open());
}
