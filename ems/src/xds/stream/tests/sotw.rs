//! State of the world.

use super::*;

fn check(script: &[&str]) {
    super::check(Mode::Sotw, script);
}

/// "In the SotW protocol variants, all resource types except for Listener and Cluster are grouped into responses in
/// the same way as in the incremental protocol variants."
#[test]
fn partial_for_endpoints() {
    check(&[
        "write eds:a=1 eds:b=1 =>",
        "eds a b => eds a=1 b=1",
        "eds ack a b =>",
        "write eds:a=2 => eds a=2",
        "eds ack a b =>",
        "eds a b c ack =>",
        "write eds:c=1 => eds c=1",
    ]);
}

/// "it must resend all 100 of them, even the 99 that were not modified"; "if a previously seen resource is not
/// present in a new response, that indicates that the resource has been removed"; "a response containing no
/// resources means to delete all resources of that type".
#[test]
fn full_for_clusters() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds => cds a=1 b=1",
        "cds ack =>",
        "write cds:a=2 => cds a=2 b=1",
        "cds ack =>",
        "write cds:-a => cds b=1",
        "cds ack =>",
        "write cds:-b => cds",
        "cds ack =>",
        "write cds:b=1 => cds b=1",
    ]);
}

/// "for other resource types, the API provides no mechanism for the server to tell the client that resources have
/// been deleted".
#[test]
fn no_removal_of_endpoints() {
    check(&[
        "write eds:a=1 =>",
        "eds a => eds a=1",
        "eds ack a =>",
        "write eds:-a =>",
        "write eds:a=1 => eds a=1",
    ]);
}

/// "the server must resend any newly requested resources, even if it previously sent those resources".
#[test]
fn newly_requested() {
    check(&[
        "write eds:a=1 eds:b=1 lds:l=1 lds:m=1 =>",
        "eds a => eds a=1",
        "eds a b ack => eds b=1",
        "eds b ack =>",
        "write eds:a=2 =>",
        "eds a b => eds a=2",
        "lds l => lds l=1",
        "lds l m ack => lds l=1 m=1",
        "lds m ack =>",
        "write lds:l=2 =>",
        "write lds:m=2 => lds m=2",
    ]);
}

/// The four steps of the page's example "For example, in SotW".
#[test]
fn wildcards() {
    check(&[
        "write cds:A=1 cds:B=1 =>",
        "cds => cds A=1 B=1",
        "cds * A ack => cds A=1 B=1",
        "cds A ack =>",
        "write cds:B=2 =>",
        "cds ack =>",
        "write cds:A=2 cds:B=3 =>",
        "cds * => cds A=2 B=3",
    ]);
}

/// "Responses for Listener and Cluster resource types must include all resources requested by the client."
#[test]
fn unknown_listener_shows_by_absence() {
    check(&[
        "lds ghost => lds",
        "lds ack ghost =>",
        "write lds:ghost=1 => lds ghost=1",
    ]);
}

/// "Envoy does not expect a DiscoveryResponse for every DiscoveryRequests it issues"; "The management server should
/// not send a DiscoveryResponse for any DiscoveryRequest that has a stale nonce": a stale one is no word on what was sent,
/// and nothing goes again because of it. But what it asks for counts from then on, as by delta, or a client that never
/// says it again would wait for ever: so the last line departs from the letter.
#[test]
fn stale_nonce() {
    check(&[
        "write eds:a=1 eds:b=1 eds:c=1 =>",
        "eds a => eds a=1",
        "eds ack a =>",
        "write eds:a=2 => eds a=2",
        "eds nonce:1 a b =>",
        "eds ack a b => eds b=1",
        "eds ack a b =>",
        "eds nonce:1 a c => eds c=1",
    ]);
}

/// "NACK signifies unsuccessful configuration and is indicated by the presence of the error_detail field."
#[test]
fn rejection() {
    check(&[
        "write cds:a=1 eds:e=1 =>",
        "cds => cds a=1",
        "cds nack:bad =>",
        "lost =>",
        "eds e => eds e=1",
        "eds nack:bad e =>",
        "lost =>",
        "write cds:a=2 eds:e=2 => cds a=2; eds e=2",
    ]);
}

/// "it is generally safe for servers to do this optimization for LDS and CDS when the only subscription is a
/// wildcard subscription".
#[test]
fn returning_client() {
    let mut driver = Driver::new(Mode::Sotw, Limits::default());
    driver.run("write cds:a=1 eds:e=1");
    driver.run("cds");
    let Some(Action::Send(first)) = driver.actions.pop() else {
        panic!("nothing sent")
    };
    let again = format!("cds v:{}", first.version);
    driver.stream = Stream::new(Mode::Sotw, None, Arc::new(Limits::default()));
    assert!(driver.run(&again).is_empty());
    assert_eq!(driver.run("write cds:a=2"), ["cds a=2"]);
    driver.stream = Stream::new(Mode::Sotw, None, Arc::new(Limits::default()));
    assert_eq!(driver.run(&again), ["cds a=2"]);
    let named = format!("eds e v:{}", first.version);
    assert_eq!(driver.run(&named), ["eds e=1"]);
}

