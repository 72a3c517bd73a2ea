//! The registry over a store that is a plain map: version rules, heartbeats, drains, leases, guards, quarantine.

mod leases;
mod replay;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use isthmus_proto::v1;
use prost::{Message, Name};

use super::{Affected, Effect, Home, Now, Outcome, Planned, Registry, Rejection};
use crate::{
    json,
    record::EndpointId,
    store::{Change, Edit, Guard, Snapshot, Stored, Transaction, Write},
};

/// A registry with a store as simple as can be, and a clock that moves when told.
struct World {
    registry: Registry,
    records: BTreeMap<String, (u64, Bytes)>,
    revision: u64,
    now: Now,
    affected: BTreeSet<Affected>,
}

impl World {
    fn new() -> Self {
        let home = Home {
            region: "us".parse().unwrap(),
            trust_bundle: String::new(),
        };
        let now = Now {
            steady: Instant::now(),
            wall: SystemTime::UNIX_EPOCH,
        };
        let mut registry = Registry::new(home);
        registry.load(Snapshot::default(), now.steady);
        Self {
            registry,
            records: BTreeMap::new(),
            revision: 0,
            now,
            affected: BTreeSet::new(),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now.steady += time;
        self.now.wall += time;
    }

    /// Commits as a store does; false: a guard did not hold.
    fn commit(&mut self, transaction: &Transaction) -> bool {
        let holds = |guard: &Guard| match guard {
            Guard::Absent(key) => !self.records.contains_key(key),
            Guard::Exists(key) => self.records.contains_key(key),
            Guard::At(key, revision) => self.records.get(key).is_some_and(|(at, _)| at == revision),
        };
        if !transaction.guards.iter().all(holds) {
            return false;
        }
        self.revision += 1;
        let mut edits = Vec::new();
        for write in transaction.writes.clone() {
            let gone: Vec<_> = match &write {
                Write::Put(key, value) => {
                    self.records
                        .insert(key.clone(), (self.revision, value.clone()));
                    let (key, value) = (key.clone(), value.clone());
                    edits.push(Edit::Put { key, value });
                    continue;
                }
                Write::Delete(key) => vec![key.clone()],
                Write::DeletePrefix(prefix) => {
                    let keys = self.records.keys();
                    keys.filter(|key| key.starts_with(prefix))
                        .cloned()
                        .collect()
                }
            };
            for key in gone {
                self.records.remove(&key);
                edits.push(Edit::Deleted { key });
            }
        }
        let revision = self.revision;
        self.affected = self
            .registry
            .apply(Change { revision, edits }, self.now.steady);
        true
    }

    fn run<M>(
        &mut self,
        planned: Result<Planned<M>, Rejection>,
    ) -> Result<(Outcome, M), Rejection> {
        let planned = planned?;
        self.affected.clear();
        match &planned.effect {
            Effect::Nothing => {}
            Effect::Renew(key) => assert!(self.registry.heartbeat(key, self.now.steady)),
            Effect::Commit(transaction) => assert!(self.commit(transaction)),
        }
        Ok((planned.outcome, planned.answer))
    }

    fn service(&mut self, text: &str) -> Result<(Outcome, v1::Service), Rejection> {
        let planned = self.registry.put_service(message(text));
        self.run(planned)
    }

    fn endpoint(&mut self, text: &str) -> Result<(Outcome, v1::Endpoint), Rejection> {
        let planned = self.registry.put_endpoint(message(text), self.now);
        self.run(planned)
    }

    fn drain(&mut self, id: &str) -> Result<(Outcome, v1::Endpoint), Rejection> {
        let (service, id) = ("pay".parse().unwrap(), EndpointId::parse(id).unwrap());
        let planned = self.registry.drain_endpoint(&service, &id, self.now);
        self.run(planned)
    }

    fn ids(&self) -> String {
        let endpoints = self.registry.endpoints.get("pay").into_iter().flatten();
        let ids: Vec<_> = endpoints.map(|(id, _)| id.as_str()).collect();
        ids.join(" ")
    }
}

fn message<M: Message + Name + Default>(text: &str) -> M {
    json::read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Outcome and version, or the error's kind, in one word.
fn brief<M>(result: Result<(Outcome, M), Rejection>, version: impl Fn(&M) -> u64) -> String {
    match result {
        Ok((outcome, answer)) => format!("{outcome:?} {}", version(&answer)),
        Err(Rejection::Stale { stored, .. }) => format!("Stale {stored}"),
        Err(Rejection::Invalid(_)) => "Invalid".to_owned(),
        Err(Rejection::NotFound { .. }) => "NotFound".to_owned(),
        Err(Rejection::Home(_)) => "Home".to_owned(),
        Err(Rejection::Loading) => "Loading".to_owned(),
    }
}

#[test]
fn versions_only_grow() {
    let mut world = World::new();
    for (text, expect) in [
        (r#"{"name": "pay"}"#, "Created 1"),
        (r#"{"name": "pay"}"#, "Unchanged 1"),
        (r#"{"name": "PAY", "version": "1"}"#, "Unchanged 1"),
        (
            r#"{"name": "pay", "protocol": "grpc", "version": "1"}"#,
            "Stale 1",
        ),
        (r#"{"name": "pay", "protocol": "grpc"}"#, "Updated 2"),
        (
            r#"{"name": "pay", "protocol": "grpc", "version": "1"}"#,
            "Stale 2",
        ),
        (
            r#"{"name": "pay", "protocol": "grpc", "version": "7"}"#,
            "Updated 7",
        ),
        (
            r#"{"name": "pay", "protocol": "grpc", "version": "7"}"#,
            "Unchanged 7",
        ),
        (r#"{"name": "pay", "protocol": "auto"}"#, "Updated 8"),
        (r#"{"name": "pay", "version": "-1"}"#, "Invalid"),
        (r#"{"name": "other", "version": "9"}"#, "Created 9"),
    ] {
        if text.contains("-1") {
            assert!(json::read::<v1::Service>(text.as_bytes()).is_err());
            continue;
        }
        assert_eq!(brief(world.service(text), |s| s.version), expect, "{text}");
    }
}

#[test]
fn what_changes_nothing_reaches_nobody() {
    let mut world = World::new();
    world.service(r#"{"name": "pay"}"#).unwrap();
    assert_eq!(world.affected.len(), 1);
    world.service(r#"{"name": "pay"}"#).unwrap();
    assert!(world.affected.is_empty());
    let endpoint = r#"{"service": "pay", "id": "a", "address": "10.0.0.1", "port": 80, "ttl": 9}"#;
    world.endpoint(endpoint).unwrap();
    let service = "pay".parse().unwrap();
    assert_eq!(world.affected, [Affected::Endpoints(service)].into());
    let revision = world.revision;
    let (outcome, answer) = world.endpoint(endpoint).unwrap();
    assert_eq!((outcome, answer.version), (Outcome::Unchanged, 1));
    assert!(world.affected.is_empty());
    assert_eq!(world.revision, revision);
}

#[test]
fn a_heartbeat_never_undoes_a_drain() {
    let base = r#""service": "pay", "id": "a", "address": "10.0.0.1", "port": 80, "ttl": 9"#;
    // What is put after the drain, which made version 6; then outcome, version, and whether it still drains.
    for (text, expect, draining) in [
        ("", "Unchanged 6", true),
        (r#", "version": "5""#, "Unchanged 6", true),
        (r#", "version": "6""#, "Unchanged 6", true),
        (r#", "draining": true"#, "Unchanged 6", true),
        (r#", "draining": false"#, "Updated 7", false),
        (r#", "draining": false, "version": "6""#, "Stale 6", true),
        (r#", "version": "7""#, "Updated 7", false),
        (r#", "version": "7", "draining": true"#, "Updated 7", true),
        (r#", "versionLabel": "v2""#, "Updated 7", false),
        (r#", "versionLabel": "v2", "version": "5""#, "Stale 6", true),
    ] {
        let mut world = World::new();
        world.service(r#"{"name": "pay"}"#).unwrap();
        world
            .endpoint(&format!(r#"{{{base}, "version": "5"}}"#))
            .unwrap();
        assert_eq!(brief(world.drain("a"), |e| e.version), "Updated 6");
        assert_eq!(brief(world.drain("a"), |e| e.version), "Unchanged 6");
        let put = world.endpoint(&format!("{{{base}{text}}}"));
        assert_eq!(brief(put, |e| e.version), expect, "{text}");
        let entry = &world.registry.endpoints["pay"]["a"];
        assert_eq!(entry.checked.draining, draining, "{text}");
        assert_eq!(entry.message.draining, draining.then_some(true), "{text}");
    }
}

#[test]
fn an_endpoint_needs_its_service() {
    let mut world = World::new();
    let endpoint = r#"{"service": "pay", "id": "a", "address": "10.0.0.1", "port": 80}"#;
    let rejection = world.endpoint(endpoint).unwrap_err();
    assert!(
        rejection.to_string().contains("put the service first"),
        "{rejection}"
    );
    world.service(r#"{"name": "pay"}"#).unwrap();
    let planned = world
        .registry
        .put_endpoint(message(endpoint), world.now)
        .unwrap();
    let Effect::Commit(transaction) = planned.effect else {
        panic!("{planned:?}");
    };
    // Deleted between plan and commit: the endpoint must not outlive its service.
    let deleted = world.registry.delete_service(&"pay".parse().unwrap());
    world.run(deleted).unwrap();
    assert!(!world.commit(&transaction));
}

#[test]
fn a_service_takes_its_endpoints_with_it() {
    let mut world = World::new();
    world.service(r#"{"name": "pay"}"#).unwrap();
    world.service(r#"{"name": "pay.x"}"#).unwrap();
    for service in ["pay", "pay.x"] {
        let text = format!(
            r#"{{"service": "{service}", "id": "a", "address": "h", "port": 1, "ttl": 5}}"#
        );
        world.endpoint(&text).unwrap();
    }
    let name = "pay".parse().unwrap();
    let deleted = world.registry.delete_service(&name);
    assert_eq!(brief(world.run(deleted), |d| d.version), "Deleted 1");
    assert_eq!(
        world.affected,
        [
            Affected::Service(name.clone()),
            Affected::Endpoints(name.clone())
        ]
        .into()
    );
    assert_eq!(
        world.records.keys().cloned().collect::<Vec<_>>(),
        ["endpoints/pay.x/a", "services/pay.x"]
    );
    let again = world.registry.delete_service(&name);
    assert_eq!(brief(world.run(again), |d| d.version), "NotFound");
}

#[test]
fn the_own_region_keeps_its_roots() {
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap()
        .pem();
    let mut world = World::new();
    world.registry.home.trust_bundle = own.clone();
    let put = world.registry.put_home();
    assert_eq!(brief(world.run(put), |r| r.version), "Created 1");
    let put = world.registry.put_home();
    assert_eq!(brief(world.run(put), |r| r.version), "Unchanged 1");
    let text = r#"{"name": "us", "gateways": [{"address": "10.0.0.1", "port": 15443}]}"#;
    let put = world.registry.put_region(message(text));
    let (_, region) = world.run(put).unwrap();
    assert_eq!(
        (region.version, region.local, region.trust_bundle),
        (2, true, own.clone())
    );
    // As read, so written: what the server adds does not make it differ.
    let text = r#"{"name": "us", "gateways": [{"address": "10.0.0.1", "port": 15443}], "local": true, "version": "2"}"#;
    let put = world.registry.put_region(message(text));
    assert_eq!(brief(world.run(put), |r| r.version), "Unchanged 2");
    let delete = world.registry.delete_region(&"us".parse().unwrap());
    assert_eq!(brief(world.run(delete), |d| d.version), "Home");
    // After the roots were renewed, both are in the record.
    world.registry.home.trust_bundle = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap()
        .pem();
    let put = world.registry.put_home();
    let (_, region) = world.run(put).unwrap();
    assert_eq!(region.trust_bundle.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(region.gateways.len(), 1);
}

#[test]
fn nothing_is_answered_before_the_first_load() {
    let mut world = World::new();
    world.registry.revision = None;
    assert_eq!(world.registry.loaded(), Err(Rejection::Loading));
    assert_eq!(
        brief(world.service(r#"{"name": "pay"}"#), |s| s.version),
        "Loading"
    );
    let now = world.now.steady;
    let early = Change {
        revision: 5,
        edits: Vec::new(),
    };
    assert!(world.registry.apply(early, now).is_empty());
    assert_eq!(world.registry.revision(), None);
}

fn stored(key: &str, revision: u64, value: impl Into<Bytes>) -> Stored {
    let (key, value) = (key.to_owned(), value.into());
    Stored {
        key,
        revision,
        value,
    }
}

fn encoded(text: &str) -> Vec<u8> {
    message::<v1::Service>(text).encode_to_vec()
}

#[test]
fn a_bad_record_is_set_aside_alone() {
    let mut world = World::new();
    let now = world.now.steady;
    let records = vec![
        stored("endpoints/pay/a", 1, "\u{7}garbage"),
        stored("nonsense", 2, ""),
        stored("services/PAY", 2, encoded(r#"{"name": "pay"}"#)),
        stored(
            "services/pay",
            3,
            encoded(r#"{"name": "pay", "version": "4"}"#),
        ),
        stored("services/shop", 4, encoded(r#"{"name": "other"}"#)),
    ];
    let revision = 4;
    world.registry.load(Snapshot { revision, records }, now);
    let aside: Vec<_> = world
        .registry
        .quarantined
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        aside,
        [
            "endpoints/pay/a",
            "nonsense",
            "services/PAY",
            "services/shop"
        ]
    );
    assert_eq!(world.registry.services().count(), 1);

    // A good record that turns bad stays in force as it was.
    let key = "services/pay".to_owned();
    let value = Bytes::from_static(b"\x07");
    let edits = vec![Edit::Put { key, value }];
    assert!(
        world
            .registry
            .apply(Change { revision: 5, edits }, now)
            .is_empty()
    );
    assert!(world.registry.service(&"pay".parse().unwrap()).is_some());

    // A write replaces what is set aside, and must name its revision, not that of what is in force.
    let planned = world
        .registry
        .put_service(message(r#"{"name": "pay", "protocol": "grpc"}"#))
        .unwrap();
    let Effect::Commit(transaction) = planned.effect else {
        panic!("no commit")
    };
    assert_eq!(
        transaction.guards,
        [Guard::At("services/pay".to_owned(), 5)]
    );
    assert_eq!(planned.answer.version, 5);
    let [Write::Put(key, value)] = transaction.writes.as_slice() else {
        panic!("one write")
    };
    let edits = vec![Edit::Put {
        key: key.clone(),
        value: value.clone(),
    }];
    assert_eq!(
        world
            .registry
            .apply(Change { revision: 6, edits }, now)
            .len(),
        1
    );
    assert!(!world.registry.quarantined.contains_key("services/pay"));
}

#[test]
fn a_second_load_is_the_difference() {
    let mut world = World::new();
    let now = world.now.steady;
    let pay = stored("services/pay", 1, encoded(r#"{"name": "pay"}"#));
    let shop = stored("services/shop", 2, encoded(r#"{"name": "shop"}"#));
    let records = vec![pay.clone(), shop];
    world.registry.load(
        Snapshot {
            revision: 2,
            records,
        },
        now,
    );
    let books = stored("services/books", 4, encoded(r#"{"name": "books"}"#));
    let records = vec![books, pay];
    let affected = world.registry.load(
        Snapshot {
            revision: 4,
            records,
        },
        now,
    );
    let service = |name: &str| Affected::Service(name.parse().unwrap());
    assert_eq!(affected, [service("books"), service("shop")].into());
}
