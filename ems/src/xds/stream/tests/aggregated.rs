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

/// The same while a client rejects: the others go on.
#[test]
fn rejection_holds_nobody_back() {
    check(&[
        "write cds:X=1 rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds +r => rds r=X",
        "rds ack =>",
        "write cds:Y=1 cds:-X rds:r=Y => cds Y=1",
        "cds nack:bad => rds r=Y",
        "rds nack:bad => cds -X",
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
