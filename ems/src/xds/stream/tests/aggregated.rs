//! Several types on one stream.

use super::*;

fn check(script: &[&str]) {
    super::check(Mode::Delta, script);
}

/// "CDS updates (if any) must always be pushed first. EDS updates (if any) must arrive after CDS updates for the
/// respective clusters. LDS updates must arrive after corresponding CDS/EDS updates. RDS updates related to the
/// newly added listeners must arrive after CDS/EDS/LDS updates."
#[test]
fn make_before_break() {
    check(&[
        "cds => cds",
        "cds ack =>",
        "eds +x => eds -x",
        "eds ack =>",
        "lds => lds",
        "lds ack =>",
        "rds +r => rds -r",
        "rds ack =>",
        "write rds:r=1 lds:l=1 eds:x=1 cds:x=1 => cds x=1; eds x=1",
        "eds ack =>",
        "cds ack => lds l=1",
        "lds ack => rds r=1",
        "rds ack =>",
        // "Stale CDS clusters and related EDS endpoints (ones no longer being referenced) can then be removed."
        "write rds:-r lds:-l eds:-x cds:-x => lds -l",
        "lds ack => rds -r",
        "rds ack => eds -x",
        "eds ack => cds -x",
    ]);
}

/// The page's example: X is replaced by Y, "then the RDS update repointing from X to Y and then a CDS/EDS update
/// dropping X".
#[test]
fn replacement() {
    check(&[
        "write cds:X=1 rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds +r => rds r=X",
        "rds ack =>",
        "write cds:Y=1 cds:-X rds:r=Y => cds Y=1",
        "cds ack => rds r=Y",
        "rds ack => cds -X",
    ]);
}

/// A route stays until no listener can point at it any more, also while the listener itself has to wait.
#[test]
fn replacement_of_a_route() {
    let start = [
        "write cds:c=1 lds:l=R1 rds:R1=1 =>",
        "cds => cds c=1",
        "cds ack =>",
        "lds => lds l=R1",
        "lds ack =>",
        "rds +* => rds R1=1",
        "rds ack =>",
    ];
    let with = |lines: &[&'static str]| check(&[&start, lines].concat());
    with(&[
        "write lds:l=R2 rds:-R1 rds:R2=1 => lds l=R2",
        "lds ack => rds R2=1 -R1",
        "rds ack =>",
    ]);
    with(&[
        "write cds:c=2 lds:l=R2 rds:-R1 rds:R2=1 => cds c=2",
        "cds ack => lds l=R2",
        "lds ack => rds R2=1 -R1",
    ]);
    // A listener that is on its way already may be followed by one that does not point there.
    with(&[
        "write lds:l=R3 => lds l=R3",
        "write lds:l=R2 rds:-R1 =>",
        "lds ack => lds l=R2",
        "lds ack => rds -R1",
    ]);
    // Nothing to wait for.
    with(&["write rds:-R1 => rds -R1"]);
}

/// The same while a client rejects: what is new goes on, and what is gone waits until nothing points at it any more.
#[test]
fn rejection_holds_back_only_what_is_gone() {
    let start = [
        "write cds:X=1 rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds +r => rds r=X",
        "rds ack =>",
        "write cds:Y=1 cds:-X rds:r=Y => cds Y=1",
        "cds nack:bad => rds r=Y",
        "rds nack:bad =>",
        "write rds:q=1 cds:Z=1 => cds Z=1",
        "cds ack =>",
    ];
    let with = |lines: &[&'static str]| check(&[&start, lines].concat());
    // It takes another version, gives the route up, or hears that it is gone.
    with(&["write rds:r=Z => rds r=Z", "rds ack => cds -X"]);
    with(&["rds -r => cds -X"]);
    with(&["write rds:-r => rds -r", "rds ack => cds -X"]);
    // What nobody ever took points at nothing.
    with(&[
        "rds +q => rds q=1",
        "rds nack:bad -r => cds -X",
        "cds ack =>",
        "write cds:-Z => cds -Z",
    ]);
}

/// Whoever takes nothing of one type does not collect what is gone of the others without end.
#[test]
fn what_is_withheld_is_bounded() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    let names: Vec<String> = (0..=WITHHELD).map(|n| format!("c{n:04}")).collect();
    let write = |form: fn(&String) -> String| {
        let words: Vec<_> = names.iter().map(form).collect();
        format!("write {}", words.join(" "))
    };
    driver.run(&write(|name| format!("cds:{name}=1")));
    driver.run("write rds:r=1");
    for line in ["cds", "cds ack", "rds +r", "rds ack", "write rds:r=2"] {
        driver.run(line);
    }
    driver.run("rds nack:bad");
    let removal = |name: &str| format!("write cds:-{name}");
    for name in &names[..WITHHELD] {
        assert!(driver.run(&removal(name)).is_empty());
    }
    assert_eq!(driver.stream.backlog(), WITHHELD);
    let all = driver.run(&removal(&names[WITHHELD])).join("");
    assert_eq!(all.matches('-').count(), names.len());
    assert_eq!(driver.stream.backlog(), 0);
}

/// Also where what waits for the rejected route is itself waited for.
#[test]
fn what_is_withheld_of_several_types_is_bounded() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    let all: Vec<_> = (0..=WITHHELD).map(|n| format!("cds:c{n:04}=1")).collect();
    driver.run(&format!("write eds:X=1 rds:r=1 {}", all.join(" ")));
    for line in ["cds", "cds ack", "eds +X", "eds ack", "rds +r", "rds ack"] {
        driver.run(line);
    }
    driver.run("write rds:r=2");
    driver.run("rds nack:bad");
    assert!(driver.run("write eds:-X").is_empty());
    for n in 0..WITHHELD - 1 {
        assert!(driver.run(&format!("write cds:-c{n:04}")).is_empty());
    }
    assert_eq!(driver.stream.backlog(), WITHHELD);
    let last = driver.run(&format!("write cds:-c{WITHHELD:04}"));
    assert_eq!(last, ["eds -X"]);
    assert!(driver.run("eds ack").is_empty(), "there is room again");
    let last = driver.run(&format!("write cds:-c{:04}", WITHHELD - 1));
    assert_eq!(last.join("").matches('-').count(), WITHHELD + 1);
    assert_eq!(driver.stream.backlog(), 0);
}

