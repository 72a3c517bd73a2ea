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

/// Envoy applies nothing of a response that it cannot read: what is good in it goes again, without what is at fault.
#[test]
fn suspects_are_tried_apart() {
    let four = [
        "write cds:a=1 cds:b=1 cds:c=1 cds:d=1 =>",
        "cds +a +b +c +d => cds a=1 b=1 c=1 d=1",
    ];
    let with = |lines: &[&'static str]| check(&[&four, lines].concat());
    with(&[
        "cds nack:wrong => cds a=1 b=1",
        "cds nack:wrong => cds a=1",
        "cds ack => cds b=1",
        "cds nack:wrong => cds c=1 d=1",
        "cds ack =>",
        "lost =>",
        "write cds:b=2 => cds b=2",
    ]);
    // What is at fault is named after all: the others of the half stay as they were sent.
    with(&[
        "cds nack:wrong => cds a=1 b=1",
        "cds nack:Error_adding/updating_cluster(s)_a:_wrong => cds c=1 d=1",
        "cds ack =>",
    ]);
    // What changes meanwhile, is wanted no more, or is asked for goes its own way.
    with(&[
        "cds nack:wrong => cds a=1 b=1",
        "write cds:c=2 cds:e=1 =>",
        "cds ack => cds d=1",
        "cds ack => cds c=2",
        "cds ack =>",
    ]);
    with(&[
        "cds nack:wrong -a -c => cds b=1",
        "cds ack => cds d=1",
        "cds ack =>",
    ]);
    with(&[
        "cds nack:wrong +a => cds b=1",
        "cds ack => cds a=1",
        "cds ack => cds c=1 d=1",
        "cds ack =>",
    ]);
    // Whoever asks for something does not wait for all of that: it goes in turns.
    with(&[
        "write cds:e=1 cds:f=1 =>",
        "cds nack:wrong +e => cds a=1 b=1",
        "cds nack:wrong +f => cds e=1 f=1",
        "cds nack:wrong => cds e=1",
        "cds ack +x +f => cds f=1 -x",
        "cds ack => cds a=1",
        "cds ack => cds b=1",
        "cds ack => cds c=1 d=1",
        "cds ack =>",
    ]);
    // What is asked for is tried by the answer.
    with(&[
        "cds nack:wrong => cds a=1 b=1",
        "cds nack:wrong +c +a => cds a=1 c=1",
        "cds nack:Error_adding/updating_cluster(s)_a:_wrong => cds b=1",
        "cds ack => cds d=1",
        "cds ack =>",
    ]);
    // It may be that something is gone which is wrong: what is new goes alone.
    check(&[
        "write cds:a=1 cds:x=1 cds:y=1 =>",
        "cds +* => cds a=1 x=1 y=1",
        "cds ack =>",
        "write cds:a=2 cds:-x cds:-y => cds a=2 -x -y",
        "cds nack:wrong => cds a=2",
        "cds nack:wrong => cds -x -y",
        "cds nack:wrong =>",
        "write cds:b=1 cds:c=1 cds:-a => cds b=1 c=1 -a",
        "cds nack:wrong => cds b=1",
        "cds ack => cds c=1",
        "cds ack => cds -a",
        "cds ack =>",
    ]);
    super::check(
        Mode::Sotw,
        &[
            "write rds:a=1 rds:b=1 =>",
            "rds a b => rds a=1 b=1",
            "rds nack:wrong a b => rds a=1",
            "rds ack a b => rds b=1",
            "rds nack:wrong a b =>",
        ],
    );
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

/// A suspect that is asked for again is answered, and awaited like one that is tried.
#[test]
fn what_is_asked_for_instead_of_tried_is_awaited() {
    check(&[
        "write cds:X=1 rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds +q +r => rds r=X -q",
        "rds ack =>",
        "write cds:-X rds:r=Y rds:q=1 => rds q=1 r=Y",
        "rds nack:q_is_bad +r => rds r=Y",
        "rds ack => cds -X",
    ]);
}

/// Where a client names what is wrong of so much that it is not tried to the end, the rest counts as rejected.
#[test]
fn what_is_not_tried_is_rejected() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    let names: Vec<_> = (0..100).map(|n| format!("n{n:02}")).collect();
    let write: Vec<_> = names.iter().map(|name| format!("rds:{name}=1")).collect();
    driver.run(&format!("write {}", write.join(" ")));
    driver.run("rds +*");
    let mut named = 0;
    while !driver
        .run(&format!("rds nack:{}_is_wrong", names[named]))
        .is_empty()
    {
        named += 1;
    }
    assert_eq!(named, 64);
    let states = driver.states();
    assert_eq!(
        states.matches("=Rejected(").count(),
        names.len(),
        "{states}"
    );
    assert_eq!(states.matches("too many to try").count(), names.len() - 65);
}

/// A client that takes nothing is not sent everything one by one.
#[test]
fn trials_are_bounded() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    let names: Vec<_> = (0..1_000).map(|n| format!("cds:n{n}=1")).collect();
    driver.run(&format!("write {}", names.join(" ")));
    driver.run("cds +*");
    let mut responses = 0;
    while !driver.run("cds nack:wrong").is_empty() {
        responses += 1;
    }
    assert_eq!(responses, 64);
    assert_eq!(driver.run("write cds:n7=2"), ["cds n7=2"]);
    assert!(driver.run("cds nack:wrong").is_empty(), "it was alone");
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

/// What waits of several groups, because it changed, goes sorted and once when it changes back.
#[test]
fn suspects_that_wait_go_together_and_once() {
    check(&[
        "write cds:x=1 rds:a=1 rds:b=1 rds:c=1 rds:d=1 =>",
        "cds +x => cds x=1",
        "cds ack =>",
        "rds +a +b +c +d => rds a=1 b=1 c=1 d=1",
        "rds nack:wrong => rds a=1 b=1",
        "write rds:a=2 =>",
        "rds nack:wrong => rds b=1",
        "write cds:x=2 rds:a=3 rds:c=2 rds:d=2 => cds x=2",
        "rds ack =>",
        "write rds:a=1 rds:c=1 rds:d=1 => rds a=1 c=1 d=1",
        "rds nack:wrong => rds a=1",
        "rds ack => rds c=1 d=1",
        "rds ack =>",
        "lost =>",
    ]);
}

/// What a suspect came with is awaited also while it goes by the answer to a question.
#[test]
fn what_is_asked_for_keeps_its_order() {
    check(&[
        "write cds:X=1 rds:r=X rds:q=0 rds:s=0 =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds +q +r +s => rds q=0 r=X s=0",
        "rds ack =>",
        "write rds:z=1 =>",
        "write cds:-X rds:r=Y rds:q=1 rds:s=1 => rds q=1 r=Y s=1",
        "rds nack:wrong => rds q=1",
        "rds ack => rds r=Y s=1",
        "rds nack:s_is_bad +r +z -s => rds r=Y z=1",
        "rds nack:wrong => rds r=Y",
        "write cds:W=1 => cds W=1",
        "rds nack:wrong => rds z=1",
        "cds ack =>",
        "rds ack =>",
        "write rds:r=Z => rds r=Z",
        "rds ack => cds -X",
    ]);
}

/// Nor does another type come before what is yet to be tried, while a question is answered.
#[test]
fn a_question_lets_nothing_pass() {
    check(&[
        "write cds:a=1 cds:b=1 lds:l=1 =>",
        "cds +a +b => cds a=1 b=1",
        "cds ack =>",
        "lds +l => lds l=1",
        "lds ack =>",
        "write cds:a=2 cds:b=2 lds:l=2 => cds a=2 b=2",
        "cds nack:wrong => cds a=2",
        "cds +x =>",
        "cds ack => cds -x",
        "cds ack => cds b=2",
        "cds ack => lds l=2",
    ]);
}

/// What waits, because it is gone and that is held, holds up nothing that came later.
#[test]
fn what_waits_holds_nothing_up() {
    check(&[
        "write lds:l=1 cds:a=1 cds:b=1 =>",
        "cds +a +b +g => cds a=1 b=1 -g",
        "cds ack =>",
        "lds +l => lds l=1",
        "lds ack =>",
        "write lds:l=2 => lds l=2",
        "lds nack:bad =>",
        "write cds:a=2 cds:b=2 => cds a=2 b=2",
        "write cds:-a =>",
        "cds nack:wrong => cds b=2",
        "cds ack =>",
        "write cds:g=1 lds:l=3 => cds g=1",
        "write cds:g=2 =>",
        "cds ack => cds g=2; lds l=3",
        "lds ack =>",
        "cds ack => cds -a",
    ]);
}

/// What waits, because it is gone and that is held, takes nothing from what is tried later.
#[test]
fn what_waits_costs_no_trials() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    for line in [
        "write lds:l=1 cds:a=1 cds:b=1",
        "cds +a +b +g +h",
        "cds ack",
        "lds +l",
        "lds ack",
        "write lds:l=2",
        "lds nack:bad",
        "write cds:a=2 cds:b=2",
        "write cds:-a",
        "cds nack:wrong",
        "cds ack",
    ] {
        driver.run(line);
    }
    for n in 0..100 {
        driver.run(&format!("write cds:g={n} cds:h={n}"));
        assert_eq!(driver.run("cds nack:wrong"), [format!("cds g={n}")]);
        assert_eq!(driver.run("cds ack"), [format!("cds h={n}")]);
        assert_eq!(driver.run("cds ack"), [""; 0]);
    }
}

/// Nor does a client that asks while it rejects bring about responses without end.
#[test]
fn who_asks_meanwhile_is_not_tried_without_end() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    let names: Vec<_> = (0..500).map(|n| format!("cds:n{n}=1")).collect();
    driver.run(&format!("write {}", names.join(" ")));
    driver.run("cds +*");
    let ask = |n: usize| format!("cds nack:wrong +n{} +n{}", n % 500, (n + 1) % 500);
    for n in 0..200 {
        driver.run(&ask(n));
    }
    // The first 500 are given up: what is left to be tried came since, with the questions.
    let kept = driver.stream.kept();
    assert!(kept < 1_150, "{kept}");
    let mut rest = 0;
    while !driver.run("cds nack:wrong").is_empty() {
        rest += 1;
        assert!(rest < 70, "{}", driver.stream.kept());
    }
}
