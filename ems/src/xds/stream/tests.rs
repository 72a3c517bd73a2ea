//! The rules of the protocol as scripts. Each script names the sentence of Envoy's "xDS REST and gRPC protocol" page
//! (or of the comments in `discovery.proto`) that it stands for.
//!
//! A script is a list of lines `what the client or the server does => what is sent`:
//! * `cds +a -b a=1 ack` – a delta request: subscribe, unsubscribe, initial version, the last response's nonce;
//! * `cds a b ack` – a state-of-the-world request (`v:1` sets its version);
//! * `nack` instead of `ack` rejects, `nack:words` with these words; `nonce:7` is any nonce;
//! * `write cds:a=1 eds:-b` – one write, published (`a=1/9`: with a TTL of 9 seconds);
//! * `wait 3` – seconds pass;
//! * `this & that` – both happen before the server says anything;
//! * after `=>`: each response as its type and resources, `name=version`, or `-name` for what is removed, or
//!   `~name=version` for a heartbeat.
//!
//! A script of one type is run twice: on an aggregated stream, and on a stream of that type alone, whose requests need
//! not name it.

mod aggregated;
mod delta;
mod former;
mod order;
mod property;
mod rejection;
mod removal;
mod sotw;
mod trial;
mod ttl;

use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::xds::{Resource, memory::Memory};

/// Runs a script.
pub(super) fn check(mode: Mode, script: &[&str]) {
    check_on(&mut Driver::new(mode, Limits::default()), script);
    let kinds = script.iter().filter_map(|line| {
        let word = line.split([' ', ':']).next()?;
        (!["write", "lost", "wait"].contains(&word)).then_some(word)
    });
    let kinds: Vec<_> = kinds.collect();
    if let Some(first) = kinds.first()
        && kinds.iter().all(|kind| kind == first)
        && let Some(kind) = ResourceType::from_type_url(&url(first))
    {
        let mut driver = Driver::new(mode, Limits::default());
        driver.only = Some(kind);
        driver.stream = driver.new_stream();
        check_on(&mut driver, script);
    }
}

fn check_on(driver: &mut Driver, script: &[&str]) {
    for (at, line) in script.iter().enumerate() {
        let (input, expected) = line.split_once("=>").unwrap();
        let found = driver.run(input.trim()).join("; ");
        let only = driver.only;
        assert_eq!(found, expected.trim(), "{only:?} line {}: {line}", at + 1);
    }
}

struct Driver {
    memory: Memory,
    stream: Stream,
    nonces: HashMap<String, u64>,
    mode: Mode,
    only: Option<ResourceType>,
    limits: Arc<Limits>,
    now: Duration,
    actions: Vec<Action>,
}

fn short(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Secret => "sds",
        ResourceType::Cluster => "cds",
        ResourceType::Endpoints => "eds",
        ResourceType::ExtensionConfig => "ecds",
        ResourceType::Listener => "lds",
        ResourceType::Route => "rds",
    }
}

fn url(word: &str) -> String {
    match ResourceType::ALL.into_iter().find(|k| short(*k) == word) {
        Some(kind) => kind.type_url().to_owned(),
        None => word.to_owned(),
    }
}

impl Driver {
    fn new(mode: Mode, limits: Limits) -> Self {
        let limits = Arc::new(limits);
        Self {
            memory: Memory::default(),
            stream: Stream::new(mode, None, limits.clone()).with_ttl(true),
            nonces: HashMap::new(),
            mode,
            only: None,
            limits,
            now: Duration::ZERO,
            actions: Vec::new(),
        }
    }

    /// One on which nothing was said yet.
    fn new_stream(&self) -> Stream {
        Stream::new(self.mode, self.only, self.limits.clone()).with_ttl(true)
    }

    fn happens(&mut self, input: &str) -> Vec<Action> {
        let mut words = input.split_whitespace();
        match words.next().unwrap() {
            "write" => {
                let changed = self.write(words);
                self.stream.on_change(&changed);
                Vec::new()
            }
            "wait" => self.wait(words.next().unwrap().parse().unwrap()),
            // A write whose news did not get through.
            "lost" => {
                self.write(words);
                self.stream.on_doubt();
                Vec::new()
            }
            kind => {
                let request = self.request(kind, words);
                self.stream.on_request(request, &self.memory).unwrap()
            }
        }
    }

