//! Incremental xDS, one type.

use super::*;

fn check(script: &[&str]) {
    super::check(Mode::Delta, script);
}

/// "The management server must supply the requested resources if they exist."
#[test]
fn subscribe() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +a => cds a=1",
        "cds ack =>",
        "cds +b => cds b=1",
    ]);
}

/// "When a resource subscribed to by a client does not exist, the server will send a DeltaDiscoveryResponse message
/// that contains that resource's name in the removed_resources field"; "if one of those resources springs into
/// existence later, the server must send an update".
#[test]
fn unknown_names() {
    check(&[
        "cds +ghost => cds -ghost",
        "cds ack =>",
        "cds +ghost => cds -ghost",
        "cds ack =>",
        "write cds:ghost=1 => cds ghost=1",
        "cds ack =>",
        "write cds:-ghost => cds -ghost",
        "cds ack =>",
        "write cds:ghost=1 => cds ghost=1",
    ]);
}

/// "the server *must* still provide those resources in the response; due to implementation details hidden from the
/// server, the client may have "forgotten" those resources despite apparently remaining subscribed".
#[test]
fn subscribe_again() {
    check(&[
        "write cds:a=1 =>",
        "cds +a => cds a=1",
        "cds ack =>",
        "cds +a => cds a=1",
        "cds ack +a => cds a=1",
    ]);
}

/// "The management server should only send updates to the Envoy client when the resources in the DiscoveryResponse
/// have changed."
#[test]
fn only_what_changed() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +a +b => cds a=1 b=1",
        "cds ack =>",
        "write cds:a=1 cds:b=2 cds:c=1 => cds b=2",
        "cds ack =>",
        "lost cds:a=2 => cds a=2",
    ]);
}

/// One response per type is in flight; what changes meanwhile merges, also into nothing.
#[test]
fn changes_merge() {
    check(&[
        "write cds:a=1 cds:b=1 cds:c=1 =>",
        "cds +a +b +c => cds a=1 b=1 c=1",
        "write cds:a=2 =>",
        "write cds:a=3 cds:b=2 =>",
        "write cds:-c =>",
        "write cds:b=1 =>",
        "cds +d =>",
        "cds ack => cds a=3 -c -d",
        "cds ack =>",
    ]);
}

/// "these may be resource names"; "it can simply ignore these phantom unsubscriptions"; "a server does not need to
/// send any response if a request does nothing except unsubscribe from a resource".
#[test]
fn unsubscribe() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +a +b => cds a=1 b=1",
        "cds ack =>",
        "cds -a -phantom =>",
        "write cds:a=2 cds:b=2 => cds b=2",
        "cds ack =>",
        "cds -b =>",
        "write cds:b=3 =>",
        "cds +a => cds a=2",
    ]);
}

/// "if the client sends a request for a given resource type but has never explicitly subscribed to any resource
/// names […] the server should treat that identically to […] "*"".
#[test]
fn legacy_wildcard() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds => cds a=1 b=1",
        "cds ack =>",
        "write cds:c=1 => cds c=1",
        "cds ack =>",
        "write cds:-a => cds -a",
        "cds ack =>",
        "write cds:a=1 => cds a=1",
    ]);
}

/// An Envoy that starts waits for an answer about clusters, also if there are none.
#[test]
fn wildcard_of_nothing_is_answered() {
    check(&["lds => lds", "lds ack =>", "write lds:a=1 => lds a=1"]);
}

/// The four steps of the page's example "And in incremental".
#[test]
fn wildcard_then_name_then_neither() {
    check(&[
        "write cds:A=1 cds:B=1 =>",
        "cds => cds A=1 B=1",
        "cds ack =>",
        "cds +A => cds A=1",
        "cds ack =>",
        "cds -* =>",
        "write cds:A=2 cds:B=2 => cds A=2",
        "cds ack =>",
        "cds -A =>",
        "cds =>",
        "write cds:A=3 =>",
    ]);
}

/// "once the client does explicitly subscribe to a resource name […] then this legacy semantic is no longer
/// available".
#[test]
fn names_first_is_no_wildcard() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +a => cds a=1",
        "cds ack =>",
        "cds -a =>",
        "cds =>",
        "write cds:b=2 =>",
        "cds +* => cds a=1 b=2",
    ]);
}