/// What goes on changing holds up nobody for ever: listeners go once the clusters of their time were taken, and clusters
/// once the endpoints of theirs are gone, whatever has come since.
#[test]
fn what_goes_on_changing_does_not_hold_up_others() {
    let start = [
        "write cds:a=1 =>",
        "cds => cds a=1",
        "cds ack =>",
        "lds => lds",
        "lds ack =>",
    ];
    let with = |lines: &[&'static str]| check(&[&start, lines].concat());
    with(&[
        "write cds:a=2 lds:l=2 => cds a=2",
        "write cds:a=3 =>",
        "cds ack => cds a=3; lds l=2",
        "lds ack =>",
        "write cds:a=4 lds:l=4 =>",
        "write cds:a=5 =>",
        // Changed together with what is in flight now.
        "cds ack => cds a=5",
        "write cds:a=6 =>",
        "cds ack => cds a=6; lds l=4",
    ]);
    check(&[
        "write cds:x=1 eds:a=1 =>",
        "cds => cds x=1",
        "cds ack =>",
        "eds +a => eds a=1",
        "eds ack =>",
        "write eds:a=2 => eds a=2",
        "write cds:-x =>",
        "write eds:a=3 =>",
        "eds ack => cds -x; eds a=3",
    ]);
    // Also where each is rejected.
    with(&[
        "write cds:a=2 => cds a=2",
        "write cds:a=3 =>",
        "cds nack:a_is_bad => cds a=3",
        "write cds:a=4 lds:l=4 =>",
        "write cds:a=5 =>",
        "cds nack:a_is_bad => cds a=5",
        "write cds:a=6 =>",
        "cds nack:a_is_bad => cds a=6; lds l=4",
    ]);
}

/// What is gone and back again is not gone.
#[test]
fn what_waits_to_be_removed_may_come_back() {
    let start = [
        "write cds:X=1 rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds +r => rds r=X",
        "rds ack =>",
        "write cds:-X rds:r=Y => rds r=Y",
    ];
    let with = |lines: &[&'static str]| check(&[&start, lines].concat());
    with(&["write cds:X=2 => cds X=2", "cds ack =>", "rds ack =>"]);
    with(&["write cds:X=1 =>", "rds ack =>"]);
    with(&[
        "write cds:X=2 rds:r=X2 => cds X=2",
        "rds ack =>",
        "cds ack => rds r=X2",
    ]);
}

/// Routes that came with clusters wait until these were tried one by one.
#[test]
fn what_came_with_it_waits_for_trials() {
    check(&[
        "write cds:a=1 =>",
        "cds => cds a=1",
        "cds ack =>",
        "rds +r => rds -r",
        "rds ack =>",
        "write cds:b=1 cds:c=1 rds:r=1 => cds b=1 c=1",
        "cds nack:bad => cds b=1",
        "cds ack => cds c=1",
        "cds nack:bad => rds r=1",
    ]);
}

/// A client that comes back is told in the same order of what it missed.
#[test]
fn what_was_missed_keeps_its_order() {
    check(&[
        "write cds:a=2 rds:r=2 rds:q=2 =>",
        "cds +* a=1 => cds a=2",
        "rds +r +q r=1 q=2 =>",
        "write cds:a=3 =>",
        "cds ack => cds a=3; rds r=2",
    ]);
    // What is only gone is not waited for.
    check(&[
        "write rds:r=2 =>",
        "cds +* a=1 => cds -a",
        "rds +r r=1 => rds r=2",
    ]);
    // Envoy says of all types at once what it has: nothing is removed while its routes may point there.
    check(&[
        "write cds:Y=1 rds:r=Y =>",
        "cds +* X=1 & rds +r r=X => cds Y=1",
        "cds ack => rds r=Y",
        "rds ack => cds -X",
    ]);
    // What is sent for one reason may be what the stream is about to hear of for another.
    check(&[
        "write cds:X=1 rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds +r => rds r=X",
        "rds ack =>",
        "write cds:Z=1 => cds Z=1",
        "cds ack & write cds:Y=1 cds:-X rds:r=Y => cds Y=1",
        "cds ack => rds r=Y",
        "rds ack => cds -X",
    ]);
}

/// What changes after something was asked for, and may point at it, comes after it.
#[test]
fn what_was_asked_for_comes_first() {
    check(&[
        "write cds:a=1 cds:c=1 rds:r=1 =>",
        "cds +a => cds a=1",
        "rds +r => rds r=1",
        "rds ack =>",
        "cds +c =>",
        "write rds:r=c =>",
        "cds ack => cds c=1; rds r=c",
    ]);
}

/// One write that concerns several resources of a type is one response.
#[test]
fn one_write_one_response() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +a +b +c => cds a=1 b=1 -c",
        "cds ack =>",
        "write cds:a=2 cds:-b cds:c=1 => cds a=2 c=1 -b",
    ]);
}

