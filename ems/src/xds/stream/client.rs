//! A model of a client, and what must be true of every stream: for the property tests beside it and for the fuzz target
//! `stream`, which run the same steps from different sources of chance.
//!
//! It is built for them alone and fails by panicking, like any test.
#![allow(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed check is a panic"
)]

mod checks;
mod known;
mod step;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{Action, Ask, Mode, Request, Response, Stream};
use crate::xds::{Changed, Resource, ResourceType, View, memory::Memory};

use known::Known;
pub use step::{Step, With};

/// The types that the model works with.
pub const KINDS: [ResourceType; 6] = [
    ResourceType::Cluster,
    ResourceType::Endpoints,
    ResourceType::Listener,
    ResourceType::Route,
    ResourceType::ExtensionConfig,
    ResourceType::Secret,
];

/// Names are numbers from 1 to this; 0 stands for the wildcard.
pub const NAMES: u8 = 4;

/// Versions are numbers up to this; 0 stands for what does not exist, and the last one comes with a TTL.
pub const VERSIONS: u8 = 4;

/// The TTL of the last version.
const TTL: Duration = Duration::from_secs(9);

/// Names that a stream may keep notes of beyond those that exist, per type: its backlog.
const BACKLOG: usize = 1_024;

/// A client and its stream.
struct Client {
    mode: Mode,
    /// It never subscribes to everything by saying nothing.
    explicit: bool,
    memory: Memory,
    stream: Stream,
    known: Vec<Known>,
    now: Duration,
    churned: u64,
    /// What may happen before the server says anything.
    held: u8,
    /// Something happened to which the server could not yet say anything.
    unsaid: bool,
}

/// Runs the steps; then the client answers everything, and must have exactly what it subscribed to. Once with versions of
/// types that say what they hold, and once with one that always stays the same.
pub fn run(mode: Mode, steps: &[Step]) {
    for given in [None, Some("given")] {
        let mut client = Client::new(mode, false);
        client.memory.write(|write| {
            for kind in KINDS {
                write.version(kind, given.map(Into::into));
            }
        });
        for step in steps {
            client.step(step);
        }
        client.finish();
    }
}

/// Runs the steps with a client of each variant; both must have the same in the end. They always say what they want: what
/// it means to say nothing is another thing in either.
pub fn compare(steps: &[Step]) {
    let [delta, sotw] = [Mode::Delta, Mode::Sotw].map(|mode| {
        let mut client = Client::new(mode, true);
        for step in steps {
            client.step(step);
        }
        client.finish();
        client.known
    });
    for (at, (mut delta, mut sotw)) in delta.into_iter().zip(sotw).enumerate() {
        // What was rejected may be gone with its TTL.
        let refused: BTreeSet<_> = delta.refused.union(&sotw.refused).cloned().collect();
        for has in [&mut delta.has, &mut sotw.has] {
            has.retain(|name, _| !refused.contains(name));
        }
        assert_eq!(delta.has, sotw.has, "{}", KINDS[at]);
    }
}

impl Client {
    fn new(mode: Mode, explicit: bool) -> Self {
        Self {
            mode,
            explicit,
            memory: Memory::default(),
            stream: new_stream(mode),
            known: KINDS.iter().map(|_| Known::default()).collect(),
            now: Duration::ZERO,
            churned: 0,
            held: 0,
            unsaid: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ask(at, plus, minus, with) => self.ask(at % KINDS.len(), plus, minus, *with),
            Step::Write(writes) => {
                let changed = self.write(writes);
                self.stream.on_change(&changed);
                self.flush();
            }
            Step::Lost(kind, name, version) => {
                self.write(&[(*kind, *name, *version)]);
                self.stream.on_doubt();
                self.flush();
            }
            Step::Answer(at, with) => self.answer(at % KINDS.len(), *with),
            Step::Churn(at, names) => self.churn(at % KINDS.len(), *names),
            Step::Foreign(name) => self.foreign(*name),
            Step::Wait(seconds) => self.wait(Duration::from_secs(u64::from(*seconds))),
            Step::Reconnect => self.reconnect(),
            Step::Hold(things) => self.held = things % 8,
        }
        if !self.unsaid {
            self.check_notes();
        }
        // As whoever holds a stream has to.
        self.stream.wake_at(self.now);
    }

