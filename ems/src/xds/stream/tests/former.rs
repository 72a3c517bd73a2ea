//! What was good before, for whom something new is not: where a source has that.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;

/// A source that has what was good before, and gives it to those whom the present one is not for.
struct Former {
    now: Arc<Resource>,
    before: Arc<Resource>,
    to: Witness,
    refused: AtomicBool,
}

impl View for Former {
    fn get(&self, _kind: ResourceType, _name: &str) -> Option<Arc<Resource>> {
        let is_for = !self.refused.load(Relaxed) && self.now.fate().is_for(self.to);
        Some(if is_for { &self.now } else { &self.before }.clone())
    }

    fn refused(&self, _kind: ResourceType, resource: &Resource) {
        if *resource == *self.now {
            self.refused.store(true, Relaxed);
        }
    }

    fn withheld(&self, kind: ResourceType, name: &str) -> Option<Arc<str>> {
        let served = self.get(kind, name).unwrap();
        (served != self.now).then(|| self.now.version().clone())
    }

    fn wildcard(&self, _kind: ResourceType) -> Vec<Arc<str>> {
        vec!["a".into()]
    }
}

/// One that has what was good before.
struct Client {
    driver: Driver,
    view: Former,
}

impl Client {
    fn new(mode: Mode, node: &str, now: &Arc<Resource>, before: &Arc<Resource>) -> Self {
        let to = Witness::of(node);
        let view = Former {
            now: now.clone(),
            before: before.clone(),
            to,
            refused: AtomicBool::new(false),
        };
        let mut driver = Driver::new(mode, Limits::default());
        driver.stream = driver.new_stream().of(to);
        Self { driver, view }
    }

    /// What is sent when it says this, or hears that something changed.
    fn hears(&mut self, line: &str) -> String {
        let words = line.split_whitespace().skip(1);
        let request = self.driver.request("cds", words);
        if line == "ruled" {
            let changed = [(ResourceType::Cluster, "a".into())];
            self.driver.stream.on_change(&Changed::of(changed));
        } else {
            let done = self.driver.stream.on_request(request, &self.view);
            self.driver.actions = done.unwrap();
        }
        let mut sent = String::new();
        for action in self.driver.stream.flush(&self.view) {
            if let Action::Send(response) = action {
                self.driver.nonces.insert("cds".into(), response.nonce);
                sent += &format!("{:?}", response.resources[0]);
            }
        }
        sent
    }
}

fn versions() -> (Arc<Resource>, Arc<Resource>) {
    let of = |version| Resource::with_version(ResourceType::Cluster, "a", version, b"");
    (Arc::new(of("2")), Arc::new(of("1")))
}

/// Who has nothing else gets what was good before as soon as it rejects what is new; the third does not have to try.
#[test]
fn nobody_is_left_with_nothing() {
    type Script<'a> = (&'a str, &'a [(&'a str, &'a str)]);
    let delta: [Script<'_>; 4] = [
        ("has", &[("cds +a a=1", "a@2"), ("cds nack:bad", "")]),
        ("has", &[("cds +a a=1", "")]),
        (
            "new",
            &[("cds +a", "a@2"), ("cds nack:bad", "a@1"), ("cds ack", "")],
        ),
        ("last", &[("cds +a", "a@1")]),
    ];
    let sotw: [Script<'_>; 4] = [
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
        let (now, before) = versions();
        for (node, lines) in clients {
            let mut client = Client::new(mode, node, &now, &before);
            for (line, expected) in lines {
                assert_eq!(client.hears(line), *expected, "{mode:?} {node}: {line}");
            }
        }
    }
}