    fn run(&mut self, input: &str) -> Vec<String> {
        let happened = input.split(" & ").flat_map(|input| self.happens(input));
        let mut actions: Vec<_> = happened.collect();
        actions.extend(self.stream.flush(&self.memory));
        // Whoever holds a stream asks this after everything that happens.
        self.stream.wake_at(self.now);
        let mut sent = Vec::new();
        for action in &actions {
            if let Action::Send(response) = action {
                assert!(response.version.len() > 1);
                let kind = ResourceType::from_type_url(&response.type_url);
                let name = kind.map_or(response.type_url.as_ref(), |kind| short(kind));
                self.nonces.insert(name.to_owned(), response.nonce);
                let mut words = vec![name.to_owned()];
                words.extend(
                    response
                        .resources
                        .iter()
                        .map(|r| format!("{r:?}").replace('@', "=")),
                );
                words.extend(response.removed.iter().map(|n| format!("-{n}")));
                sent.push(words.join(" "));
            }
        }
        self.actions = actions;
        sent
    }

    fn wait(&mut self, seconds: u64) -> Vec<Action> {
        let end = self.now + Duration::from_secs(seconds);
        let mut actions = Vec::new();
        while let Some(next) = self.stream.wake_at(self.now).filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.stream.on_tick(self.now);
            actions.extend(self.stream.flush(&self.memory));
        }
        self.now = end;
        actions
    }

    fn write<'a>(&self, words: impl Iterator<Item = &'a str>) -> Changed {
        self.memory.write(|write| {
            for word in words {
                let (kind, what) = word.split_once(':').unwrap();
                let kind = ResourceType::from_type_url(&url(kind)).unwrap();
                match (what.strip_prefix('-'), what.split_once('=')) {
                    (Some(name), _) => write.remove(kind, name),
                    (None, Some((name, version))) => {
                        let (version, ttl) = version.split_once('/').unwrap_or((version, ""));
                        let body = version.as_bytes();
                        let resource = Resource::with_version(kind, name, version, body);
                        write.put(
                            kind,
                            match ttl.parse() {
                                Ok(seconds) => resource.expiring(Duration::from_secs(seconds)),
                                Err(_) => resource,
                            },
                        );
                    }
                    (None, None) => panic!("{word}"),
                }
            }
        })
    }

    fn request<'a>(&self, kind: &str, words: impl Iterator<Item = &'a str>) -> Request {
        let mut request = Request {
            type_url: match self.only {
                Some(_) => String::new(),
                None => url(kind),
            },
            ..Request::default()
        };
        let (mut plus, mut minus, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        let (mut had, mut seen) = (HashMap::new(), String::new());
        for word in words {
            let last = || {
                self.nonces
                    .get(kind)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            };
            if let Some(name) = word.strip_prefix('+') {
                plus.push(name.to_owned());
            } else if let Some(name) = word.strip_prefix('-') {
                minus.push(name.to_owned());
            } else if let Some((name, version)) = word.split_once('=') {
                had.insert(name.to_owned(), version.to_owned());
            } else if word == "ack" {
                request.nonce = last();
            } else if let Some(error) = word.strip_prefix("nack") {
                request.nonce = last();
                request.error = Some(error.trim_start_matches(':').replace('_', " "));
            } else if let Some(nonce) = word.strip_prefix("nonce:") {
                request.nonce = nonce.to_owned();
            } else if let Some(version) = word.strip_prefix("v:") {
                seen = version.to_owned();
            } else {
                bare.push(word.to_owned());
            }
        }
        request.ask = match self.mode {
            Mode::Delta => {
                assert!(bare.is_empty(), "{bare:?}");
                Ask::Delta {
                    subscribe: plus,
                    unsubscribe: minus,
                    initial: had,
                }
            }
            Mode::Sotw => Ask::Sotw {
                names: bare,
                version: seen,
            },
        };
        request
    }

    /// What became bad or good again by the last line.
    fn ruled(&self) -> String {
        let ruled = self.actions.iter().filter_map(|action| match action {
            Action::Ruled(_, resource) => Some(format!("{resource:?}").replace('@', "=")),
            _ => None,
        });
        ruled.collect::<Vec<_>>().join(" ")
    }

    fn states(&self) -> String {
        let mut all: Vec<_> = self
            .stream
            .status()
            .map(|s| {
                let error = s.error.map(|e| format!("({e})")).unwrap_or_default();
                format!("{}:{}={:?}{error}", short(s.kind), s.name, s.state)
            })
            .collect();
        all.sort();
        all.join(" ")
    }
}