/// "the server must send a response that includes the specific resource in either the removed_resources field (if
/// it is not included in the wildcard) or in the resources field (if it *is* included in the wildcard)".
#[test]
fn unsubscribe_name_under_wildcard() {
    check(&[
        "write cds:a=1 =>",
        "cds +* +a +ghost => cds a=1 -ghost",
        "cds ack =>",
        "cds -a => cds a=1",
        "cds ack =>",
        "cds -ghost => cds -ghost",
        "cds ack =>",
        "write cds:a=2 cds:ghost=1 => cds a=2 ghost=1",
    ]);
}

/// "In any message after the first in a stream […] the server will already be correctly tracking the client's
/// state"; "to enable the client to continue the same logical xDS session even in the face of gRPC stream
/// reconnection".
#[test]
fn initial_versions() {
    check(&[
        "write cds:same=1 cds:new=2 cds:unseen=1 =>",
        "cds +same +new +gone +unseen +ghost same=1 new=1 gone=1 => \
         cds new=2 unseen=1 -ghost -gone",
        "cds ack =>",
        "write cds:same=2 cds:gone=1 => cds gone=1 same=2",
    ]);
    check(&[
        "write cds:same=1 cds:new=2 cds:unseen=1 =>",
        "cds same=1 new=1 gone=1 => cds new=2 unseen=1 -gone",
        "cds ack =>",
        "write cds:same=2 => cds same=2",
    ]);
    // What it remembers and does not ask for is nobody's business.
    check(&[
        "write cds:a=2 cds:b=2 =>",
        "cds +a a=1 b=1 => cds a=2",
        "cds ack =>",
        "write cds:b=3 =>",
    ]);
}

/// The same: "to avoid resending them over the network".
#[test]
fn initial_versions_that_are_current() {
    check(&[
        "write cds:a=1 =>",
        "cds +a a=1 =>",
        "write cds:a=2 => cds a=2",
    ]);
    check(&[
        "write cds:a=1 =>",
        "cds +* a=1 =>",
        "write cds:b=1 => cds b=1",
    ]);
}

/// "The nonce may be used to correlate an ack/nack with a server response, but should *not* be used to reject stale
/// requests"; "the server must honor changes to the subscription state even if the nonce is stale".
#[test]
fn stale_nonce_subscribes() {
    check(&[
        "write cds:a=1 cds:b=1 cds:c=1 =>",
        "cds +a => cds a=1",
        "cds ack =>",
        "cds nonce:99 +b => cds b=1",
        "cds nonce:1 +c -a =>",
        // Numbers, to whoever sent them: to a client they are text.
        "cds nonce:+2 =>",
        "cds nonce:02 =>",
        "write cds:a=2 =>",
        "cds ack => cds c=1",
    ]);
}

/// "These two fields can be set in any DeltaDiscoveryRequest, including ACKs".
#[test]
fn verdict_and_subscription_together() {
    check(&[
        "write cds:a=1 cds:b=1 cds:c=1 =>",
        "cds +a => cds a=1",
        "cds ack +b => cds b=1",
        "cds nack:bad +c -b => cds c=1",
        "cds ack =>",
        "write cds:b=2 =>",
    ]);
}

/// A type that nobody serves: its names do not exist, and the other types are not disturbed.
#[test]
fn unknown_type() {
    check(&[
        "type.googleapis.com/x.Y +b +a +a +* => type.googleapis.com/x.Y -a -b",
        "type.googleapis.com/x.Y ack =>",
        "write cds:a=1 =>",
        "cds +a => cds a=1",
    ]);
}

/// "It will not be populated: […] In any message after the first in a stream (for a given type_url)".
#[test]
fn initial_versions_count_once() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +a => cds a=1",
        "cds ack =>",
        "cds +b b=1 => cds b=1",
        "cds ack =>",
        // A second logical stream of the same aggregated one has its own first message.
        "write eds:a=1 =>",
        "eds +a a=1 =>",
        "eds -a =>",
        "eds +a a=1 => eds a=1",
    ]);
}

