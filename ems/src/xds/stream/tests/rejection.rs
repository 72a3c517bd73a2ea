//! What follows when a client rejects, in the delta variant.

use super::*;

fn check(script: &[&str]) {
    super::check(Mode::Delta, script);
}

/// "The management server should only send updates to the Envoy client when the resources in the DiscoveryResponse have
/// changed": a rejected version is never sent again, a new one is.
#[test]
fn rejection() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +a +b => cds a=1 b=1",
        "cds nack:a_and_b_are_bad =>",
        "write cds:a=1 cds:b=2 => cds b=2",
        "cds ack =>",
        "write cds:a=2 => cds a=2",
        "cds nack:bad =>",
        "lost =>",
        "write cds:-a => cds -a",
    ]);
}

/// Envoy hands out routes and endpoints that came together name by name, and stops at the first that fails: what came with it
/// goes once more. Of clusters and listeners it takes what is right.
#[test]
fn what_came_with_something_wrong_goes_again() {
    check(&[
        "write rds:a=1 rds:b=1 rds:c=1 =>",
        "rds +a +b +c +x => rds a=1 b=1 c=1 -x",
        "rds nack:b_is_wrong => rds a=1 c=1",
        "rds nack:c_is_wrong => rds a=1",
        "rds ack => rds -x",
        "rds ack =>",
        "lost =>",
    ]);
    super::check(
        Mode::Sotw,
        &[
            "write eds:a=1 eds:b=1 =>",
            "eds a b => eds a=1 b=1",
            "eds nack:b_is_wrong a b => eds a=1",
            "eds ack a b =>",
        ],
    );
    check(&[
        "write lds:a=1 lds:b=1 =>",
        "lds +a +b => lds a=1 b=1",
        "lds nack:Error_adding/updating_listener(s)_b:_wrong =>",
    ]);
    // Which Envoy says in these words; what it cannot read is named in others, and then it took nothing.
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +a +b => cds a=1 b=1",
        "cds nack:name:_\"b\"_:_Proto_constraint_validation_failed => cds a=1",
        "cds ack =>",
    ]);
    super::check(
        Mode::Sotw,
        &[
            "write lds:a=1 lds:b=1 lds:x=1 =>",
            "lds => lds a=1 b=1 x=1",
            "lds ack =>",
            "write lds:a=2 lds:b=2 => lds a=2 b=2 x=1",
            "lds nack:name:_\"b\" => lds a=2 b=1 x=1",
            "lds ack =>",
            // Nothing is new in this, so nothing is at fault.
            "write lds:-x => lds a=2 b=1",
            "lds nack:too_few =>",
            "write lds:b=3 => lds a=2 b=3",
        ],
    );
    // Nothing is removed under it meanwhile.
    check(&[
        "write cds:X=1 rds:a=X rds:b=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds +a +b => rds a=X b=X",
        "rds ack =>",
        "write cds:-X rds:a=Y rds:b=Y => rds a=Y b=Y",
        "rds nack:a_is_wrong -a => rds b=Y",
        "rds ack => cds -X",
    ]);
}

/// What was rejected, and is sent again because the client asks, can be wrong again; in its place stands what it took, and not
/// what came since and was not.
#[test]
fn what_goes_again_can_be_wrong_again() {
    let mut driver = Driver::new(Mode::Sotw, Limits::default());
    for line in [
        "write cds:a=1",
        "cds",
        "cds ack",
        "write cds:a=2",
        "cds nack:bad a *",
    ] {
        driver.run(line);
    }
    assert_eq!(driver.states(), "cds:a=Sent");
    driver.run("cds nack:bad a *");
    assert_eq!(driver.states(), "cds:a=Rejected(bad)");
    super::check(
        Mode::Sotw,
        &[
            "write lds:x=1 lds:y=1 =>",
            "lds => lds x=1 y=1",
            "lds ack =>",
            "write lds:x=2 lds:y=2 => lds x=2 y=2",
            "write lds:y=3 =>",
            "lds nack:x_is_bad => lds x=1 y=3",
            "lds nack:bad =>",
            "write lds:z=1 => lds x=1 y=1 z=1",
        ],
    );
}

/// By Envoy's words about one listener, another one that it rejected before is no better: nothing is removed under that.
#[test]
fn what_was_rejected_before_stays_rejected() {
    super::check(
        Mode::Sotw,
        &[
            "write cds:X=1 lds:a=X =>",
            "cds => cds X=1",
            "cds ack =>",
            "lds => lds a=X",
            "lds ack =>",
            "write cds:-X lds:a=Y => lds a=Y",
            "lds nack:Error_adding/updating_listener(s)_a:_bad =>",
            "write lds:b=1 => lds a=X b=1",
            "lds nack:Error_adding/updating_listener(s)_b:_bad =>",
            "write lds:a=Z => lds a=Z",
            "lds ack => cds",
        ],
    );
}

/// A full list has nothing in it that the client did not take, but for what it is about: else that could be at fault.
#[test]
fn a_list_holds_what_was_taken() {
    super::check(
        Mode::Sotw,
        &[
            "write cds:Z=1 lds:a=1 =>",
            "cds => cds Z=1",
            "cds ack =>",
            "lds => lds a=1",
            "lds ack =>",
            "write lds:b=1 lds:c=1 => lds a=1 b=1 c=1",
            "write cds:Z=2 lds:b=2 => cds Z=2",
            "lds nack:name:_\"c\" =>",
            "write lds:e=1 => lds a=1 e=1",
            "lds ack =>",
            "cds ack => lds a=1 b=2 e=1",
        ],
    );
    // Words about what is new may speak of others.
    let mut driver = Driver::new(Mode::Sotw, Limits::default());
    for line in [
        "write lds:web=1",
        "lds",
        "lds ack",
        "write lds:c=1",
        "lds nack:name:_\"c\"_routes:_\"web\"",
    ] {
        driver.run(line);
    }
    let states = driver.states();
    assert!(states.ends_with("lds:web=Acked"), "{states}");
}