#[test]
fn limits() {
    let limits = Limits {
        names: 2,
        name_bytes: 4,
        ..Limits::default()
    };
    for (mode, script, refusal) in [
        (Mode::Delta, &["cds +a +b", "cds +b"][..], None),
        (Mode::Delta, &["cds +a +b", "cds -a +c"], None),
        (
            Mode::Delta,
            &["cds +a +b", "cds +c"],
            Some("at most 2 names of type cluster"),
        ),
        (
            Mode::Delta,
            &["cds +a x=1 y=1 z=1"],
            Some("at most 2 names"),
        ),
        (
            Mode::Delta,
            &["cds +abcde"],
            Some("5 bytes is too long; at most 4"),
        ),
        (Mode::Delta, &["cds abcde=1"], Some("5 bytes is too long")),
        (Mode::Delta, &["unheard.of +abcd"], None),
        (
            Mode::Delta,
            &["unheard.of +abcde"],
            Some("5 bytes is too long"),
        ),
        (Mode::Sotw, &["eds a b", "eds c d"], None),
        (
            Mode::Sotw,
            &["eds a b c"],
            Some("at most 2 names of type endpoints"),
        ),
        (Mode::Sotw, &["eds abcde"], Some("5 bytes is too long")),
        (Mode::Delta, &["cds +a", "cds -a +abcde"], Some("5 bytes")),
        (
            Mode::Delta,
            &["cds +a +b", "cds -a +c +d"],
            Some("at most 2 names"),
        ),
        (Mode::Delta, &["cds +a +b", "cds -a +c +b"], None),
        (Mode::Sotw, &["eds a b", "eds b abcde"], Some("5 bytes")),
    ] {
        let mut driver = Driver::new(mode, limits.clone());
        let mut last = Ok(Vec::new());
        let mut index = BTreeSet::new();
        for line in script {
            let (kind, words) = line.split_once(' ').unwrap();
            let request = driver.request(kind, words.split(' '));
            last = driver.stream.on_request(request, &driver.memory);
            let (Ok(actions) | Err(Refused { done: actions, .. })) = &last;
            for action in actions {
                match action {
                    Action::Follow(kind, name) => index.insert((*kind, name.clone())),
                    Action::Unfollow(kind, name) => index.remove(&(*kind, name.clone())),
                    _ => false,
                };
            }
        }
        // Or the index would remember the stream's names after it.
        assert_eq!(index, driver.stream.followed().collect(), "{script:?}");
        match (last, refusal) {
            (Ok(_), None) => {}
            (Err(Refused { why, .. }), Some(words)) => {
                assert!(why.to_string().contains(words), "{why}");
            }
            (last, refusal) => panic!("{script:?}: {last:?} instead of {refusal:?}"),
        }
    }
}

#[test]
fn types_of_a_stream() {
    let cds = ResourceType::Cluster;
    let request = |type_url: &str| Request {
        type_url: type_url.into(),
        ..Request::default()
    };
    for (only, type_url, refused) in [
        (Some(cds), "", false),
        (Some(cds), cds.type_url(), false),
        (Some(cds), ResourceType::Route.type_url(), true),
        (None, "", true),
        (None, "type.googleapis.com/unheard.of", false),
    ] {
        let mut stream = Stream::new(Mode::Delta, only, Arc::new(Limits::default()));
        let answer = stream.on_request(request(type_url), &Memory::default());
        assert_eq!(answer.is_err(), refused, "{only:?} {type_url}");
    }
    // The refusal goes to the log and to the client: neither is to get all of it.
    let mut stream = Stream::new(Mode::Delta, Some(cds), Arc::default());
    let long = request(&"x".repeat(1 << 20));
    let refused = stream.on_request(long, &Memory::default()).unwrap_err();
    let words = refused.why.to_string();
    assert!(
        words.contains("not \"xxx") && words.len() < 8_192,
        "{}",
        words.len()
    );
}

