//! For any sequence of requests and writes: a client that answers everything ends with exactly what it subscribed to.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const KINDS: [ResourceType; 3] = [
    ResourceType::Cluster,
    ResourceType::Endpoints,
    ResourceType::Route,
];

#[derive(Clone, Debug)]
enum Step {
    /// Subscribe to and unsubscribe from names; 0 stands for the wildcard.
    Ask(usize, Vec<u8>, Vec<u8>),
    /// Set (version above 0) or remove resources.
    Write(Vec<(usize, u8, u8)>),
    /// Answer the responses of a type, or reject them.
    Answer(usize, bool),
    /// Miss a write.
    Lost(usize, u8, u8),
    /// Come back on a new stream.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 1_u8..5;
    let maybe_all = 0_u8..5;
    prop_oneof![
        (
            0..KINDS.len(),
            prop::collection::vec(maybe_all.clone(), 0..3),
            prop::collection::vec(maybe_all, 0..2)
        )
            .prop_map(|(kind, plus, minus)| Step::Ask(kind, plus, minus)),
        prop::collection::vec((0..KINDS.len(), name.clone(), 0_u8..4), 1..4).prop_map(Step::Write),
        (0..KINDS.len(), prop::bool::weighted(0.2)).prop_map(|(k, bad)| Step::Answer(k, bad)),
        (0..KINDS.len(), name, 0_u8..4).prop_map(|(k, n, v)| Step::Lost(k, n, v)),
        Just(Step::Reconnect),
    ]
}

/// What one client knows of one type.
#[derive(Default)]
struct Known {
    names: BTreeSet<String>,
    wildcard: bool,
    asked: bool,
    named: bool,
    has: BTreeMap<String, String>,
    /// Nonces to answer.
    open: Vec<u64>,
    /// Names whose next response may repeat a version: asked for, or their cluster changed.
    excused: BTreeSet<String>,
    /// What was sent last on this stream, whether rejected or not.
    sent: BTreeMap<String, Option<String>>,
}

struct Client {
    mode: Mode,
    memory: Memory,
    stream: Stream,
    known: Vec<Known>,
}