/// A version that somebody gave the type may stand for something else by now.
#[test]
fn returning_client_with_a_given_version() {
    let mut driver = Driver::new(Mode::Sotw, Limits::default());
    driver.memory.write(|write| {
        for kind in ResourceType::ALL {
            write.version(kind, Some("given".into()));
        }
    });
    driver.run("write cds:a=1 lds:a=1");
    assert_eq!(driver.run("cds"), ["cds a=1"]);
    driver.run("write cds:b=1 lds:b=1");
    driver.stream = driver.new_stream();
    assert_eq!(driver.run("cds v:given"), ["cds a=1 b=1"]);
    assert_eq!(driver.run("lds v:given"), ["lds a=1 b=1"]);
}

/// The same optimization is "only if they know that the client is not subscribing to a new resource": names are answered.
#[test]
fn returning_client_with_names() {
    let mut driver = Driver::new(Mode::Sotw, Limits::default());
    driver.run("write cds:a=1 cds:b=1 eds:e=1");
    for (first, again, answer) in [
        ("cds a b", "cds a b v:", "cds a=1 b=1"),
        ("eds e", "eds e v:", "eds e=1"),
        ("cds *", "cds * v:", "cds a=1 b=1"),
    ] {
        driver.stream = driver.new_stream();
        driver.run(first);
        let Some(Action::Send(sent)) = driver.actions.pop() else {
            panic!("nothing sent")
        };
        driver.stream = driver.new_stream();
        let again = format!("{again}{}", sent.version);
        assert_eq!(driver.run(&again), [answer]);
    }
}

/// "If the list of resource names becomes empty, that means that the client is no longer interested in any resources of
/// the specified type."
#[test]
fn empty_list_after_names() {
    check(&[
        "write eds:a=1 eds:b=1 =>",
        "eds a => eds a=1",
        "eds ack =>",
        "write eds:a=2 =>",
        "eds a => eds a=2",
    ]);
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds a => cds a=1",
        "cds ack a =>",
        "cds =>",
        "write cds:a=2 =>",
        "cds =>",
        "cds a => cds a=2",
    ]);
}

/// "in SotW, all requests on the stream for that resource type have had an empty resource_names field": then it stands
/// for everything, of any type, and however often it is said.
#[test]
fn empty_list_before_names() {
    check(&[
        "write eds:a=1 =>",
        "eds => eds a=1",
        "eds ack =>",
        "eds =>",
        "write eds:b=1 => eds b=1",
    ]);
    check(&["lds => lds", "lds ack =>", "write lds:a=1 => lds a=1"]);
}

/// "These two fields" have one counterpart here: every request has all names, also one that accepts or rejects.
#[test]
fn verdict_and_subscription_together() {
    check(&[
        "write eds:a=1 eds:b=1 eds:c=1 =>",
        "eds a => eds a=1",
        "eds ack a b => eds b=1",
        "eds nack:bad b c => eds c=1",
        "eds ack b c =>",
        "write eds:a=2 eds:b=2 => eds b=2",
    ]);
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds a => cds a=1",
        "cds nack:bad a b => cds b=1",
        "cds ack a b =>",
    ]);
}

/// "The preferred mechanism for a server to detect a NACK is to look for the presence of the error_detail field": the
/// version says nothing.
#[test]
fn an_old_version_is_no_rejection() {
    let mut driver = Driver::new(Mode::Sotw, Limits::default());
    driver.run("write eds:a=1");
    driver.run("eds a");
    driver.run("eds a v:older ack");
    let kind = ResourceType::Endpoints;
    assert!(driver.actions.contains(&Action::Acked { kind }));
    assert_eq!(driver.states(), "eds:a=Acked");
}

/// "Within a stream, new DiscoveryRequests supersede any prior DiscoveryRequests having the same resource type."
#[test]
fn the_last_request_counts() {
    check(&[
        "write eds:a=1 eds:b=1 eds:c=1 =>",
        "eds a => eds a=1",
        "eds a b =>",
        "eds a c =>",
        "eds ack a c => eds c=1",
        "eds ack a c =>",
        "write eds:b=2 =>",
    ]);
}

/// "Whenever one resource of that type changes, the version is changed"; it is "a property of the resources themselves".
#[test]
fn versions_of_types() {
    let version = |driver: &mut Driver, line: &str| {
        driver.run(line);
        let Some(Action::Send(sent)) = driver.actions.pop() else {
            panic!("nothing sent")
        };
        sent.version
    };
    let mut driver = Driver::new(Mode::Sotw, Limits::default());
    driver.run("write cds:a=1 lds:a=1");
    let first = version(&mut driver, "cds");
    driver.run("cds ack");
    assert_ne!(version(&mut driver, "write cds:a=2"), first);
    driver.run("cds ack");
    assert_eq!(version(&mut driver, "write cds:a=1"), first);
    let mut other = Driver::new(Mode::Sotw, Limits::default());
    other.run("write cds:a=1");
    assert_eq!(version(&mut other, "cds"), first);
}

