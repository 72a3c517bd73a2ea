//! What was to go by a response that the client rejected.

use super::*;

/// A client has listeners, of which one points at a cluster.
const START: [&str; 5] = [
    "write cds:X=1 lds:a=1 lds:d=X =>",
    "cds => cds X=1",
    "cds ack =>",
    "lds => lds a=1 d=X",
    "lds ack =>",
];

/// What goes by a response that was rejected is still with the client: it goes once more, alone, and what it may point at waits
/// until it was taken. If that is rejected as well, it waits until the client parts with it.
#[test]
fn what_is_gone_by_a_rejected_response_goes_again() {
    let with = |mode, lines: &[&'static str]| super::check(mode, &[&START, lines].concat());
    with(
        Mode::Delta,
        &[
            "write lds:c=1 lds:-d cds:-X => lds c=1 -d",
            "lds nack:bad => lds c=1",
            // Now it is known that this is at fault.
            "lds nack:bad => lds -d",
            "lds ack => cds -X",
        ],
    );
    with(
        Mode::Delta,
        &[
            "write lds:c=1 lds:-d cds:-X => lds c=1 -d",
            "lds nack:bad => lds c=1",
            "lds nack:bad => lds -d",
            "lds nack:bad =>",
            "write lds:e=1 => lds e=1",
            "lds ack =>",
            "write lds:d=2 => lds d=2",
            "write rds:x=1 =>",
            "lds ack => cds -X",
        ],
    );
    with(
        Mode::Sotw,
        &[
            "write lds:c=1 lds:-d cds:-X => lds a=1 c=1",
            "lds nack:bad => lds a=1",
            "lds ack => lds a=1 c=1",
            "lds nack:bad => cds",
        ],
    );
    with(
        Mode::Sotw,
        &[
            "write lds:c=1 lds:-d cds:-X => lds a=1 c=1",
            "lds nack:name:_\"c\":_constraint_failed => lds a=1",
            "lds nack:bad =>",
            "lost =>",
            // A list that is taken says it, too.
            "write lds:e=1 => lds a=1 e=1",
            "lds ack => cds",
        ],
    );
}

/// What a client does not part with is shown as rejected, and forgotten once it is gone.
#[test]
fn what_a_client_clings_to_is_shown() {
    for mode in [Mode::Delta, Mode::Sotw] {
        let mut driver = Driver::new(mode, Limits::default());
        for line in [
            "write lds:a=1",
            "lds",
            "lds ack",
            "write lds:-a",
            "lds nack:no",
        ] {
            driver.run(line);
        }
        assert_eq!(driver.states(), "lds:a=Rejected(no)");
        driver.run("write lds:a=2");
        assert_eq!(driver.states(), "lds:a=Sent");
        driver.run("lds ack");
        driver.run("write lds:-a");
        assert_eq!(driver.states(), "lds:a=Absent");
        driver.run("lds ack");
        assert_eq!((driver.states(), driver.stream.kept()), (String::new(), 0));
    }
}

/// Who has that something is gone told once more beside a question is told, and not without end.
#[test]
fn what_is_asked_for_while_it_is_to_go() {
    let with = |lines: &[&'static str]| {
        let gone = ["write lds:c=1 lds:-d cds:-X => lds a=1 c=1"];
        super::check(Mode::Sotw, &[&START[..], &gone, lines].concat());
    };
    with(&[
        "lds nack:name:_\"c\":_failed * d => lds a=1",
        "lds ack * d => cds",
    ]);
    with(&[
        "lds nack:bad * d => lds a=1",
        "lds nack:bad * d => lds a=1 c=1",
        // It asked.
        "lds nack:bad * d => lds a=1",
        "lds nack:bad * d =>",
    ]);
}

/// What came back meanwhile and is gone again goes in its order, like any other.
#[test]
fn what_comes_and_goes_again_keeps_its_order() {
    super::check(
        Mode::Delta,
        &[
            "write cds:X=1 =>",
            "cds => cds X=1",
            "cds ack =>",
            "write cds:-X cds:Y=1 => cds Y=1 -X",
            "write cds:X=2 rds:r=X =>",
            "cds nack:bad => cds Y=1",
            "rds +r => rds r=X",
            "rds ack =>",
            "write cds:-X rds:r=Y =>",
            "cds ack => rds r=Y",
            "rds ack => cds -X",
        ],
    );
    super::check(
        Mode::Sotw,
        &[
            "write cds:X=1 =>",
            "cds => cds X=1",
            "cds ack =>",
            "write cds:-X cds:Y=1 => cds Y=1",
            "write cds:X=2 =>",
            "cds nack:bad => cds",
            "cds nack:bad => cds Y=1",
            "cds nack:bad => cds X=2",
            "cds ack =>",
        ],
    );
}

/// Words about something else may name what is gone, too: that says nothing against it.
#[test]
fn what_is_gone_is_at_fault_only_alone() {
    let start = [
        "write rds:r=1 rds:web=1 =>",
        "rds +r +web => rds r=1 web=1",
        "rds ack =>",
        "write rds:r=2 rds:-web => rds r=2 -web",
    ];
    let with = |lines: &[&'static str]| super::check(Mode::Delta, &[&start, lines].concat());
    with(&["rds nack:r_routes_like_web => rds -web", "rds ack =>"]);
    with(&[
        "rds nack:web_is_needed => rds r=2",
        "rds ack => rds -web",
        "rds nack:web_is_needed =>",
    ]);
    // What came with something wrong is tried before the list without both.
    super::check(
        Mode::Sotw,
        &[
            "write lds:x=1 lds:y=1 lds:z=1 =>",
            "lds => lds x=1 y=1 z=1",
            "lds ack =>",
            "write lds:x=2 lds:y=2 lds:-z => lds x=2 y=2",
            "lds nack:x_is_bad => lds x=1 y=2",
            "lds nack:bad => lds x=1 y=1",
            "lds ack => lds x=1 y=2",
            "lds nack:bad =>",
        ],
    );
}

/// What a client clung to, it uses again once it took that by Envoy's words: it is told anew when it is gone.
#[test]
fn who_clung_to_something_and_uses_it_again_is_told() {
    super::check(
        Mode::Sotw,
        &[
            "write cds:X=1 lds:d=1 =>",
            "cds => cds X=1",
            "cds ack =>",
            "lds => lds d=1",
            "lds ack =>",
            "write lds:-d => lds",
            "lds nack:no =>",
            "write lds:d=2 lds:m=1 => lds d=2 m=1",
            "lds nack:Error_adding/updating_listener(s)_m:_bad =>",
            "write lds:-d lds:c=1 cds:-X => lds c=1",
            "lds nack:bad => lds",
            "lds ack => lds c=1",
            "lds nack:bad => cds",
        ],
    );
}

/// A client that parts with nothing has notes made of no more than the backlog, and the rest is forgotten.
#[test]
fn what_a_client_clings_to_is_bounded() {
    for mode in [Mode::Delta, Mode::Sotw] {
        let mut driver = Driver::new(mode, Limits::default());
        let names = 0..2_000;
        let all = |sign: &str, version: &str| {
            let words = names.clone().map(|n| format!(" lds:{sign}n{n}{version}"));
            format!("write{}", words.collect::<String>())
        };
        for line in [
            &all("", "=1"),
            "lds",
            "lds ack",
            &all("-", ""),
            "lds nack:no",
        ] {
            driver.run(line);
        }
        assert_eq!(driver.stream.status().count(), 1_024);
        driver.run("write lds:a=1");
        driver.run("lds ack");
        let left = driver.stream.status().count();
        // A full list that it takes says that there is nothing else.
        assert_eq!(left, if mode == Mode::Delta { 1_025 } else { 1 });
    }
}

/// With news without end, what is to go once more is not told beside it again and again.
#[test]
fn what_goes_again_goes_with_nothing_new() {
    super::check(
        Mode::Delta,
        &[
            "write lds:n=1 =>",
            "lds => lds n=1",
            "lds ack =>",
            "write lds:a=1 lds:-n => lds a=1 -n",
            "lds nack:bad => lds a=1",
            "write lds:b=1 lds:c=1 =>",
            "lds ack => lds -n",
            "lds nack:bad => lds b=1 c=1",
            "lds ack =>",
        ],
    );
}

/// Where there are no words for it that something is gone, the client goes on with it, also when it rejects what comes instead.
#[test]
fn what_nobody_can_say_is_gone_is_used_on() {
    super::check(
        Mode::Sotw,
        &[
            "write cds:X=1 rds:r=X =>",
            "cds => cds X=1",
            "cds ack =>",
            "rds r => rds r=X",
            "rds ack r =>",
            "write rds:-r =>",
            "write rds:r=Y => rds r=Y",
            "write cds:-X =>",
            "rds nack:bad r =>",
            "write rds:r=Z => rds r=Z",
            "rds ack r => cds",
        ],
    );
}
