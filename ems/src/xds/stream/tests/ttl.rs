//! Resources with a TTL.

use super::*;

/// "To allow for lightweight TTL updates ("heartbeats"), a response can be sent that provides a Resource with the
/// resource unset and version matching the most recently sent version".
#[test]
fn heartbeats() {
    check(
        Mode::Delta,
        &[
            "write cds:a=1/9 cds:b=1 =>",
            "cds => cds a=1+9s b=1",
            "cds ack =>",
            "wait 2 =>",
            "wait 1 => cds ~a=1+9s",
            "cds ack =>",
            "wait 3 => cds ~a=1+9s",
            "cds ack =>",
            // A change brings the TTL along.
            "write cds:a=2/9 => cds a=2+9s",
            "cds ack =>",
            "wait 2 =>",
            "wait 1 => cds ~a=2+9s",
        ],
    );
}

/// "To update the TTL associated with a *Resource*, the management server resends the resource with a new TTL. To remove
/// the TTL, the management server resends the resource with the TTL field unset."
#[test]
fn ttl_comes_and_goes() {
    check(
        Mode::Delta,
        &[
            "write cds:a=1 =>",
            "cds +a => cds a=1",
            "cds ack =>",
            "write cds:a=1/9 => cds a=1+9s",
            "cds ack =>",
            "write cds:a=1/30 => cds a=1+30s",
            "cds ack =>",
            "wait 9 =>",
            "wait 1 => cds ~a=1+30s",
            "cds ack =>",
            "write cds:a=1 => cds a=1",
            "cds ack =>",
            "wait 99 =>",
        ],
    );
}

/// "Heartbeats are supported for SotW as well", by the page and not by Envoy: there the resource itself is sent again.
#[test]
fn state_of_the_world_sends_it_whole() {
    check(
        Mode::Sotw,
        &[
            "write rds:a=1/9 rds:b=1 =>",
            "rds a b => rds a=1+9s b=1",
            "rds ack a b =>",
            "wait 3 => rds a=1+9s",
            "rds ack a b =>",
        ],
    );
    check(
        Mode::Sotw,
        &[
            "write cds:a=1/9 cds:b=1 =>",
            "cds => cds a=1+9s b=1",
            "cds ack =>",
            "wait 3 => cds a=1+9s b=1",
            "cds ack =>",
        ],
    );
    // Envoy does not survive the end of such endpoints.
    check(
        Mode::Sotw,
        &[
            "write eds:a=1/9 =>",
            "eds a => eds a=1+9s",
            "eds ack a =>",
            "wait 99 =>",
        ],
    );
}

/// One response in flight: a heartbeat waits too, and if that took longer than the TTL, the client has nothing left that
/// could be kept alive.
#[test]
fn a_heartbeat_waits_for_the_answer() {
    check(
        Mode::Delta,
        &[
            "write cds:a=1/9 cds:b=1 =>",
            "cds => cds a=1+9s b=1",
            "cds ack =>",
            "write cds:b=2 => cds b=2",
            "wait 6 =>",
            "cds ack =>",
            "wait 0 => cds ~a=1+9s",
            "wait 20 =>",
            "cds ack =>",
            "wait 0 => cds a=1+9s",
            "cds ack =>",
        ],
    );
}

/// What the client rejected it does not have.
#[test]
fn no_heartbeat_of_what_was_rejected() {
    check(
        Mode::Delta,
        &[
            "write cds:a=1/9 =>",
            "cds => cds a=1+9s",
            "cds nack:bad =>",
            "wait 99 =>",
            "write cds:a=2/9 => cds a=2+9s",
            "cds ack =>",
            "wait 3 => cds ~a=2+9s",
        ],
    );
}