    fn write(&mut self, writes: &[(usize, u8, u8)]) -> Changed {
        let writes: Vec<_> = writes
            .iter()
            .map(|&(kind, name, version)| {
                let name = format!("n{}", name % NAMES + 1);
                (kind % KINDS.len(), name, version % (VERSIONS + 1))
            })
            .collect();
        for (kind, name, version) in &writes {
            if *version == 0 && self.mode == Mode::Sotw {
                // The client is not told, but what comes back is sent, and nobody keeps alive what was before.
                let known = &mut self.known[*kind];
                known.excused.insert(name.clone());
                known.keeps.remove(name);
            }
        }
        self.memory.write(|write| {
            for (kind, name, version) in writes {
                let kind = KINDS[kind];
                if version == 0 {
                    write.remove(kind, &name);
                    continue;
                }
                let resource = Resource::with_version(kind, name, format!("v{version}"), b"");
                if version == VERSIONS {
                    write.put(kind, resource.expiring(TTL));
                } else {
                    write.put(kind, resource);
                }
            }
        })
    }

    fn churn(&mut self, at: usize, names: u8) {
        for _ in 0..names {
            self.churned += 1;
            let (kind, name) = (KINDS[at], format!("c{}", self.churned));
            if self.mode == Mode::Sotw {
                self.known[at].excused.insert(name.clone());
            }
            let new = Resource::with_version(kind, name.clone(), "v1", b"");
            let changed = self.memory.write(|write| write.put(kind, new));
            self.stream.on_change(&changed);
            self.flush();
            let changed = self.memory.write(|write| write.remove(kind, &name));
            self.stream.on_change(&changed);
            self.flush();
        }
    }

    fn foreign(&mut self, name: u8) {
        let url = "type.googleapis.com/nobody.serves.This";
        let ask = match self.mode {
            Mode::Delta => Ask::Delta {
                subscribe: vec![format!("n{name}")],
                unsubscribe: Vec::new(),
                initial: HashMap::new(),
            },
            Mode::Sotw => Ask::Sotw {
                names: vec![format!("n{name}")],
                version: String::new(),
            },
        };
        let request = Request {
            type_url: url.into(),
            ask,
            ..Request::default()
        };
        let actions = self.stream.on_request(request, &self.memory).unwrap();
        for action in actions {
            let Action::Send(response) = action else {
                panic!("{action:?}")
            };
            assert_eq!(response.type_url, url);
            assert_eq!(response.removed, [format!("n{name}").into()].into());
        }
    }

