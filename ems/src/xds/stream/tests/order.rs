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
    /// What is in flight of a type is taken, or rejected by name.
    Answer(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = 0..ResourceType::ALL.len();
    let one = (kind.clone(), 0..NAMES.len(), prop::bool::weighted(0.7));
    prop_oneof![
        3 => (prop::collection::vec(one, 1..5), prop::bool::weighted(0.1))
            .prop_map(|(writes, lost)| Step::Write(writes, lost)),
        4 => (kind, prop::bool::weighted(0.9)).prop_map(|(kind, taken)| Step::Answer(kind, taken)),
    ]
}

type Key = (ResourceType, &'static str);

struct World {
    driver: Driver,
    wave: u64,
    /// When each name was written, and whether it was there from then on.
    written: BTreeMap<Key, Vec<(u64, bool)>>,
    sent: BTreeMap<Key, u64>,
    answered: BTreeMap<Key, u64>,
    /// What the client has.
    has: BTreeMap<Key, u64>,
    /// What is new in the responses that it has not answered.
    open: BTreeMap<ResourceType, Open>,
}

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
            wave: 0,
            written: BTreeMap::new(),
            sent: BTreeMap::new(),
            answered: BTreeMap::new(),
            has: BTreeMap::new(),
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
                self.driver.run(&words.join(" "));
                self.receive();
            }
            Step::Answer(kind, taken) => self.answer(ResourceType::ALL[*kind], *taken),
        }
    }

    fn answer(&mut self, kind: ResourceType, taken: bool) {
        let Some(open) = self.open.remove(&kind) else {
            return;
        };
        let mut word = "ack".to_owned();
        if !taken && !open.new.is_empty() {
            let names: Vec<_> = open.new.iter().map(|((_, name), _)| *name).collect();
            word = format!("nack:{}", names.join("_"));
        } else {
            self.has.extend(open.new.iter().copied());
        }
        // Also beside what is rejected by name.
        self.has.retain(|key, _| !open.gone.contains(key));
        self.answered.extend(open.new);
        let names = match (self.driver.mode, short(kind)) {
            (Mode::Delta, _) | (_, "cds" | "lds") => "",
            (Mode::Sotw, _) => " n1 n2 n3",
        };
        self.driver.run(&format!("{} {word}{names}", short(kind)));
        self.receive();
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
                if self.sent.get(&key).is_none_or(|sent| *sent < version) {
                    open.new.push((key, version));
                }
            }
            open.gone
                .extend(response.removed.iter().map(|name| key(name)));
            if self.full(kind) {
                let has = self.has.keys().filter(|key| key.0 == kind);
                open.gone.extend(has.filter(|key| !listed.contains(key)));
            }
            for (key, wave) in &open.new {
                self.check_made(*key, *wave);
            }
            for key in &open.gone {
                self.check_unused(*key);
            }
            // Of one response all is judged before any of it counts as sent.
            self.sent.extend(open.new.iter().copied());
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
            let (at, there) = self.last(*user, gone_at).unwrap_or_default();
            let silent = !(said || there && self.exists(*user));
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
                self.answer(kind, true);
            }
            if self.open.is_empty() {
                break;
            }
        }
        assert!(self.open.is_empty(), "responses without end");
        for (key, writes) in &self.written {
            let last = writes.last().unwrap();
            if let (wave, true) = last {
                assert_eq!(self.sent.get(key), Some(wave), "{key:?} was not sent");
            }
        }
        let stream = &self.driver.stream;
        let behind = stream.status().any(|s| s.state == State::Rejected);
        assert!(
            behind || stream.backlog() == 0,
            "{stream:?} waits for nothing"
        );
    }
}

fn run(mode: Mode, steps: &[Step]) {
    let mut world = World::new(mode);
    for step in steps {
        world.step(step);
    }
    world.finish();
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