impl Client {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            memory: Memory::default(),
            stream: Stream::new(mode, None, Arc::default()),
            known: KINDS.iter().map(|_| Known::default()).collect(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask(at, plus, minus) => self.ask(at, &plus, &minus),
            Step::Write(writes) => {
                let changed = self.write(&writes);
                let actions = self.stream.on_change(&changed, &self.memory);
                self.take(actions);
            }
            Step::Lost(kind, name, version) => {
                self.write(&[(kind, name, version)]);
                let actions = self.stream.on_doubt(&self.memory);
                self.take(actions);
            }
            Step::Answer(at, bad) => self.answer(at, bad),
            Step::Reconnect => self.reconnect(),
        }
    }

    fn write(&mut self, writes: &[(usize, u8, u8)]) -> Changed {
        for (kind, name, _) in writes.iter().filter(|(_, _, version)| *version == 0) {
            if self.mode == Mode::Sotw {
                // The client is not told, but what comes back is sent.
                self.known[*kind].excused.insert(format!("n{name}"));
            }
        }
        self.memory.write(|write| {
            for &(kind, name, version) in writes {
                let (kind, name) = (KINDS[kind], format!("n{name}"));
                if version == 0 {
                    write.remove(kind, &name);
                } else {
                    let version = format!("v{version}");
                    write.put(kind, Resource::with_version(kind, name, version, b""));
                }
            }
        })
    }

    fn ask(&mut self, at: usize, plus: &[u8], minus: &[u8]) {
        let known = &mut self.known[at];
        let text = |n: &u8| {
            if *n == 0 {
                "*".to_owned()
            } else {
                format!("n{n}")
            }
        };
        let (plus, minus): (Vec<_>, Vec<_>) = (
            plus.iter().map(text).collect(),
            minus.iter().map(text).collect(),
        );
        let first = !std::mem::replace(&mut known.asked, true);
        if first && plus.is_empty() && (minus.is_empty() || self.mode == Mode::Sotw) {
            known.wildcard = true;
        }
        let (had_all, before) = (known.wildcard, known.names.clone());
        for name in &minus {
            match &**name {
                "*" => known.wildcard = false,
                name => drop(known.names.remove(name)),
            }
        }
        if self.mode == Mode::Delta {
            // Even if the same request asks for it again, it starts anew.
            known.sent.retain(|name, _| !minus.contains(name));
        }
        for name in &plus {
            match &**name {
                "*" => known.wildcard = true,
                name => drop(known.names.insert(name.to_owned())),
            }
        }
        if self.mode == Mode::Sotw {
            known.named |= known.wildcard && !first || !known.names.is_empty() || !plus.is_empty();
            if !known.named {
                known.wildcard = true;
            }
        }
        let everything = (1..5).map(|n| format!("n{n}"));
        let resubscribed = plus.iter().any(|name| name == "*") || (known.wildcard && !had_all);
        if resubscribed || first {
            known.excused.extend(everything);
        }
        known.excused.extend(plus.iter().cloned());
        known.excused.extend(minus.iter().cloned());
        known
            .excused
            .extend(known.names.difference(&before).cloned());
        // A client forgets what it no longer subscribes to.
        let (all, names) = (known.wildcard, known.names.clone());
        known.has.retain(|name, _| all || names.contains(name));
        known.sent.retain(|name, _| all || names.contains(name));
        let ask = self.subscription(at, plus, minus);
        self.request(at, None, None, ask);
    }

    fn subscription(&self, at: usize, plus: Vec<String>, minus: Vec<String>) -> Ask {
        match self.mode {
            Mode::Delta => Ask::Delta {
                subscribe: plus,
                unsubscribe: minus,
                initial: HashMap::new(),
            },
            Mode::Sotw => {
                let known = &self.known[at];
                let mut names: Vec<String> = known.names.iter().cloned().collect();
                if known.wildcard && known.named {
                    names.push("*".into());
                }
                Ask::Sotw {
                    names,
                    version: String::new(),
                }
            }
        }
    }

    fn request(&mut self, at: usize, nonce: Option<u64>, error: Option<&str>, ask: Ask) {
        let request = Request {
            type_url: KINDS[at].type_url().into(),
            nonce: nonce.map(|n| n.to_string()).unwrap_or_default(),
            error: error.map(Into::into),
            ask,
        };
        let actions = self.stream.on_request(request, &self.memory).unwrap();
        self.take(actions);
    }

    fn answer(&mut self, at: usize, bad: bool) {
        let Some(nonce) = self.known[at].open.pop() else {
            return;
        };
        let ask = self.subscription(at, Vec::new(), Vec::new());
        self.request(at, Some(nonce), bad.then_some("bad"), ask);
    }

    fn reconnect(&mut self) {
        self.stream = Stream::new(self.mode, None, Arc::default());
        for at in 0..KINDS.len() {
            let known = &mut self.known[at];
            known.open.clear();
            known.sent = BTreeMap::new();
            if !known.asked {
                continue;
            }
            if !known.wildcard && known.names.is_empty() {
                *known = Known::default();
                continue;
            }
            known.named = true;
            known.excused.extend((1..5).map(|n| format!("n{n}")));
            if self.mode == Mode::Delta {
                known
                    .sent
                    .extend(known.has.iter().map(|(n, v)| (n.clone(), Some(v.clone()))));
            }
            let initial = known.has.clone().into_iter().collect();
            let mut plus: Vec<String> = known.names.iter().cloned().collect();
            if known.wildcard {
                plus.push("*".into());
            }
            let ask = match self.mode {
                Mode::Delta => Ask::Delta {
                    subscribe: plus,
                    unsubscribe: Vec::new(),
                    initial,
                },
                Mode::Sotw => self.subscription(at, Vec::new(), Vec::new()),
            };
            self.request(at, None, None, ask);
        }
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            let Action::Send(response) = action else {
                continue;
            };
            let kind = ResourceType::from_type_url(&response.type_url).unwrap();
            let at = KINDS.iter().position(|k| *k == kind).unwrap();
            let full = self.mode == Mode::Sotw && kind == ResourceType::Cluster;
            let mut updated = Vec::new();
            let known = &mut self.known[at];
            assert!(known.open.is_empty(), "two in flight: {response:?}");
            known.open.push(response.nonce);
            let mut seen = BTreeSet::new();
            for resource in &*response.resources {
                let (name, version) = (resource.name().to_string(), resource.version().to_string());
                assert!(seen.insert(name.clone()), "{name} twice in {response:?}");
                let before = known.sent.insert(name.clone(), Some(version.clone()));
                let same = before.flatten().as_ref() == Some(&version);
                assert!(
                    !same || full || known.excused.contains(&name),
                    "{name}@{version} again without reason: {response:?}"
                );
                if !same {
                    updated.push(name.clone());
                }
                known.excused.remove(&name);
                known.has.insert(name, version);
            }
            for name in response.removed.iter().map(ToString::to_string) {
                assert!(seen.insert(name.clone()), "{name} twice in {response:?}");
                let before = known.sent.insert(name.clone(), None);
                assert!(
                    before != Some(None) || known.excused.contains(&name),
                    "-{name} again without reason: {response:?}"
                );
                known.excused.remove(&name);
                known.has.remove(&name);
            }
            if full {
                known.has.retain(|name, _| seen.contains(name));
                known.sent.retain(|name, _| seen.contains(name));
            }
            if kind == ResourceType::Cluster {
                self.known[1].excused.extend(updated);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            if self.known.iter().all(|known| known.open.is_empty()) {
                return;
            }
            for at in 0..KINDS.len() {
                self.answer(at, false);
            }
        }
        panic!("responses without end");
    }

    /// What the client should have: what it subscribed to and what exists.
    fn expected(&self, at: usize) -> BTreeMap<String, String> {
        let known = &self.known[at];
        let exists = self.memory.wildcard(KINDS[at]);
        exists
            .iter()
            .filter(|name| known.asked && (known.wildcard || known.names.contains(&***name)))
            .map(|name| {
                let resource = self.memory.get(KINDS[at], name).unwrap();
                (name.to_string(), resource.version().to_string())
            })
            .collect()
    }
}

fn run(mode: Mode, steps: Vec<Step>) {
    let mut client = Client::new(mode);
    for step in steps {
        client.step(step);
    }
    client.settle();
    for (at, kind) in KINDS.into_iter().enumerate() {
        let expected = client.expected(at);
        let mut has = client.known[at].has.clone();
        if mode == Mode::Sotw && kind != ResourceType::Cluster {
            // Removals cannot be said.
            has.retain(|name, _| expected.contains_key(name));
        }
        assert_eq!(has, expected, "{kind}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn delta_client_has_what_it_asked_for(steps in prop::collection::vec(step(), 0..40)) {
        run(Mode::Delta, steps);
    }

    #[test]
    fn sotw_client_has_what_it_asked_for(steps in prop::collection::vec(step(), 0..40)) {
        run(Mode::Sotw, steps);
    }
}