/// Make before break with full states: the one that goes stays until nobody points at it.
#[test]
fn replacement() {
    check(&[
        "write cds:X=1 rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "rds r => rds r=X",
        "rds ack r =>",
        "write cds:Y=1 cds:-X rds:r=Y => cds X=1 Y=1",
        "cds ack => rds r=Y",
        "rds ack r => cds Y=1",
    ]);
    // A removal that cannot be said holds nothing back.
    check(&[
        "write cds:X=1 eds:X=1 =>",
        "cds => cds X=1",
        "cds ack =>",
        "eds X => eds X=1",
        "eds ack X =>",
        "write cds:-X eds:-X => cds",
    ]);
}

/// The same while a client rejects, and with a type of which only one name was asked for.
#[test]
fn replacement_with_rejections() {
    check(&[
        "write cds:X=1 lds:l=X rds:r=X =>",
        "cds => cds X=1",
        "cds ack =>",
        "lds => lds l=X",
        "lds ack =>",
        "rds r => rds r=X",
        "rds ack r =>",
        "write cds:Y=1 cds:-X lds:l=Y rds:r=Y => cds X=1 Y=1",
        "cds nack:bad => lds l=Y",
        "lds nack:bad => rds r=Y",
        // The client may still have a route to X by the version before.
        "rds nack:bad r =>",
        "write lds:l=Z rds:r=Z => lds l=Z",
        "lds ack => rds r=Z",
        "rds ack r => cds",
    ]);
}

/// Only what is new in a full list can be what is wrong with it.
#[test]
fn blame_in_a_full_list() {
    let mut driver = Driver::new(Mode::Sotw, Limits::default());
    driver.run("write cds:good=1");
    driver.run("cds");
    driver.run("cds ack");
    driver.run("write cds:bad=1");
    driver.run("cds nack:wrong");
    assert_eq!(driver.states(), "cds:bad=Rejected(wrong) cds:good=Acked");
    assert_eq!(driver.ruled(), "bad=1");
    // What was never taken is in no further list, so that these can be taken.
    assert_eq!(driver.run("write cds:good=2"), ["cds good=2"]);
    driver.run("cds ack");
    assert_eq!(driver.states(), "cds:bad=Rejected(wrong) cds:good=Acked");
    // If it may be one or the other, either is tried, beside what was taken before.
    assert_eq!(
        driver.run("write cds:good=3 cds:new=1"),
        ["cds good=3 new=1"]
    );
    assert_eq!(driver.run("cds nack:wrong"), ["cds good=3"]);
    assert_eq!(driver.ruled(), "");
    assert_eq!(driver.run("cds nack:wrong"), ["cds good=2 new=1"]);
    assert_eq!(driver.ruled(), "good=3");
    assert!(driver.run("cds ack").is_empty());
    assert_eq!(
        driver.states(),
        "cds:bad=Rejected(wrong) cds:good=Rejected(wrong) cds:new=Acked"
    );
    assert_eq!(driver.run("write cds:good=4"), ["cds good=4 new=1"]);
    driver.run("cds nack:good_is_wrong");
    assert_eq!(driver.run("write cds:bad=2"), ["cds bad=2 good=2 new=1"]);
}

/// A client that returns with what is current took it: what another says then does not make it bad.
#[test]
fn what_a_returning_client_has_was_taken() {
    let mut first = Driver::new(Mode::Delta, Limits::default());
    first.run("write cds:a=1");
    let mut second = Driver {
        memory: first.memory.clone(),
        ..Driver::new(Mode::Delta, Limits::default())
    };
    second.run("cds +a");
    second.run("cds nack:no");
    assert_eq!(second.ruled(), "a=1");
    first.run("cds +a a=1");
    assert_eq!(first.ruled(), "a=1");
    let mut third = Driver {
        memory: first.memory.clone(),
        ..Driver::new(Mode::Delta, Limits::default())
    };
    third.run("cds +a");
    third.run("cds nack:no");
    assert_eq!(third.ruled(), "");
}

/// A client of a wildcard that asks for ever other names leaves no note of those that do not exist.
#[test]
fn what_was_asked_for_beside_the_wildcard_is_forgotten() {
    for kind in ["cds", "rds"] {
        let mut driver = Driver::new(Mode::Sotw, Limits::default());
        for n in 0..3 {
            driver.run(&format!("{kind} * n{n}"));
            driver.run(&format!("{kind} ack * n{n}"));
        }
        driver.run(&format!("{kind} *"));
        let kept = (driver.stream.kept(), driver.stream.backlog());
        assert_eq!(kept, (0, 0), "{kind}");
    }
}
