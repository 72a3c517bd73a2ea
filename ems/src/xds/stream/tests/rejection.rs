//! What follows when a client rejects, in the delta variant.

use super::*;

fn check(script: &[&str]) {
    super::check(Mode::Delta, script);
}

/// A rejected version is never sent again, a new one is.
#[test]
fn rejection() {
    check(&[
        "write cds:a=1 =>",
        "cds +a => cds a=1",
        "cds nack:bad =>",
        "write cds:a=1 =>",
        "lost =>",
        "write cds:a=2 => cds a=2",
        "cds nack:bad =>",
        "lost =>",
        "write cds:-a => cds -a",
    ]);
}

/// "The management server must supply the requested resources if they exist", also those that came with a bad one: "at the
/// wire protocol level, a NACK is sent on a per-response basis", and only some clients "will still use all valid resources
/// from the response" (gRFC A46).
#[test]
fn what_came_with_a_rejected_one() {
    check(&[
        "write cds:a=1 cds:b=1 cds:c=1 =>",
        "cds +a +b +c +d => cds a=1 b=1 c=1 -d",
        "cds nack:b_is_bad => cds a=1 c=1 -d",
        "cds nack:c_is_bad => cds a=1 -d",
        "cds ack =>",
        // Nothing new is said of what was rejected.
        "lost =>",
        "write cds:b=2 cds:-a => cds b=2 -a",
        // By then it may be something else, or unwanted.
        "write cds:c=2 =>",
        "cds nack:b_is_bad -d => cds c=2 -a",
    ]);
    // By wildcard as well.
    check(&[
        "write cds:a=1 cds:b=1 =>",
        "cds => cds a=1 b=1",
        "cds ack =>",
        "write cds:-a cds:b=2 cds:c=2 => cds b=2 c=2 -a",
        "cds nack:b => cds c=2 -a",
    ]);
    // Endpoints follow their clusters again: Envoy may have had no use for the first ones.
    check(&[
        "write cds:a=1 cds:b=1 eds:a=1 =>",
        "cds +a +b => cds a=1 b=1",
        "eds +a => eds a=1",
        "eds ack =>",
        "cds nack:b => cds a=1; eds a=1",
    ]);
}

/// The same where nothing is named, as by an Envoy that cannot read the response: half as many at a time, until one is
/// alone; what is taken lets the next response have twice as many.
#[test]
fn which_of_several_is_bad_is_found_out() {
    check(&[
        "write cds:a=1 cds:b=1 cds:c=1 cds:d=1 cds:e=1 cds:f=1 cds:g=1 =>",
        "cds +a +b +c +d +e +f +g +x => cds a=1 b=1 c=1 d=1 e=1 f=1 g=1 -x",
        "cds nack:bad => cds a=1 b=1 c=1 d=1",
        "cds nack:bad => cds a=1 b=1",
        "cds nack:bad => cds a=1",
        "cds ack => cds b=1 c=1",
        "cds nack:bad => cds b=1",
        "cds nack:bad => cds c=1 d=1",
        "cds ack => cds e=1 f=1 g=1 -x",
        "cds ack =>",
        "lost =>",
        "write cds:a=2 cds:b=2 cds:c=2 cds:d=2 => cds a=2 b=2 c=2 d=2",
        "cds nack:bad => cds a=2 b=2",
        // What else happens meanwhile waits its turn.
        "cds ack -c +y => cds d=2 -y",
        "cds ack =>",
    ]);
    // Removals as well.
    check(&[
        "cds +a +b => cds -a -b",
        "cds nack:bad => cds -a",
        "cds nack:bad => cds -b",
        "cds ack =>",
    ]);
}