/// What did not change together does not wait for each other; what waits keeps its order.
#[test]
fn silent_type_holds_back_only_its_own_wave() {
    check(&[
        "write cds:a=1 =>",
        "cds => cds a=1",
        "lds => lds",
        "lds ack =>",
        "write lds:l=1 => lds l=1",
        "lds ack =>",
        "cds ack =>",
        "write cds:a=2 => cds a=2",
        "write lds:l=2 => lds l=2",
        "lds ack =>",
        "write cds:a=3 lds:l=3 =>",
        "cds ack => cds a=3",
        "cds ack => lds l=3",
    ]);
}

/// Answers wait for nothing but their own type.
#[test]
fn answers_are_not_held_back() {
    check(&[
        "write cds:a=1 rds:r=1 sds:s=1 =>",
        "cds +a => cds a=1",
        "rds +r => rds r=1",
        "sds +s => sds s=1",
        "rds ack +q => rds -q",
    ]);
}

/// "Warming of Cluster is completed only when a new ClusterLoadAssignment response is supplied by management server
/// even though there is no change in endpoints."
#[test]
fn endpoints_follow_their_cluster() {
    for mode in [Mode::Delta, Mode::Sotw] {
        let mut driver = Driver::new(mode, Limits::default());
        driver.run("write cds:a=1 cds:b=1 eds:a=1 eds:b=1");
        driver.run("cds");
        driver.run("cds ack");
        driver.run(if mode == Mode::Delta {
            "eds +a +b"
        } else {
            "eds a b"
        });
        let ack = if mode == Mode::Delta {
            "eds ack"
        } else {
            "eds ack a b"
        };
        driver.run(ack);
        let sent = driver.run("write cds:a=2");
        assert_eq!(
            sent.last().map(|s| &**s),
            Some("eds a=1"),
            "{mode:?} {sent:?}"
        );
        assert!(driver.run(ack).is_empty());
        assert!(driver.run("cds ack").is_empty());
        // And only then.
        assert!(driver.run("write cds:a=2").is_empty());
    }
    // Not when the same cluster is wanted by its name from now on.
    check(&[
        "write cds:a=1 eds:a=1 =>",
        "cds +* => cds a=1",
        "cds ack =>",
        "eds +a => eds a=1",
        "eds ack =>",
        "cds +a -* => cds a=1",
    ]);
}

