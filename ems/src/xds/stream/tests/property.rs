//! For any sequence of requests and writes: a client that answers everything ends with exactly what it subscribed to.

use proptest::prelude::*;

use super::*;
use crate::xds::stream::client::{KINDS, NAMES, Step, VERSIONS, With, compare, run};

fn with() -> impl Strategy<Value = With> {
    prop_oneof![
        4 => Just(With::Nothing),
        2 => Just(With::Ack),
        1 => Just(With::Nack),
        1 => Just(With::Blame),
        1 => (0_u64..20).prop_map(With::Stale),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let (kind, name, version) = (0..KINDS.len(), 0..NAMES, 0..=VERSIONS);
    let names = |most| prop::collection::vec(0..=NAMES, 0..most);
    prop_oneof![
        6 => (kind.clone(), names(3), names(2), with())
            .prop_map(|(kind, plus, minus, with)| Step::Ask(kind, plus, minus, with)),
        6 => prop::collection::vec((kind.clone(), name.clone(), version.clone()), 1..4)
            .prop_map(Step::Write),
        5 => kind.clone().prop_map(|k| Step::Answer(k, With::Ack)),
        1 => kind.clone().prop_map(|k| Step::Answer(k, With::Nack)),
        1 => kind.clone().prop_map(|k| Step::Answer(k, With::Blame)),
        2 => (kind.clone(), name, version).prop_map(|(k, n, v)| Step::Lost(k, n, v)),
        1 => (kind, 0_u8..20).prop_map(|(k, names)| Step::Churn(k, names)),
        1 => (0_u8..9).prop_map(Step::Foreign),
        3 => (0_u8..12).prop_map(Step::Wait),
        2 => Just(Step::Reconnect),
        1 => (0_u8..8).prop_map(Step::Hold),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn delta_client_has_what_it_asked_for(steps in prop::collection::vec(step(), 0..40)) {
        run(Mode::Delta, &steps);
    }

    #[test]
    fn sotw_client_has_what_it_asked_for(steps in prop::collection::vec(step(), 0..40)) {
        run(Mode::Sotw, &steps);
    }

    #[test]
    fn both_variants_end_alike(steps in prop::collection::vec(step(), 0..40)) {
        compare(&steps);
    }
}

/// A client gives up what it has, and in the same breath rejects that it was refreshed.
#[test]
fn what_is_given_up_leaves_no_note_of_a_rejected_refresh() {
    run(
        Mode::Delta,
        &[
            Step::Write(vec![(0, 0, VERSIONS)]),
            Step::Ask(0, vec![1], vec![], With::Nothing),
            Step::Answer(0, With::Ack),
            Step::Reconnect,
            Step::Write(vec![(0, 0, 0)]),
            Step::Ask(0, vec![], vec![1], With::Nack),
        ],
    );
}

/// What it took in the same breath is given up with the rest: there is nothing to be kept alive.
#[test]
fn what_is_given_up_and_asked_for_again_starts_anew() {
    run(
        Mode::Delta,
        &[
            Step::Write(vec![(0, 0, VERSIONS)]),
            Step::Ask(0, vec![1], vec![], With::Nothing),
            Step::Write(vec![(0, 0, 1)]),
            Step::Ask(0, vec![1], vec![1], With::Ack),
            Step::Answer(0, With::Nack),
        ],
    );
}

/// What the wildcard covers is not given up by name: it is kept alive while something newer is not taken.
#[test]
fn what_the_wildcard_covers_is_not_given_up() {
    let end = |minus: Vec<u8>, plus: Vec<u8>| {
        run(
            Mode::Delta,
            &[
                Step::Write(vec![(0, 0, VERSIONS)]),
                Step::Ask(0, vec![], vec![], With::Nothing),
                Step::Answer(0, With::Ack),
                Step::Write(vec![(0, 0, 2)]),
                Step::Ask(0, plus, minus, With::Nack),
            ],
        );
    };
    end(vec![1], vec![]);
    end(vec![1], vec![1]);
    end(vec![0, 1], vec![1]);
    end(vec![0, 1], vec![0, 1]);
}

/// A full list goes on naming what the client took, while a removal waits; that is no news of what it rejected.
#[test]
fn a_list_names_what_was_taken_while_a_removal_waits() {
    run(
        Mode::Sotw,
        &[
            Step::Write(vec![(0, 3, 3), (0, 0, 2)]),
            Step::Ask(0, vec![], vec![], With::Nothing),
            Step::Ask(1, vec![0], vec![], With::Ack),
            Step::Lost(0, 3, 2),
            Step::Write(vec![(0, 0, 1)]),
            Step::Ask(0, vec![0], vec![], With::Ack),
            Step::Lost(0, 3, 0),
            Step::Answer(0, With::Nack),
            Step::Lost(0, 0, 2),
            Step::Lost(0, 3, 2),
        ],
    );
}

/// What was rejected with others, was replaced, and came back before that was sent, is tried all the same.
#[test]
fn a_suspect_that_comes_back_is_tried() {
    for mode in [Mode::Delta, Mode::Sotw] {
        run(
            mode,
            &[
                Step::Write(vec![(0, 0, 2)]),
                Step::Ask(0, vec![], vec![], With::Nothing),
                Step::Write(vec![(0, 2, 1), (0, 0, VERSIONS)]),
                Step::Ask(0, vec![], vec![], With::Ack),
                Step::Write(vec![(0, 0, 2)]),
                Step::Ask(0, vec![], vec![], With::Nack),
                Step::Write(vec![(0, 2, 1), (0, 0, VERSIONS)]),
            ],
        );
    }
}

/// What went its own way is tried no more, also if that is rejected.
#[test]
fn another_version_of_a_suspect_is_not_tried() {
    run(
        Mode::Delta,
        &[
            Step::Write(vec![(1, 0, 3), (1, 1, 1)]),
            Step::Ask(1, vec![], vec![], With::Nothing),
            Step::Answer(1, With::Nack),
            Step::Write(vec![(1, 1, 3)]),
            Step::Answer(1, With::Nack),
            Step::Answer(1, With::Nack),
        ],
    );
}

/// By state of the world nobody hears that a route is gone; what it comes back as may be rejected, and is not what it was.
#[test]
fn what_is_gone_without_a_word_is_not_kept_alive() {
    run(
        Mode::Sotw,
        &[
            Step::Write(vec![(3, 3, VERSIONS)]),
            Step::Ask(3, vec![], vec![], With::Nothing),
            Step::Answer(3, With::Ack),
            Step::Write(vec![(3, 3, 0)]),
            Step::Write(vec![(3, 3, 2)]),
            Step::Answer(3, With::Nack),
        ],
    );
}

/// Endpoints follow clusters that go again because the client rejected that they were refreshed.
#[test]
fn clusters_of_a_rejected_refresh_bring_their_endpoints() {
    run(
        Mode::Delta,
        &[
            Step::Lost(1, 0, VERSIONS),
            Step::Ask(1, vec![1, 2, 2], vec![], With::Nack),
            Step::Write(vec![(0, 0, VERSIONS)]),
            Step::Lost(0, 2, VERSIONS),
            Step::Ask(0, vec![], vec![], With::Nack),
            Step::Reconnect,
            Step::Ask(1, vec![0], vec![], With::Ack),
            Step::Answer(0, With::Nack),
        ],
    );
}

/// What was rejected and is in no list is forgotten once it is known to be gone, and not before.
#[test]
fn a_rejected_newcomer_is_noted_until_it_is_gone() {
    run(
        Mode::Sotw,
        &[
            Step::Lost(0, 0, 2),
            Step::Ask(0, vec![], vec![], With::Nothing),
            Step::Ask(0, vec![2, 0, 0], vec![], With::Nack),
            Step::Lost(0, 0, 0),
            Step::Ask(0, vec![0], vec![2, 0, 0], With::Nothing),
        ],
    );
}