/// "the request must either specify "*" in the resource_names_subscribe field or (legacy behavior) the request must have
/// no resources in both resource_names_subscribe and resource_names_unsubscribe".
#[test]
fn legacy_wildcard_says_nothing_at_all() {
    check(&[
        "write cds:a=1 =>",
        "cds -x =>",
        "write cds:a=2 =>",
        // Still "never […] explicitly subscribed".
        "cds => cds a=2",
        "cds ack =>",
        "cds -* =>",
        "cds =>",
        "write cds:a=3 =>",
        "cds +a => cds a=3",
        "cds ack -a =>",
        "cds =>",
    ]);
    check(&[
        "write cds:a=1 =>",
        "cds +* => cds a=1",
        "cds ack =>",
        "cds => ",
    ]);
}

/// "Server interprets this as continuing the existing subscription to "*" and adding a new subscription"; "it can only
/// unsubscribe from the wildcard as a whole".
#[test]
fn wildcard_and_names() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +* +ghost => cds a=1 b=1 -ghost",
        "cds ack =>",
        // Not subscribed to by name: a phantom.
        "cds -a =>",
        "write cds:a=2 cds:ghost=1 => cds a=2 ghost=1",
        "cds ack -* =>",
        "write cds:a=3 cds:ghost=2 => cds ghost=2",
        "cds ack +* => cds a=3 b=1 ghost=2",
        "cds ack =>",
        "cds -* -ghost =>",
        "write cds:a=4 cds:ghost=3 =>",
    ]);
}

/// "It is an error for a server to send a single response that contains the same resource name twice."
#[test]
fn each_name_once_in_a_response() {
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds +a +a +* +ghost +ghost => cds a=1 b=1 -ghost",
        "cds ack =>",
        "write cds:a=2 =>  cds a=2",
        "write cds:a=3 =>",
        "cds +a +* => ",
        "cds ack => cds a=3 b=1",
    ]);
}

/// What is no longer wanted goes first, so that a name on both lists is answered: the client "may have forgotten" it.
#[test]
fn a_name_on_both_lists_is_subscribed_to() {
    check(&[
        "write cds:a=1 =>",
        "cds +a => cds a=1",
        "cds ack +a -a => cds a=1",
        "cds ack =>",
        "write cds:a=2 => cds a=2",
    ]);
    // A removal that waits for the answer is not lost by it.
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds => cds a=1 b=1",
        "write cds:b=2 cds:-a =>",
        "cds +* -* =>",
        "cds ack => cds b=2 -a",
    ]);
    check(&[
        "write cds:a=1 =>",
        "cds +a => cds a=1",
        "write cds:-a =>",
        "cds +* -a =>",
        "cds ack => cds -a",
    ]);
}

/// "The client can send either an alias or the name of a resource", of which "both the names and aliases […] should be
/// checked". EMS serves no aliases: they are for virtual hosts on demand (VHDS), which it does not serve, and every type
/// that it does serve is asked for by name. What a client takes for an alias does not exist, and it is told so.
#[test]
fn no_aliases() {
    check(&[
        "write rds:route/a.example=1 =>",
        "rds +a.example => rds -a.example",
        "rds ack =>",
        "rds +route/a.example => rds route/a.example=1",
        "rds ack -a.example =>",
    ]);
}

/// "Spontaneous DeltaDiscoveryRequests from the client […] response_nonce must be omitted": they answer nothing, and one
/// response stays in flight.
#[test]
fn spontaneous_requests_answer_nothing() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    driver.run("write cds:a=1 cds:b=1");
    assert_eq!(driver.run("cds +a"), ["cds a=1"]);
    assert!(driver.run("cds +b").is_empty());
    let answered = |driver: &Driver| {
        let acked = |action: &Action| matches!(action, Action::Acked { .. });
        driver.actions.iter().any(acked)
    };
    assert!(!answered(&driver));
    assert_eq!(driver.run("cds ack"), ["cds b=1"]);
    assert!(answered(&driver));
    // The nonce of what is answered already, of another type, and nonsense.
    for line in ["cds nonce:1", "cds nonce:99", "cds nonce:x", "cds nonce:-1"] {
        assert!(driver.run(line).is_empty());
        assert!(!answered(&driver), "{line}");
    }
}