/// The same for a client that comes back, and has endpoints that did not change.
#[test]
fn endpoints_follow_a_cluster_that_changed_while_the_client_was_away() {
    check(&[
        "write cds:a=2 cds:b=1 eds:a=1 eds:b=1 =>",
        "cds +* a=1 b=1 => cds a=2",
        "eds +a +b a=1 b=1 => eds a=1",
        "eds ack =>",
        "cds ack =>",
        // And only then.
        "write eds:b=2 => eds b=2",
        "eds ack +a => eds a=1",
    ]);
    // The cluster was taken before: it is warm, or waits for its time-out already.
    check(&[
        "write cds:a=2 eds:a=1 =>",
        "cds +* a=1 => cds a=2",
        "cds ack =>",
        "eds +a a=1 =>",
    ]);
}

/// Endpoints that the client rejected do not follow: the same version would only be rejected again.
#[test]
fn rejected_endpoints_do_not_follow_their_cluster() {
    check(&[
        "write cds:a=1 eds:a=1 =>",
        "cds => cds a=1",
        "cds ack =>",
        "eds +a => eds a=1",
        "eds nack:bad =>",
        "write cds:a=2 => cds a=2",
        "cds ack =>",
        "write cds:a=3 eds:a=2 => cds a=3; eds a=2",
        "cds ack =>",
        // Rejected only after the cluster changed.
        "write cds:a=4 => cds a=4",
        "eds nack:bad =>",
        "cds ack =>",
        "write eds:a=3 => eds a=3",
        "eds ack =>",
        "write cds:a=5 => cds a=5; eds a=3",
    ]);
}

/// Envoy does not acknowledge a cluster before it is warm, and that takes its endpoints: nothing that waits for the
/// cluster may be what the endpoints wait for.
#[test]
fn endpoints_do_not_wait_for_their_cluster() {
    check(&[
        "write cds:a=1 cds:b=1 eds:a=1 eds:b=1 =>",
        "cds +a +b => cds a=1 b=1",
        "eds +a +b => eds a=1 b=1",
        "eds ack =>",
        "cds ack =>",
        "write cds:a=2 eds:a=2 => cds a=2; eds a=2",
        "write cds:b=2 eds:b=2 =>",
        "eds ack => eds b=2",
        "eds ack =>",
        "cds ack => cds b=2; eds b=2",
        // Endpoints were on their way when the cluster changed.
        "cds ack =>",
        "write cds:a=3 => cds a=3",
        "write cds:b=3 =>",
        "eds ack => eds a=2",
        "eds ack =>",
        "cds ack => cds b=3; eds b=2",
    ]);
}

/// "For any given type URL, the above sequencing of DiscoveryRequest and DiscoveryResponse messages applies": nonces,
/// verdicts and the first message of each type are its own.
#[test]
fn types_do_not_mix() {
    for mode in [Mode::Delta, Mode::Sotw] {
        let mut driver = Driver::new(mode, Limits::default());
        driver.run("write cds:a=1 lds:a=1");
        driver.run("cds");
        driver.run("lds");
        // The nonce of the clusters says nothing about listeners.
        driver.run("lds nonce:1");
        assert_eq!(driver.states(), "cds:a=Sent lds:a=Sent");
        driver.run("lds ack");
        assert_eq!(driver.states(), "cds:a=Sent lds:a=Acked");
        driver.run("cds nack:bad");
        assert_eq!(driver.states(), "cds:a=Rejected(bad) lds:a=Acked");
        assert_eq!(driver.run("write cds:a=2"), ["cds a=2"]);
    }
}

/// All types that are served, in one write.
#[test]
fn the_order_of_all_types() {
    check(&[
        "sds +s => sds -s",
        "sds ack =>",
        "cds => cds",
        "cds ack =>",
        "eds +e => eds -e",
        "eds ack =>",
        "ecds +f => ecds -f",
        "ecds ack =>",
        "lds => lds",
        "lds ack =>",
        "rds +r => rds -r",
        "rds ack =>",
        "write rds:r=1 lds:l=1 ecds:f=1 eds:e=1 cds:e=1 sds:s=1 => sds s=1; eds e=1",
        "eds ack =>",
        "sds ack => cds e=1; eds e=1",
        "eds ack =>",
        "cds ack => ecds f=1",
        "ecds ack => lds l=1",
        "lds ack => rds r=1",
        "rds ack =>",
        "write rds:-r lds:-l ecds:-f eds:-e cds:-e sds:-s => lds -l",
        "lds ack => rds -r",
        "rds ack => ecds -f",
        "ecds ack => eds -e",
        "eds ack => cds -e",
        "cds ack => sds -s",
    ]);
}