/// What it had before it rejected something newer it still has, however often that happens, and that is what is refreshed.
#[test]
fn a_rejection_does_not_end_what_was_taken() {
    check(
        Mode::Delta,
        &[
            "write cds:a=1/9 cds:b=1/9 =>",
            "cds => cds a=1+9s b=1+9s",
            "cds ack =>",
            "wait 2 =>",
            "write cds:a=2/9 => cds a=2+9s",
            "cds nack:bad =>",
            // Since the version before was sent, and not since the rejected one was.
            "wait 1 => cds ~a=1+9s ~b=1+9s",
            "cds ack =>",
            "write cds:a=3 => cds a=3",
            "cds nack:bad =>",
            "wait 3 => cds ~a=1+9s ~b=1+9s",
            "cds ack =>",
            // Too late for a heartbeat: what it took, and not what it rejected.
            "write cds:b=2/9 => cds b=2+9s",
            "wait 20 =>",
            "cds ack =>",
            "wait 0 => cds a=1+9s b=2+9s",
            "cds ack =>",
            "wait 3 => cds ~a=1+9s ~b=2+9s",
            "cds ack =>",
            "write cds:a=4 => cds a=4",
            "cds ack =>",
            "wait 3 => cds ~b=2+9s",
        ],
    );
    // Where a response has to name all, the version before stands for the rejected one, so that it can be taken.
    check(
        Mode::Sotw,
        &[
            "write cds:a=1 cds:b=1/9 =>",
            "cds => cds a=1 b=1+9s",
            "cds ack =>",
            "write cds:a=2/9 => cds a=2+9s b=1+9s",
            "cds nack:bad =>",
            "wait 3 => cds a=1 b=1+9s",
            "cds ack =>",
            "write cds:c=1 => cds a=1 b=1+9s c=1",
            "cds ack =>",
            "write cds:a=3/9 => cds a=3+9s b=1+9s c=1",
            "cds ack =>",
            "wait 3 => cds a=3+9s b=1+9s c=1",
        ],
    );
    check(
        Mode::Sotw,
        &[
            "write rds:a=1/9 =>",
            "rds a => rds a=1+9s",
            "rds ack a =>",
            "write rds:a=2 => rds a=2",
            "rds nack:bad a =>",
            "wait 3 => rds a=1+9s",
            "rds ack a =>",
            "wait 3 => rds a=1+9s",
        ],
    );
}

/// What came beside something that was rejected, and was not named, may be applied; its TTL is that of what was taken.
#[test]
fn what_came_beside_a_rejected_one_keeps_its_ttl() {
    check(
        Mode::Delta,
        &[
            "write cds:a=1/9 cds:b=1/9 =>",
            "cds => cds a=1+9s b=1+9s",
            "cds ack =>",
            "write cds:a=2/9 cds:b=2/9 => cds a=2+9s b=2+9s",
            "cds nack:Error_adding/updating_cluster(s)_a:_bad =>",
            "wait 3 => cds ~a=1+9s ~b=1+9s",
            "cds ack =>",
            // Nor is what is refreshed by it.
            "write eds:x=1 =>",
            "write cds:c=1 => cds c=1",
            "wait 3 =>",
            "cds nack:c =>",
            "wait 0 => cds ~a=1+9s ~b=1+9s",
        ],
    );
}

/// Neither of what it does not want any more, or what is gone.
#[test]
fn no_heartbeat_of_what_is_gone() {
    check(
        Mode::Delta,
        &[
            "write cds:a=1/9 cds:b=1/9 cds:c=1/9 =>",
            "cds +a +b +c => cds a=1+9s b=1+9s c=1+9s",
            "cds ack -a =>",
            "write cds:-b => cds -b",
            "cds ack =>",
            "wait 3 => cds ~c=1+9s",
            "cds ack -c +* => cds a=1+9s c=1+9s",
            "cds ack -* =>",
            "wait 99 =>",
        ],
    );
}

/// A client that comes back has a TTL that runs since nobody knows when.
#[test]
fn a_returning_client_is_told_at_once() {
    check(
        Mode::Delta,
        &[
            "write cds:a=1/9 cds:b=2/9 cds:c=1/9 =>",
            "cds +a +b a=1+9s b=1+9s c=1+9s => cds ~a=1+9s b=2+9s",
            "cds ack =>",
            "wait 3 => cds ~a=1+9s ~b=2+9s",
        ],
    );
    let mut driver = Driver::new(Mode::Sotw, Limits::default());
    driver.run("write cds:a=1/9");
    driver.run("cds");
    let Some(Action::Send(first)) = driver.actions.pop() else {
        panic!("nothing sent")
    };
    driver.stream = driver.new_stream();
    let again = format!("cds v:{}", first.version);
    assert_eq!(driver.run(&again), ["cds a=1+9s"]);
}

/// "For clients that support the *xds.config.supports-resource-ttl* client feature".
#[test]
fn others_get_no_ttl() {
    for mode in [Mode::Delta, Mode::Sotw] {
        let mut driver = Driver::new(mode, Limits::default());
        driver.stream = Stream::new(mode, None, Arc::default());
        driver.run("write cds:a=1/9");
        assert_eq!(driver.run("cds"), ["cds a=1+9s"]);
        let Some(Action::Send(response)) = driver.actions.pop() else {
            panic!("nothing sent")
        };
        assert_eq!(response.resources[0].ttl(), None);
        driver.run("cds ack");
        assert!(driver.run("wait 99").is_empty());
    }
}