    fn ask(&mut self, at: usize, plus: &[u8], minus: &[u8], with: With) {
        let known = &mut self.known[at];
        let text = |n: &u8| match n % (NAMES + 1) {
            0 => "*".to_owned(),
            n => format!("n{n}"),
        };
        let (plus, minus): (Vec<_>, Vec<_>) = (
            plus.iter().map(text).collect(),
            minus.iter().map(text).collect(),
        );
        if self.explicit && !known.asked && plus.is_empty() {
            return;
        }
        let first = !std::mem::replace(&mut known.asked, true);
        let (had_all, before) = (known.wildcard, known.names.clone());
        match self.mode {
            Mode::Delta => {
                known.wildcard |= plus.is_empty() && minus.is_empty() && !known.named;
                known.named |= !plus.is_empty() || minus.iter().any(|name| name == "*");
            }
            Mode::Sotw => known.wildcard |= first && plus.is_empty(),
        }
        for name in &minus {
            match &**name {
                "*" => known.wildcard = false,
                name => drop(known.names.remove(name)),
            }
        }
        if self.mode == Mode::Delta {
            // Even if the same request asks for it again, or takes it, it starts anew; not what the wildcard covers, also if
            // that is given up with it.
            let covered = had_all || known.wildcard || plus.iter().any(|name| name == "*");
            known.sent.retain(|name, _| !minus.contains(name));
            for name in &minus {
                known.keeps.remove(name);
                if !covered {
                    known.before.remove(name);
                }
            }
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
        let everything = (1..=NAMES).map(|n| format!("n{n}"));
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
        known.took.retain(|name, _| all || names.contains(name));
        known.before.retain(|name, _| all || names.contains(name));
        known.gone.retain(|name, _| all || names.contains(name));
        known.clings.retain(|name| all || names.contains(name));
        known.keeps.retain(|name| all || names.contains(name));
        let ask = self.subscription(at, plus, minus);
        self.request(at, with, ask);
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
                    version: known.version.clone(),
                }
            }
        }
    }

    /// A request, and what it says about the response in flight, if there is one.
    fn request(&mut self, at: usize, with: With, ask: Ask) {
        let known = &mut self.known[at];
        let mut request = Request {
            type_url: KINDS[at].type_url().into(),
            ask,
            ..Request::default()
        };
        let in_flight = known.open.as_ref().map(|response| response.nonce);
        match with {
            With::Nothing => {}
            With::Stale(nonce) if Some(nonce) == in_flight => {}
            With::Stale(nonce) => request.nonce = nonce.to_string(),
            With::Ack | With::Nack | With::Blame => {
                if let Some(response) = known.open.take() {
                    request.nonce = response.nonce.to_string();
                    let suspect = known.suspect(&response);
                    let suspect = suspect.filter(|_| with == With::Blame);
                    if let Some(name) = suspect {
                        let words = match KINDS[at] {
                            ResourceType::Cluster => "Error adding/updating cluster(s) ",
                            ResourceType::Listener => "Error adding/updating listener(s) ",
                            _ => "",
                        };
                        request.error = Some(format!("{words}{name}: bad"));
                        if words.is_empty() {
                            known.blame(&response, &name, self.now);
                        } else {
                            known.use_beside(&response, &name, self.now);
                        }
                    } else if with != With::Ack {
                        request.error = Some("bad".into());
                        known.reject(&response, self.now);
                    } else {
                        known.accept(&response);
                        known.version = response.version.to_string();
                        if let Ask::Sotw { version, .. } = &mut request.ask {
                            version.clone_from(&known.version);
                        }
                    }
                }
            }
        }
        self.stream.on_request(request, &self.memory).unwrap();
        self.flush();
    }

    fn answer(&mut self, at: usize, with: With) {
        if self.known[at].open.is_some() {
            let ask = self.subscription(at, Vec::new(), Vec::new());
            self.request(at, with, ask);
        }
    }

    fn reconnect(&mut self) {
        self.stream = new_stream(self.mode);
        for (at, kind) in KINDS.into_iter().enumerate() {
            let known = &mut self.known[at];
            known.open = None;
            known.sent = BTreeMap::new();
            // By what the client says it has, the server knows of what is current that it took it.
            let current = |name: &str| Some(self.memory.get(kind, name)?.version().to_string());
            let has = known.has.iter();
            let has = has.filter(|(name, version)| current(name).as_ref() == Some(version));
            known.took = has.map(|(n, v)| (n.clone(), v.clone())).collect();
            known.keeps.clear();
            if !known.asked {
                continue;
            }
            if !known.wildcard && known.names.is_empty() {
                *known = Known::default();
                continue;
            }
            known.named = true;
            known.excused.extend((1..=NAMES).map(|n| format!("n{n}")));
            known.unknown.extend(std::mem::take(&mut known.untold));
            let mut initial: HashMap<_, _> = known.has.clone().into_iter().collect();
            initial.retain(|name, _| !known.unknown.contains(name));
            if self.mode == Mode::Delta {
                let has = initial.iter().map(|(n, v)| (n.clone(), Some(v.clone())));
                known.sent.extend(has);
            }
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
            self.request(at, With::Nothing, ask);
        }
    }

    /// Lets time pass, and does what has to be done meanwhile.
    fn wait(&mut self, time: Duration) {
        self.held = 0;
        self.flush();
        let end = self.now + time;
        while let Some(next) = self.stream.wake_at(self.now).filter(|next| *next <= end) {
            self.pass_to(next);
            self.stream.on_tick(self.now);
            let busy = self.flush();
            let again = self.stream.wake_at(self.now);
            assert!(
                busy || again.is_none_or(|again| again > self.now),
                "called again and again for nothing at {:?}",
                self.now
            );
        }
        self.pass_to(end);
    }

    /// A client forgets what has expired.
    fn pass_to(&mut self, time: Duration) {
        self.now = self.now.max(time);
        for known in &mut self.known {
            let (until, now) = (&known.until, self.now);
            known
                .has
                .retain(|name, _| until.get(name).is_none_or(|until| *until > now));
        }
    }

    /// True: something was sent.
    fn flush(&mut self) -> bool {
        if self.held > 0 {
            self.held -= 1;
            self.unsaid = true;
            return false;
        }
        self.unsaid = false;
        let actions = self.stream.flush(&self.memory);
        let busy = !actions.is_empty();
        for action in actions {
            if let Action::Send(response) = action {
                self.receive(response);
            }
        }
        busy
    }

    fn receive(&mut self, response: Response) {
        let kind = ResourceType::from_type_url(&response.type_url).unwrap();
        let at = KINDS.iter().position(|k| *k == kind).unwrap();
        let full = self.is_full(kind);
        let known = &mut self.known[at];
        let updated = known.receive(response, self.now, full, |name| {
            Some(self.memory.get(kind, name)?.version().clone())
        });
        if kind == ResourceType::Cluster {
            self.known[1].follows.extend(updated);
        }
    }

    fn is_full(&self, kind: ResourceType) -> bool {
        self.mode == Mode::Sotw && matches!(kind, ResourceType::Cluster | ResourceType::Listener)
    }
}

fn new_stream(mode: Mode) -> Stream {
    Stream::new(mode, None, Arc::default()).with_ttl(true)
}