/// What mends a rejection goes on counting as what it mends, also if it is tried again beside something else.
#[test]
fn what_is_tried_again_mends_what_it_mended() {
    let start = [
        "write cds:X=1 rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "lds => lds",
        "lds ack =>",
        "rds +q +r => rds r=X -q",
        "rds ack =>",
        "write cds:-X rds:r=Y => rds r=Y",
        "rds nack:r_is_bad =>",
        "write rds:q=1 rds:r=Z => rds q=1 r=Z",
    ];
    let with = |lines: &[&'static str]| check(&[&start, lines].concat());
    with(&[
        "rds nack:q_is_bad => rds r=Z",
        "write lds:l=1 => lds l=1",
        "rds ack => cds -X",
    ]);
    with(&[
        "rds nack:bad => rds q=1",
        "rds ack => rds r=Z",
        "write lds:l=1 => lds l=1",
        "rds nack:bad =>",
        "write rds:r=W => rds r=W",
        "rds ack => cds -X",
    ]);
    // That it is gone was not taken either.
    check(&[
        "write cds:X=1 rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds +q +r => rds r=X -q",
        "rds ack =>",
        "write rds:-r rds:q=1 => rds q=1 -r",
        "write rds:r=Y cds:-X =>",
        "rds nack:bad => rds q=1",
        "rds nack:bad => rds r=Y",
        "rds nack:bad =>",
        "write rds:r=Z => rds r=Z",
        "rds ack => cds -X",
    ]);
}

/// Envoy does not say which extension config it rejects, and takes a rejected one for known when it comes again: each comes
/// alone.
#[test]
fn extension_configs_come_one_by_one() {
    check(&[
        "write ecds:a=1 ecds:b=1 ecds:c=1 =>",
        "ecds +a +b +c => ecds a=1",
        "ecds nack:wrong => ecds b=1",
        "ecds ack => ecds c=1",
        "ecds ack =>",
        "write ecds:a=2 ecds:-b ecds:c=2 => ecds a=2",
        "ecds nack:wrong => ecds c=2",
        "ecds ack => ecds -b",
        "ecds ack =>",
    ]);
}

/// What is gone leaves no note, however often it was rejected.
#[test]
fn what_is_gone_is_forgotten() {
    for (mode, removed) in [(Mode::Delta, true), (Mode::Sotw, false)] {
        for kind in ["cds", "rds"] {
            let mut driver = Driver::new(mode, Limits::default());
            driver.run(kind);
            driver.run(&format!("{kind} ack"));
            for n in 0..100 {
                let sent = driver.run(&format!("write {kind}:n{n}=1"));
                assert_eq!(sent, [format!("{kind} n{n}=1")]);
                driver.run(&format!("{kind} nack:bad"));
                driver.run(&format!("write {kind}:-n{n}"));
                if removed || kind == "cds" {
                    driver.run(&format!("{kind} ack"));
                }
                let kept = (driver.stream.kept(), driver.stream.backlog());
                assert_eq!(kept, (0, 0), "{mode:?} {kind} {n}");
            }
        }
    }
}

/// "NACK signifies unsuccessful configuration and is indicated by the presence of the error_detail field": it is shown as
/// what it is, for the resources that it is about.
#[test]
fn states_and_errors() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    driver.run("write cds:pay=1 cds:pay.eu=1 cds:x=1");
    driver.run("cds +pay +pay.eu +x +none");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Sent cds:pay=Sent cds:x=Sent"
    );
    // The shorter name is part of the longer one and yet not meant.
    driver.run("cds nack:Error_adding/updating_cluster(s)_pay.eu:_bad");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Rejected(Error adding/updating cluster(s) pay.eu: bad) cds:pay=Sent cds:x=Sent"
    );
    driver.run("write cds:pay.eu=2 cds:x=2");
    // No name at all: all that were in it, until they were tried apart.
    driver.run("cds nack:bad");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Sent cds:pay=Sent cds:x=Rejected(bad)"
    );
    driver.run("cds nack:bad");
    driver.run("cds nack:bad");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Rejected(bad) cds:pay=Sent cds:x=Rejected(bad)"
    );
    driver.run("write cds:pay.eu=3");
    driver.run("cds ack");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Acked cds:pay=Sent cds:x=Rejected(bad)"
    );
    driver.run("cds -x -pay.eu -none -pay");
    assert_eq!(driver.states(), "");
}

/// "ACK/NACK immediately after it has been either accepted or rejected": a client that is sent it again says so again, and
/// that is no news.
#[test]
fn only_the_first_rejection_of_a_version_is_news() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    driver.run("write cds:bad=1");
    driver.run("cds +bad");
    for (line, news) in [
        ("cds nack:wrong", &[true][..]),
        // Again, of nothing that was ever sent, and of the same sent again.
        ("cds nack:wrong", &[false]),
        ("cds nack:wrong nonce:99", &[false]),
        ("cds +bad", &[]),
        ("cds nack:wrong", &[false]),
        ("write cds:bad=2", &[]),
        ("cds nack:wrong", &[true]),
    ] {
        driver.run(line);
        let actions = driver.actions.iter();
        let found = actions.filter_map(|action| match action {
            Action::Rejected { fresh, .. } => Some(*fresh),
            _ => None,
        });
        assert_eq!(found.collect::<Vec<_>>(), news, "{line}");
    }
}
