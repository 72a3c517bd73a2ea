//! How it is found out what a rejection is about, in the delta variant.

use super::*;

fn check(script: &[&str]) {
    super::check(Mode::Delta, script);
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