/// Two reject a version, then a third takes it: it is for all who come from then on, and not sent again to those two.
#[test]
fn what_is_good_after_all_is_not_sent_again_to_who_rejected_it() {
    for (mode, ask, ack, nack) in [
        (Mode::Delta, "cds +a", "cds ack", "cds nack:bad"),
        (Mode::Sotw, "cds a", "cds ack a", "cds nack:bad a"),
    ] {
        let (now, before) = versions();
        let client = |node: &str| Client::new(mode, node, &now, &before);
        let mut slow = client("slow");
        assert_eq!(slow.hears(ask), "a@2");
        let mut two = ["x", "y"].map(client);
        for client in &mut two {
            assert_eq!(client.hears(ask), "a@2");
            assert_eq!(client.hears(nack), "a@1");
            assert_eq!(client.hears(ack), "");
            // What it goes on with is not what it was to have.
            assert_eq!(client.driver.states(), "cds:a=Rejected(bad)");
        }
        assert_eq!(client("z").hears(ask), "a@1");
        slow.hears(ack);
        assert_eq!(slow.driver.ruled(), "a=2");
        for client in &mut two {
            assert_eq!(client.hears("ruled"), "");
            assert_eq!(client.driver.states(), "cds:a=Rejected(bad)");
        }
        // Somebody may have mended it.
        let mut back = client("x");
        assert_eq!(back.hears(ask), "a@2");
        assert_eq!(back.hears(ack), "");
        assert_eq!(back.driver.states(), "cds:a=Acked");
        // Something newer ends what was said.
        let [x, _] = &mut two;
        let new = Resource::with_version(ResourceType::Cluster, "a", "3", b"");
        (x.view.now, x.view.refused) = (Arc::new(new), AtomicBool::new(false));
        assert_eq!(x.hears("ruled"), "a@3");
        assert_eq!(x.hears(ack), "");
        assert_eq!(x.driver.states(), "cds:a=Acked");
    }
}

/// Memory that has what was good before of one route.
struct Keeping {
    memory: Memory,
    before: Arc<Resource>,
    refused: AtomicBool,
}

impl View for Keeping {
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>> {
        let now = self.memory.get(kind, name)?;
        let former = kind == ResourceType::Route && self.refused.load(Relaxed);
        Some(if former { self.before.clone() } else { now })
    }

    fn refused(&self, kind: ResourceType, _resource: &Resource) {
        assert_eq!(kind, ResourceType::Route);
        self.refused.store(true, Relaxed);
    }

    fn withheld(&self, kind: ResourceType, name: &str) -> Option<Arc<str>> {
        let now = self.memory.get(kind, name)?;
        (self.get(kind, name)? != now).then(|| now.version().clone())
    }

    fn wildcard(&self, kind: ResourceType) -> Vec<Arc<str>> {
        self.memory.wildcard(kind)
    }
}

/// What is gone stays for what was good before and goes again, until something newer is taken.
#[test]
fn what_was_good_before_keeps_what_it_points_at() {
    for news in [["ruled", "rds ack"], ["rds +r", "rds ack"]] {
        let mut driver = Driver::new(Mode::Delta, Limits::default());
        driver.run("write cds:X=1 rds:r=1");
        let view = Keeping {
            memory: driver.memory.clone(),
            before: driver.memory.get(ResourceType::Route, "r").unwrap(),
            refused: AtomicBool::new(false),
        };
        let mut hears = |line: &str| {
            let (kind, words) = line.split_once(' ').unwrap_or((line, ""));
            let words = words.split_whitespace();
            match kind {
                "write" => {
                    let changed = driver.write(words);
                    driver.stream.on_change(&changed);
                    // Something else than what was rejected.
                    view.refused.store(false, Relaxed);
                }
                "ruled" => {
                    let route = [(ResourceType::Route, "r".into())];
                    driver.stream.on_change(&Changed::of(route));
                }
                kind => {
                    let request = driver.request(kind, words);
                    driver.stream.on_request(request, &view).unwrap();
                }
            }
            let sent = driver.stream.flush(&view).into_iter();
            let sent = sent.filter_map(|action| match action {
                Action::Send(response) => Some(response),
                _ => None,
            });
            let words = sent.map(|response| {
                let kind = ResourceType::from_type_url(&response.type_url).unwrap();
                driver.nonces.insert(short(kind).into(), response.nonce);
                let gone = response.removed.iter().map(|name| format!("-{name}"));
                let there = response.resources.iter().map(|r| format!("{r:?}"));
                there.chain(gone).collect::<Vec<_>>().join(" ")
            });
            let words = words.collect::<Vec<_>>().join("; ");
            (words, driver.states())
        };
        for line in ["cds", "cds ack", "rds +r", "rds ack"] {
            hears(line);
        }
        assert_eq!(hears("write cds:-X rds:r=2").0, "r@2");
        assert_eq!(hears("rds nack:bad").0, "");
        assert_eq!(hears(news[0]).0, "r@1");
        let (sent, states) = hears(news[1]);
        assert_eq!((&*sent, &*states), ("", "cds:X=Acked rds:r=Rejected(bad)"));
        assert_eq!(hears("write rds:r=3").0, "r@3");
        assert_eq!(
            hears("rds ack"),
            ("-X".into(), "cds:X=Absent rds:r=Acked".into())
        );
    }
}
