//! What was good before, for whom something new is not: where a source has that.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

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

/// Memory, and what was good before of some names.
struct Keeping {
    memory: Memory,
    before: HashMap<(ResourceType, String), Arc<Resource>>,
    refused: Mutex<HashMap<(ResourceType, String), Arc<str>>>,
}

impl View for Keeping {
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>> {
        let now = self.memory.get(kind, name)?;
        let key = (kind, name.to_owned());
        let refused = self.refused.lock().unwrap();
        let refused = refused.get(&key) == Some(now.version());
        let before = self.before.get(&key).filter(|_| refused);
        Some(before.unwrap_or(&now).clone())
    }

    fn refused(&self, kind: ResourceType, resource: &Resource) {
        let now = self.memory.get(kind, resource.name());
        if now.is_some_and(|now| now.version() == resource.version()) {
            let key = (kind, resource.name().to_string());
            let mut refused = self.refused.lock().unwrap();
            refused.insert(key, resource.version().clone());
        }
    }

    fn withheld(&self, kind: ResourceType, name: &str) -> Option<Arc<str>> {
        let now = self.memory.get(kind, name)?;
        (self.get(kind, name)? != now).then(|| now.version().clone())
    }

    fn wildcard(&self, kind: ResourceType) -> Vec<Arc<str>> {
        self.memory.wildcard(kind)
    }
}

/// As [`super::check`], where `before` was good before; `hear cds:a` says that a name is to be looked at; after `|`, if it
/// is there, how the stream stands.
fn check_keeping(mode: Mode, before: &str, script: &[&str]) {
    let mut driver = Driver::new(mode, Limits::default());
    driver.run(&format!("write {before}"));
    let (kind, rest) = before.split_once(':').unwrap();
    let (name, _) = rest.split_once('=').unwrap();
    let kind = ResourceType::from_type_url(&url(kind)).unwrap();
    let good = driver.memory.get(kind, name).unwrap();
    let view = Keeping {
        memory: driver.memory.clone(),
        before: HashMap::from([((kind, name.to_owned()), good)]),
        refused: Mutex::default(),
    };
    for (at, line) in script.iter().enumerate() {
        let (input, expected) = line.split_once("=>").unwrap();
        for part in input.trim().split(" & ") {
            let (kind, words) = part.split_once(' ').unwrap_or((part, ""));
            let words = words.split_whitespace();
            match kind {
                "write" => {
                    let changed = driver.write(words);
                    driver.stream.on_change(&changed);
                }
                "hear" => {
                    let names = words.map(|word| {
                        let (kind, name) = word.split_once(':').unwrap();
                        let kind = ResourceType::from_type_url(&url(kind)).unwrap();
                        (kind, name.into())
                    });
                    driver
                        .stream
                        .on_change(&Changed::of(names.collect::<Vec<_>>()));
                }
                kind => {
                    let request = driver.request(kind, words);
                    driver.stream.on_request(request, &view).unwrap();
                }
            }
        }
        let mut found = Vec::new();
        for action in driver.stream.flush(&view) {
            if let Action::Send(response) = action {
                let kind = ResourceType::from_type_url(&response.type_url).unwrap();
                driver.nonces.insert(short(kind).into(), response.nonce);
                let there = response.resources.iter();
                let there = there.map(|r| format!(" {r:?}").replace('@', "="));
                let gone = response.removed.iter().map(|name| format!(" -{name}"));
                let names: String = there.chain(gone).collect();
                found.push(format!("{}{names}", short(kind)));
            }
        }
        let (sent, states) = expected.split_once('|').unwrap_or((expected, ""));
        let place = format!("{mode:?} line {}: {line}", at + 1);
        assert_eq!(found.join("; "), sent.trim(), "{place}");
        if !states.is_empty() {
            assert_eq!(driver.states(), states.trim(), "{place}");
        }
    }
}

/// What is gone stays for what was good before and goes again, until something newer is taken.
#[test]
fn what_was_good_before_keeps_what_it_points_at() {
    for again in ["hear rds:r", "rds +r"] {
        check_keeping(
            Mode::Delta,
            "rds:r=1",
            &[
                "write cds:X=1 =>",
                "cds => cds X=1",
                "cds ack =>",
                "rds +r => rds r=1",
                "rds ack =>",
                "write cds:-X rds:r=2 => rds r=2",
                "rds nack:bad =>",
                &format!("{again} => rds r=1"),
                "rds ack => | cds:X=Acked rds:r=Rejected(bad)",
                "write rds:r=3 => rds r=3",
                "rds ack => cds -X | cds:X=Absent rds:r=Acked",
            ],
        );
    }
    // Also while it is only used, beside what Envoy lists.
    check_keeping(
        Mode::Delta,
        "lds:a=1",
        &[
            "write cds:X=1 =>",
            "cds +X => cds X=1",
            "cds ack =>",
            "lds +a => lds a=1",
            "lds ack =>",
            "write cds:-X lds:a=2 => lds a=2",
            "lds nack:bad =>",
            "hear lds:a & lds +b & write lds:b=2 => lds a=1 b=2",
            "lds nack:Error_adding/updating_listener(s)_b:_wrong => | cds:X=Acked lds:a=Rejected(bad) \
             lds:b=Rejected(Error adding/updating listener(s) b: wrong)",
        ],
    );
    check_keeping(
        Mode::Sotw,
        "lds:a=1",
        &[
            "write cds:X=1 =>",
            "cds => cds X=1",
            "cds ack =>",
            "lds => lds a=1",
            "lds ack =>",
            "write cds:-X lds:a=2 => lds a=2",
            "lds nack:bad =>",
            "hear lds:a & write lds:b=2 => lds a=1 b=2",
            "lds nack:Error_adding/updating_listener(s)_b:_wrong =>",
            "write lds:a=3 => lds a=3",
            "lds ack => cds",
        ],
    );
}

/// To reject that, too, changes nothing of what is kept from it, whether it was at fault or only came with what was.
#[test]
fn what_was_good_before_is_rejected_too() {
    check_keeping(
        Mode::Delta,
        "cds:a=1",
        &[
            "write cds:a=2 =>",
            "cds +a => cds a=2",
            "cds nack:bad => cds a=1",
            "cds nack:worse => | cds:a=Rejected(bad)",
            "hear cds:a =>",
            "cds +a => cds a=1",
            "cds ack => | cds:a=Rejected(bad)",
            "hear cds:a => | cds:a=Rejected(bad)",
            "write cds:a=3 => cds a=3",
            "cds ack => | cds:a=Acked",
        ],
    );
    check_keeping(
        Mode::Sotw,
        "lds:a=1",
        &[
            "write cds:X=1 lds:b=1 =>",
            "cds => cds X=1",
            "cds ack =>",
            "lds => lds a=1 b=1",
            "lds ack =>",
            "write cds:-X lds:a=2 => lds a=2 b=1",
            "lds nack:bad =>",
            "hear lds:a & write lds:b=2 => lds a=1 b=2",
            "lds nack:whatever => lds a=1 b=1",
            "lds ack => lds a=1 b=2",
            "lds ack => | cds:X=Acked lds:a=Rejected(bad) lds:b=Acked",
            "write lds:a=3 => lds a=3 b=2",
            "lds ack => cds",
        ],
    );
}
