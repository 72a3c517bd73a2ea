//! Any sequence of requests, changes and time on one xDS stream, against the model client that the property tests of
//! `ems` use too. Clients of both variants that answer everything end with the same resources.
//!
//! `SHOW_STEPS=1 target/fuzz/…/stream FILE` prints the steps of an input.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use ems::xds::stream::{
    Mode,
    client::{Step, With, compare, run},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let steps = steps(&mut Unstructured::new(bytes)).unwrap_or_default();
    if std::env::var_os("SHOW_STEPS").is_some() {
        eprintln!("{steps:#?}");
    }
    run(Mode::Delta, &steps);
    run(Mode::Sotw, &steps);
    compare(&steps);
});

fn steps(from: &mut Unstructured<'_>) -> arbitrary::Result<Vec<Step>> {
    let mut steps = Vec::new();
    while !from.is_empty() {
        steps.push(step(from)?);
    }
    Ok(steps)
}

fn step(from: &mut Unstructured<'_>) -> arbitrary::Result<Step> {
    Ok(match u8::arbitrary(from)? % 11 {
        0 | 1 => Step::Ask(
            kind(from)?,
            some(from, u8::arbitrary)?,
            some(from, u8::arbitrary)?,
            with(from)?,
        ),
        2 | 3 => Step::Write(some(from, |from| {
            Ok((kind(from)?, from.arbitrary()?, from.arbitrary()?))
        })?),
        4 => Step::Answer(kind(from)?, With::Ack),
        5 => Step::Answer(kind(from)?, With::Nack),
        6 => Step::Lost(kind(from)?, from.arbitrary()?, from.arbitrary()?),
        7 => match u8::arbitrary(from)? % 3 {
            0 => Step::Churn(kind(from)?, u8::arbitrary(from)? % 64),
            1 => Step::Hold(u8::arbitrary(from)?),
            _ => Step::Foreign(from.arbitrary()?),
        },
        8 => Step::Wait(u8::arbitrary(from)? % 16),
        9 => Step::Answer(kind(from)?, With::Blame),
        _ => Step::Reconnect,
    })
}

fn kind(from: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    Ok(usize::from(u8::arbitrary(from)?))
}

fn with(from: &mut Unstructured<'_>) -> arbitrary::Result<With> {
    Ok(match u8::arbitrary(from)? % 5 {
        0 => With::Nothing,
        1 => With::Ack,
        2 => With::Nack,
        3 => With::Blame,
        _ => With::Stale(u64::from(u8::arbitrary(from)?)),
    })
}

/// Up to three.
fn some<'a, T>(
    from: &mut Unstructured<'a>,
    each: impl Fn(&mut Unstructured<'a>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Vec<T>> {
    let count = u8::arbitrary(from)? % 4;
    (0..count).map(|_| each(from)).collect()
}