/// The names of what it says it has from an earlier stream count, over all types; said once more they are not heard.
#[test]
fn what_a_client_says_it_has_is_bounded() {
    let limits = Limits {
        all_names_bytes: 10,
        ..Limits::default()
    };
    for (lines, refused) in [
        (&["cds +a 0123456789=1"][..], false),
        (&["cds +a 0123456789=1 0123456788=1"], false),
        (&["cds +a 0123456789=1", "eds +b 0123456789=1"], false),
        (&["cds +a 0123456789=1", "eds +b 01234567890=1"], true),
        (&["cds +a 0123456789=1 0123456788=1 b=1"], true),
        (
            &["cds +a 0123456789=1", "cds 0123456789=1 0123456788=1"],
            false,
        ),
    ] {
        let mut driver = Driver::new(Mode::Delta, limits.clone());
        let answers = lines.iter().map(|line| {
            let (kind, words) = line.split_once(' ').unwrap();
            let request = driver.request(kind, words.split_whitespace());
            driver.stream.on_request(request, &driver.memory).map(drop)
        });
        let last = answers.last().unwrap();
        let why = last.err().map(|refused| refused.why);
        let expected = refused.then_some(Refusal::NamesTooLong { limit: 10 });
        assert_eq!(why, expected, "{lines:?}");
    }
    let none = Limits {
        all_names_bytes: usize::MAX,
        ..Limits::default()
    };
    let mut driver = Driver::new(Mode::Delta, none);
    assert_eq!(driver.run("cds +a b=1"), ["cds -a"]);
}

/// A source that is told what nobody needs.
struct Noting(Memory, std::sync::Mutex<BTreeSet<String>>);

impl View for Noting {
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>> {
        self.1.lock().unwrap().remove(name);
        self.0.get(kind, name)
    }

    fn unused(&self, _kind: ResourceType, name: &str) {
        self.1.lock().unwrap().insert(name.to_owned());
    }

    fn wildcard(&self, kind: ResourceType) -> Vec<Arc<str>> {
        self.0.wildcard(kind)
    }

    fn covers(&self, kind: ResourceType, name: &str) -> bool {
        self.0.covers(kind, name)
    }
}

/// After each line: the names that were given back and not looked at since.
#[test]
fn names_are_given_back() {
    let delta = [
        ("cds +a +b +x", ""),
        ("cds ack -b -x", "b x"),
        ("cds +b", "x"),
        ("cds ack -b +b", "x"),
        ("cds ack +*", "x"),
        // The wildcard covers it.
        ("cds ack -a", "x"),
        ("cds ack", "x"),
        ("cds -*", "a c x"),
        ("cds -b", "a b c x"),
    ];
    let sotw = [
        ("eds a b x", ""),
        ("eds ack a", "b x"),
        ("eds a b", "x"),
        ("eds ack c", "a b x"),
    ];
    for (mode, lines) in [(Mode::Delta, &delta[..]), (Mode::Sotw, &sotw)] {
        let mut driver = Driver::new(mode, Limits::default());
        driver.run("write cds:a=1 cds:b=1 cds:c=1 eds:a=1 eds:b=1 eds:c=1");
        let view = Noting(driver.memory.clone(), Default::default());
        for (line, expected) in lines {
            let (kind, words) = line.split_once(' ').unwrap();
            let request = driver.request(kind, words.split(' '));
            driver.stream.on_request(request, &view).unwrap();
            for action in driver.stream.flush(&view) {
                if let Action::Send(response) = action {
                    driver.nonces.insert(kind.to_owned(), response.nonce);
                }
            }
            let given_back: Vec<_> = view.1.lock().unwrap().iter().cloned().collect();
            assert_eq!(given_back.join(" "), *expected, "{mode:?} {line}");
        }
    }
}