/// "Each resource will have its own TTL expiry time"; "version matching the most recently sent version can be used to
/// update the TTL". Envoy (1.40) notes neither of what came with a bad one, so it is sent again before a heartbeat is.
#[test]
fn a_ttl_that_came_with_a_rejected_one() {
    check(&[
        "write cds:a=1/9 cds:b=1/9 =>",
        "cds => cds a=1+9s b=1+9s",
        "cds nack:b => cds a=1+9s",
        "cds ack =>",
        "wait 3 => cds ~a=1+9s",
        "cds nack:cluster => ",
        "wait 99 =>",
    ]);
    // A heartbeat as well.
    check(&[
        "write cds:a=1/9 cds:b=1/9 =>",
        "cds => cds a=1+9s b=1+9s",
        "cds ack =>",
        "wait 3 => cds ~a=1+9s ~b=1+9s",
        "cds nack:b => cds a=1+9s",
    ]);
}

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
    driver.run("cds nack:cluster_pay.eu:_bad");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Rejected(cluster pay.eu: bad) cds:pay=Sent cds:x=Sent"
    );
    // The others were sent again.
    driver.run("cds ack");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Rejected(cluster pay.eu: bad) cds:pay=Acked cds:x=Acked"
    );
    driver.run("write cds:pay.eu=2 cds:x=2");
    // No name at all: both are sent once more, one by one.
    driver.run("cds nack:bad");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Sent cds:pay=Acked cds:x=Sent"
    );
    driver.run("cds nack:bad");
    driver.run("cds nack:bad");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Rejected(bad) cds:pay=Acked cds:x=Rejected(bad)"
    );
    driver.run("write cds:pay.eu=3");
    driver.run("cds ack");
    assert_eq!(
        driver.states(),
        "cds:none=Absent cds:pay.eu=Acked cds:pay=Acked cds:x=Rejected(bad)"
    );
    driver.run("cds -x -pay.eu -none -pay");
    assert_eq!(driver.states(), "");
}

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

/// A source that has what was good before, and gives it to those whom the present one is not for.
struct Former {
    now: Arc<Resource>,
    before: Arc<Resource>,
    to: Witness,
}

impl View for Former {
    fn get(&self, _kind: ResourceType, _name: &str) -> Option<Arc<Resource>> {
        let is_for = self.now.fate().is_for(self.to);
        Some(if is_for { &self.now } else { &self.before }.clone())
    }

    fn wildcard(&self, _kind: ResourceType) -> Vec<Arc<str>> {
        vec!["a".into()]
    }
}

/// Who has nothing else gets what was good before as soon as it rejects what is new; the third does not have to try.
#[test]
fn nobody_is_left_with_nothing() {
    type Client<'a> = (&'a str, &'a [(&'a str, &'a str)]);
    let delta: [Client<'_>; 4] = [
        ("has", &[("cds +a a=1", "a@2"), ("cds nack:bad", "")]),
        ("has", &[("cds +a a=1", "")]),
        (
            "new",
            &[("cds +a", "a@2"), ("cds nack:bad", "a@1"), ("cds ack", "")],
        ),
        ("last", &[("cds +a", "a@1")]),
    ];
    let sotw: [Client<'_>; 4] = [
        (
            "new",
            &[
                ("cds a", "a@2"),
                ("cds nack:bad a", "a@1"),
                ("cds ack a", ""),
            ],
        ),
        ("new", &[("cds a", "a@1")]),
        ("newer", &[("cds a", "a@2"), ("cds nack:bad a", "a@1")]),
        ("last", &[("cds a", "a@1")]),
    ];
    for (mode, clients) in [(Mode::Delta, delta), (Mode::Sotw, sotw)] {
        let of = |version| Resource::with_version(ResourceType::Cluster, "a", version, b"");
        let (now, before) = (Arc::new(of("2")), Arc::new(of("1")));
        for (node, lines) in clients {
            let to = Witness::of(node);
            let (now, before) = (now.clone(), before.clone());
            let view = Former { now, before, to };
            let mut driver = Driver::new(mode, Limits::default());
            driver.stream = driver.new_stream().of(to);
            for (line, expected) in lines {
                let words = line.split_whitespace().skip(1);
                let request = driver.request("cds", words);
                let mut sent = String::new();
                for action in driver.stream.on_request(request, &view).unwrap() {
                    if let Action::Send(response) = action {
                        driver.nonces.insert("cds".into(), response.nonce);
                        sent += &format!("{:?}", response.resources[0]);
                    }
                }
                assert_eq!(sent, *expected, "{mode:?} {node}: {line}");
            }
        }
    }
}