#[test]
fn follows_what_is_asked() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    let kind = ResourceType::Cluster;
    driver.run("cds +a +*");
    assert!(driver.actions.contains(&Action::Follow(kind, "a".into())));
    assert!(driver.actions.contains(&Action::FollowAll(kind)));
    driver.run("cds +a -* ack");
    assert!(!driver.actions.contains(&Action::Follow(kind, "a".into())));
    assert!(driver.actions.contains(&Action::UnfollowAll(kind)));
    assert!(driver.actions.contains(&Action::Acked { kind }));
    assert_eq!(
        driver.stream.followed().collect::<Vec<_>>(),
        [(kind, "a".into())]
    );
    driver.run("cds -a");
    assert!(driver.actions.contains(&Action::Unfollow(kind, "a".into())));
    assert_eq!(driver.stream.followed().count(), 0);
}

/// A wildcard stream that does not answer while names come and go.
#[test]
fn backlog_is_bounded() {
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    driver.run("cds");
    for i in 0..5_000 {
        driver.run(&format!("write cds:n{i}=1"));
        driver.run(&format!("write cds:-n{i}"));
    }
    driver.run("write cds:last=1");
    assert_eq!(driver.run("cds ack"), ["cds last=1"]);
}

/// A source that knows all that its wildcard can cover.
struct Few(Memory);

impl View for Few {
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>> {
        self.0.get(kind, name)
    }

    fn wildcard(&self, kind: ResourceType) -> Vec<Arc<str>> {
        let covered = |name: &Arc<str>| matches!(&**name, "a" | "b");
        self.0.wildcard(kind).into_iter().filter(covered).collect()
    }

    fn wildcard_within(&self, _kind: ResourceType) -> Option<Vec<Arc<str>>> {
        Some(vec!["b".into(), "a".into()])
    }
}

/// Of a wildcard that can cover few names the stream hears of these alone, whatever it asks for besides.
#[test]
fn a_wildcard_of_few_names_follows_them() {
    for (script, follows) in [
        (&["cds"][..], "+a +b"),
        (&["cds", "cds +b"], "+a +b +b"),
        (&["cds", "cds +b", "cds -b"], "+a +b +b"),
        (&["cds", "cds +b", "cds -*"], "+a +b +b -a"),
        (&["cds +c", "cds +*", "cds -*"], "+c +a +b -a -b"),
    ] {
        let mut driver = Driver::new(Mode::Delta, Limits::default());
        driver.run("write cds:a=1 cds:c=1");
        let few = Few(driver.memory.clone());
        let mut said = Vec::new();
        for line in script {
            let (kind, words) = line.split_once(' ').unwrap_or((line, ""));
            let request = driver.request(kind, words.split_whitespace());
            for action in driver.stream.on_request(request, &few).unwrap() {
                match action {
                    Action::Follow(_, name) => said.push(format!("+{name}")),
                    Action::Unfollow(_, name) => said.push(format!("-{name}")),
                    Action::FollowAll(_) | Action::UnfollowAll(_) => panic!("{script:?}"),
                    _ => {}
                }
            }
        }
        assert_eq!(said.join(" "), follows, "{script:?}");
        let mut left: Vec<_> = said.iter().filter(|s| s.starts_with('+')).collect();
        left.retain(|name| !said.contains(&name.replace('+', "-")));
        let followed: BTreeSet<_> = driver.stream.followed().map(|(_, name)| name).collect();
        let left: BTreeSet<Arc<str>> = left.iter().map(|s| s.replace('+', "").into()).collect();
        assert_eq!(followed, left, "{script:?}");
    }
}

/// Another server's versions may be of any length.
#[test]
fn what_is_long_is_not_kept() {
    let long = "9".repeat(100);
    check(&[
        "write cds:a=1 cds:b=1 =>",
        &format!("cds +a +b a={long} b=1 => cds a=1"),
        "cds ack =>",
    ]);
    let mut driver = Driver::new(Mode::Delta, Limits::default());
    let returns = format!("cds +* gone={long}");
    let request = driver.request("cds", returns.split_whitespace().skip(1));
    driver.stream.on_request(request, &driver.memory).unwrap();
    let versions: Vec<_> = driver.stream.status().map(|s| s.version).collect();
    assert_eq!(versions, [Some("".into())]);
}
