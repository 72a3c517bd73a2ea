//! For any sequence of writes and answers: nothing reaches a client before what it may point at, and nothing is taken from
//! it while something that it has may still point there. A model of its own, in which a version is the wave that wrote it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

#[derive(Clone, Debug)]
enum Step {
    /// Names of types are written, or removed, at once; the news may be lost but for that there were some.
    Write(Vec<(usize, usize, bool)>, bool),
    /// What is in flight of a type is answered.
    Answer(usize, Answer),
    /// The client comes back on a new stream, and says what it has.
    Reconnect,
    /// By delta the client asks again for a name.
    Ask(usize, usize),
    /// All of these are heard before anything is said.
    Together(Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Take,
    /// All that is new in it is wrong, says the client.
    RejectAll,
    /// The first of that.
    RejectOne,
    /// Something is wrong; it took nothing.
    Reject,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => one(),
        1 => prop::collection::vec(one(), 2..5).prop_map(Step::Together),
    ]
}

fn one() -> impl Strategy<Value = Step> {
    let kind = 0..ResourceType::ALL.len();
    let one = (kind.clone(), 0..NAMES.len(), prop::bool::weighted(0.7));
    prop_oneof![
        3 => (prop::collection::vec(one, 1..5), prop::bool::weighted(0.1))
            .prop_map(|(writes, lost)| Step::Write(writes, lost)),
        4 => (kind.clone(), answer()).prop_map(|(kind, answer)| Step::Answer(kind, answer)),
        1 => (kind, 0..NAMES.len()).prop_map(|(kind, name)| Step::Ask(kind, name)),
        1 => prop::bool::weighted(0.2).prop_map(|back| match back {
            true => Step::Reconnect,
            false => Step::Write(Vec::new(), true),
        }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        9 => Just(Answer::Take),
        1 => Just(Answer::RejectAll),
        1 => Just(Answer::RejectOne),
        1 => Just(Answer::Reject),
    ]
}

type Key = (ResourceType, &'static str);

struct World {
    driver: Driver,
    /// What is said before the server is let speak.
    held: Option<Vec<String>>,
    wave: u64,
    /// When each name was written, and whether it was there from then on.
    written: BTreeMap<Key, Vec<(u64, bool)>>,
    sent: BTreeMap<Key, u64>,
    /// What it was told is gone, and nothing since.
    told_gone: BTreeSet<Key>,
    answered: BTreeMap<Key, u64>,
    /// What the client has.
    has: BTreeMap<Key, u64>,
    /// What it asked for, and was not answered: that comes at once.
    asked: BTreeSet<Key>,
    /// What it has of what is gone, because it rejected just that.
    clings: BTreeSet<Key>,
    /// What it has not answered.
    open: BTreeMap<ResourceType, Open>,
}

/// What a response would change at the client.
#[derive(Default)]
struct Open {
    nonce: u64,
    new: Vec<(Key, u64)>,
    gone: Vec<Key>,
}

impl World {
    fn new(mode: Mode) -> Self {
        let mut driver = Driver::new(mode, Limits::default());
        for kind in ResourceType::ALL {
            let kind = short(kind);
            driver.run(&match (kind, mode) {
                ("cds" | "lds", _) => kind.to_owned(),
                (_, Mode::Delta) => format!("{kind} +n1 +n2 +n3"),
                (_, Mode::Sotw) => format!("{kind} n1 n2 n3"),
            });
            driver.run(&match (kind, mode) {
                ("cds" | "lds", _) | (_, Mode::Delta) => format!("{kind} ack"),
                (_, Mode::Sotw) => format!("{kind} ack n1 n2 n3"),
            });
        }
        Self {
            driver,
            held: None,
            wave: 0,
            written: BTreeMap::new(),
            sent: BTreeMap::new(),
            told_gone: BTreeSet::new(),
            answered: BTreeMap::new(),
            has: BTreeMap::new(),
            asked: BTreeSet::new(),
            clings: BTreeSet::new(),
            open: BTreeMap::new(),
        }
    }

    fn full(&self, kind: ResourceType) -> bool {
        self.driver.mode == Mode::Sotw
            && matches!(kind, ResourceType::Cluster | ResourceType::Listener)
    }

    /// The last write of a name up to a wave.
    fn last(&self, key: Key, wave: u64) -> Option<(u64, bool)> {
        let writes = self.written.get(&key)?.iter().rev();
        writes.copied().find(|(at, _)| *at <= wave)
    }

    fn exists(&self, key: Key) -> bool {
        self.last(key, u64::MAX).is_some_and(|(_, there)| there)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(writes, lost) => {
                self.wave += 1;
                let mut words = vec![if *lost { "lost" } else { "write" }.to_owned()];
                let writes: BTreeMap<(usize, usize), bool> = writes
                    .iter()
                    .map(|&(k, n, there)| ((k, n), there))
                    .collect();
                for ((kind, name), there) in writes {
                    let (kind, name) = (ResourceType::ALL[kind], NAMES[name]);
                    // To remove what is not there is no change.
                    if there || self.exists((kind, name)) {
                        let writes = self.written.entry((kind, name)).or_default();
                        writes.push((self.wave, there));
                    }
                    let kind = short(kind);
                    words.push(match there {
                        true => format!("{kind}:{name}={}", self.wave),
                        false => format!("{kind}:-{name}"),
                    });
                }
                self.say(words.join(" "));
            }
            Step::Answer(kind, answer) => self.answer(ResourceType::ALL[*kind], *answer),
            Step::Ask(kind, name) if self.driver.mode == Mode::Delta => {
                let (kind, name) = (ResourceType::ALL[*kind], NAMES[*name]);
                self.asked.insert((kind, name));
                self.say(format!("{} +{name}", short(kind)));
            }
            Step::Ask(..) => {}
            // Nobody is heard on two streams at once.
            Step::Reconnect if self.held.is_some() => {}
            Step::Reconnect => self.reconnect(),
            Step::Together(steps) => {
                self.held = Some(Vec::new());
                for step in steps {
                    self.step(step);
                }
                let said = self.held.take().unwrap();
                if !said.is_empty() {
                    self.say(said.join(" & "));
                }
            }
        }
    }

    fn say(&mut self, line: String) {
        if let Some(held) = &mut self.held {
            held.push(line);
            return;
        }
        self.driver.run(&line);
        self.receive();
    }

    /// By delta only: otherwise nobody can say what it has.
    fn reconnect(&mut self) {
        if self.driver.mode == Mode::Sotw {
            return;
        }
        self.open.clear();
        self.told_gone.clear();
        self.sent = self.has.clone();
        self.answered = self.has.clone();
        for kind in ResourceType::ALL {
            let returns = self.has.keys().any(|key| key.0 == kind);
            let all = matches!(short(kind), "cds" | "lds");
            let keys = NAMES.map(|name| (kind, name)).into_iter();
            let news = keys.filter(|key| !self.has.contains_key(key));
            self.asked.retain(|key| key.0 != kind);
            self.asked.extend(news.filter(|_| !all || !returns));
        }
        self.driver.stream = self.driver.new_stream();
        let request = |kind| {
            let names = match short(kind) {
                "cds" | "lds" => "+*",
                _ => "+n1 +n2 +n3",
            };
            let has = self.has.iter().filter(|(key, _)| key.0 == kind);
            let has = has.map(|((_, name), version)| format!("{name}={version}"));
            let has = has.collect::<Vec<_>>().join(" ");
            format!("{} {names} {has}", short(kind))
        };
        self.say(ResourceType::ALL.map(request).join(" & "));
    }

    fn answer(&mut self, kind: ResourceType, answer: Answer) {
        let Some(Open { new, gone, .. }) = self.open.remove(&kind) else {
            return;
        };
        let answer = match answer {
            // Nothing of it could be named.
            Answer::RejectOne | Answer::RejectAll if new.is_empty() => Answer::Take,
            Answer::Reject if new.is_empty() => {
                self.clings.extend(&gone);
                answer
            }
            _ => answer,
        };
        let wrong = match answer {
            Answer::Take => 0,
            Answer::RejectOne => 1,
            Answer::RejectAll | Answer::Reject => new.len(),
        };
        let (wrong, beside) = new.split_at(wrong);
        let names: Vec<_> = wrong.iter().map(|((_, name), _)| *name).collect();
        let word = match answer {
            Answer::Take => "ack".to_owned(),
            Answer::Reject => "nack".to_owned(),
            Answer::RejectOne | Answer::RejectAll => {
                let what = match kind {
                    ResourceType::Cluster => "Error_adding/updating_cluster(s)_",
                    ResourceType::Listener => "Error_adding/updating_listener(s)_",
                    _ => "",
                };
                format!("nack:{what}{}:_bad", names.join(":_bad,_"))
            }
        };
        // By these words clusters and listeners are taken also beside something that is wrong.
        let selects = matches!(kind, ResourceType::Cluster | ResourceType::Listener);
        if answer == Answer::Take || selects && answer != Answer::Reject {
            self.has.extend(beside.iter().copied());
            self.has.retain(|key, _| !gone.contains(key));
            self.answered.extend(beside.iter().copied());
        }
        // If nobody knows what is at fault, that is an answer only for one alone.
        if answer != Answer::Reject || new.len() == 1 {
            self.answered.extend(wrong.iter().copied());
        }
        let names = match (self.driver.mode, short(kind)) {
            (Mode::Delta, _) | (_, "cds" | "lds") => "",
            (Mode::Sotw, _) => " n1 n2 n3",
        };
        self.say(format!("{} {word}{names}", short(kind)));
    }

    /// Takes what was sent by the last thing that happened.
    fn receive(&mut self) {
        for action in std::mem::take(&mut self.driver.actions) {
            let Action::Send(response) = action else {
                continue;
            };
            let kind = ResourceType::from_type_url(&response.type_url).unwrap();
            let key = |name: &str| (kind, *NAMES.iter().find(|n| **n == name).unwrap());
            let mut open = Open {
                nonce: response.nonce,
                ..Open::default()
            };
            let mut listed = BTreeSet::new();
            for resource in &**response.resources {
                let (key, version) = (key(resource.name()), resource.version().parse().unwrap());
                listed.insert(key);
                if self.has.get(&key) != Some(&version) {
                    open.new.push((key, version));
                } else {
                    self.asked.remove(&key);
                }
            }
            open.gone
                .extend(response.removed.iter().map(|name| key(name)));
            if self.full(kind) {
                let has = self.has.keys().filter(|key| key.0 == kind);
                open.gone.extend(has.filter(|key| !listed.contains(key)));
            }
            for (key, wave) in &open.new {
                // What is tried apart came in its order the first time.
                let first = self.sent.get(key).is_none_or(|sent| sent < wave);
                if self.asked.remove(key) {
                    // Nothing was changed by that, so nothing waits for its answer.
                    self.answered.insert(*key, *wave);
                } else if first {
                    self.check_made(*key, *wave);
                }
            }
            let mut answers = BTreeSet::new();
            for key in &open.gone {
                if self.asked.remove(key) {
                    answers.insert(*key);
                }
                self.clings.remove(key);
            }
            for key in &open.gone {
                // A list that it did not take the first time leaves that out again.
                let first = self.told_gone.insert(*key) || !self.full(kind);
                let first = first && !answers.contains(key);
                if first && self.has.contains_key(key) {
                    self.check_unused(*key);
                }
            }
            // Of one response all is judged before any of it counts as sent.
            for (key, wave) in &open.new {
                self.told_gone.remove(key);
                let sent = self.sent.entry(*key).or_default();
                *sent = (*wave).max(*sent);
            }
            let before = self.open.insert(kind, open);
            assert!(
                before.is_none(),
                "{kind}: {} is not answered",
                before.unwrap().nonce
            );
        }
    }

    /// All that a resource may point at was sent, and what was written together with it was answered; but for what was
    /// removed since, whatever came back under its name.
    fn check_made(&self, key: Key, wave: u64) {
        if key.0 == ResourceType::Endpoints {
            return;
        }
        for (other, writes) in self.written.iter().filter(|(other, _)| other.0 < key.0) {
            let Some((at, _)) = self.last(*other, wave) else {
                continue;
            };
            if writes.iter().any(|(when, there)| *when >= at && !there) {
                continue;
            }
            let through = if at == wave {
                &self.answered
            } else {
                &self.sent
            };
            let through = through.get(other).copied().unwrap_or_default();
            assert!(through >= at, "{key:?}@{wave} came before {other:?}@{at}");
        }
    }

    /// Nothing that the client has is older than what was there when the name was removed.
    fn check_unused(&self, key: Key) {
        let (gone_at, _) = self.last(key, u64::MAX).unwrap();
        for (user, has) in &self.has {
            let said = self.driver.mode == Mode::Delta || self.full(user.0);
            let (at, _) = self.last(*user, gone_at).unwrap_or_default();
            // Where there are no words for it that something is gone, a client may use it for ever.
            let writes = self.written.get(user).into_iter().flatten();
            let silent = !said && { writes }.any(|(when, there)| *when >= at && !there);
            if !key.0.outlives(user.0) || silent || user.0 == ResourceType::Endpoints {
                continue;
            }
            assert!(
                *has >= at,
                "-{key:?} while the client has {user:?}@{has} of before {at}"
            );
        }
    }

    /// All is answered, and nothing waits for ever.
    fn finish(mut self) {
        for _ in 0..100 {
            for kind in ResourceType::ALL {
                self.answer(kind, Answer::Take);
            }
            if self.open.is_empty() {
                break;
            }
        }
        assert!(self.open.is_empty(), "responses without end");
        let states = self.driver.stream.status();
        let rejected = states.filter(|s| s.state == State::Rejected);
        let rejected: Vec<_> = rejected.map(|s| (s.kind, s.name)).collect();
        for (key, writes) in &self.written {
            let last = writes.last().unwrap();
            if let (wave, true) = last {
                assert_eq!(self.sent.get(key), Some(wave), "{key:?} was not sent");
                // What came beside something that was rejected, too.
                let rejected = { rejected.iter() }.any(|(kind, name)| (*kind, &**name) == *key);
                let has = self.has.get(key) == Some(wave);
                assert!(has || rejected, "the client does not have {key:?}@{wave}");
            }
        }
        let mut states = self.driver.stream.status();
        let behind = states
            .any(|s| s.state == State::Rejected && s.kind != ResourceType::Endpoints)
            || { self.clings.iter() }.any(|key| key.0 != ResourceType::Endpoints);
        // Then what is gone may wait, but for listeners, which nothing points at.
        assert!(
            behind || self.driver.stream.backlog() == 0,
            "something waits for nothing"
        );
        for key in self.has.keys().filter(|key| !self.clings.contains(key)) {
            let said = self.driver.mode == Mode::Delta || self.full(key.0);
            let told = !said || behind && key.0 != ResourceType::Listener;
            assert!(told || self.exists(*key), "{key:?} was not removed");
        }
    }
}

fn run(mode: Mode, steps: &[Step]) {
    let mut world = World::new(mode);
    for step in steps {
        world.step(step);
    }
    world.finish();
}

/// What was removed beside something that was rejected, came back and is removed again before that was sent.
#[test]
fn a_removal_that_was_not_taken_is_not_lost() {
    let written = |writes: &[(usize, usize, bool)]| Step::Write(writes.to_vec(), false);
    run(
        Mode::Delta,
        &[
            written(&[(5, 0, true)]),
            Step::Answer(5, Answer::Take),
            written(&[(5, 1, true), (4, 0, true)]),
            written(&[(5, 0, false), (0, 0, true)]),
            Step::Answer(4, Answer::Take),
            written(&[(5, 0, true)]),
            Step::Answer(5, Answer::RejectAll),
            written(&[(5, 0, false), (5, 1, false)]),
        ],
    );
}

/// The first that is tried of a rejected response is that something is gone: the rest is awaited all the same.
#[test]
fn what_is_yet_to_be_tried_is_awaited() {
    let written = |writes: &[(usize, usize, bool)]| Step::Write(writes.to_vec(), false);
    run(
        Mode::Delta,
        &[
            written(&[(0, 1, true), (0, 2, true)]),
            Step::Answer(0, Answer::Take),
            written(&[(1, 0, true), (0, 2, true)]),
            Step::Answer(0, Answer::RejectAll),
            Step::Answer(1, Answer::Take),
            written(&[(1, 0, true), (0, 1, true)]),
            Step::Reconnect,
            Step::Answer(0, Answer::Reject),
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn property_order_of_types_delta(steps in prop::collection::vec(step(), 0..60)) {
        run(Mode::Delta, &steps);
    }

    #[test]
    fn property_order_of_types_sotw(steps in prop::collection::vec(step(), 0..60)) {
        run(Mode::Sotw, &steps);
    }
}
