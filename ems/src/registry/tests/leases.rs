//! Leases: expiry, the guard against mass expiry, and its release.

use std::time::Duration;

use isthmus_proto::v1;

use super::{Effect, Outcome, World};

const TTL: Duration = Duration::from_secs(30);
/// Clients renew three times in each lease.
const BEAT: Duration = Duration::from_secs(10);

fn endpoint(id: &str) -> v1::Endpoint {
    v1::Endpoint {
        service: "pay".to_owned(),
        id: id.to_owned(),
        address: "10.0.0.1".to_owned(),
        port: 80,
        ttl: 30,
        ..v1::Endpoint::default()
    }
}

fn put(world: &mut World, id: &str) {
    let planned = world.registry.put_endpoint(endpoint(id), world.now);
    world.run(planned).unwrap();
}

/// Lets time pass: those in `alive` beat, those whose leases lapse are removed as EMS does it.
fn live(world: &mut World, alive: &str, beats: u32) {
    for _ in 0..beats {
        world.wait(BEAT);
        for id in alive.split_whitespace() {
            put(world, id);
        }
        tick(world);
    }
}

fn tick(world: &mut World) {
    let due = world.registry.leases().due(world.now.steady);
    for transaction in world.registry.expire(&due) {
        assert!(world.commit(&transaction));
    }
}

fn held(world: &World) -> usize {
    let due = world.registry.leases().due(world.now.steady);
    due.held.values().map(Vec::len).sum()
}

#[test]
fn silence_of_the_few_removes_them_and_of_the_many_holds_them() {
    // Who is there, who goes on beating for four beats, who is left, how many of these are held.
    for (all, alive, left, held_now) in [
        ("a", "a", "a", 0),
        ("a", "", "", 0),
        ("a b", "a", "a", 0),
        ("a b", "", "a b", 2),
        ("a b c", "a b", "a b", 0),
        ("a b c", "a", "a b c", 2),
        ("a b c", "", "a b c", 3),
        ("a b c d", "a b", "a b", 0),
        ("a b c d", "a", "a b c d", 3),
        ("a b c d e f", "a b c", "a b c", 0),
        ("a b c d e f", "a b", "a b c d e f", 4),
    ] {
        let mut world = World::new();
        world.service(r#"{"name": "pay"}"#).unwrap();
        for id in all.split_whitespace() {
            put(&mut world, id);
        }
        live(&mut world, all, 3);
        assert_eq!(world.ids(), all, "alive all");
        live(&mut world, alive, 4);
        assert_eq!(
            (world.ids().as_str(), held(&world)),
            (left, held_now),
            "{all} then {alive}"
        );
    }
}

#[test]
fn failures_spread_over_one_lease_time_count_together() {
    let mut world = World::new();
    world.service(r#"{"name": "pay"}"#).unwrap();
    // Their heartbeats are out of step, so a cut makes them lapse one by one.
    for id in ["a", "b", "c", "d"] {
        world.wait(Duration::from_secs(2));
        put(&mut world, id);
    }
    for _ in 0..60 {
        world.wait(Duration::from_secs(1));
        tick(&mut world);
    }
    assert_eq!(world.ids(), "a b c d");
    assert_eq!(held(&world), 4);
}

#[test]
fn held_leases_go_on_when_heartbeats_return() {
    let mut world = World::new();
    world.service(r#"{"name": "pay"}"#).unwrap();
    for id in ["a", "b", "c", "d"] {
        put(&mut world, id);
    }
    live(&mut world, "", 5);
    assert_eq!((world.ids().as_str(), held(&world)), ("a b c d", 4));
    // Most are back: what is still silent is believed now, and lapses.
    live(&mut world, "a b c", 1);
    assert_eq!((world.ids().as_str(), held(&world)), ("a b c", 0));
}

#[test]
fn held_leases_end_when_somebody_deletes_them() {
    let mut world = World::new();
    world.service(r#"{"name": "pay"}"#).unwrap();
    for id in ["a", "b", "c", "d"] {
        put(&mut world, id);
    }
    live(&mut world, "a", 5);
    assert_eq!((world.ids().as_str(), held(&world)), ("a b c d", 3));
    for id in ["b", "c"] {
        let id = crate::record::EndpointId::parse(id).unwrap();
        let deleted = world.registry.delete_endpoint(&"pay".parse().unwrap(), &id);
        world.run(deleted).unwrap();
    }
    // The deleted count as lapsed for one lease time, after which the last silent one is one of two.
    live(&mut world, "a", 4);
    assert_eq!((world.ids().as_str(), held(&world)), ("a", 0));
}

#[test]
fn the_end_of_a_lease_is_shown() {
    let mut world = World::new();
    world.service(r#"{"name": "pay"}"#).unwrap();
    put(&mut world, "a");
    world.wait(Duration::from_secs(12));
    let entry = world.registry.endpoints["pay"]["a"].clone();
    let shown = world.registry.present_endpoint(&entry, world.now);
    assert_eq!(shown.expires_at.map(|at| at.seconds), Some(30));
}

/// Two endpoints that stay and one that has been silent for a whole lease.
fn one_is_out() -> World {
    let mut world = World::new();
    world.service(r#"{"name": "pay"}"#).unwrap();
    for id in ["a", "b", "c"] {
        put(&mut world, id);
    }
    world.wait(TTL);
    for id in ["a", "b"] {
        put(&mut world, id);
    }
    world
}

#[test]
fn a_heartbeat_before_the_decision_wins() {
    let mut world = one_is_out();
    put(&mut world, "c");
    tick(&mut world);
    assert_eq!(world.ids(), "a b c");
}

#[test]
fn a_heartbeat_after_the_decision_is_a_write_and_one_of_the_two_is_refused() {
    for heartbeat_first in [true, false] {
        let mut world = one_is_out();
        let version = world.registry.endpoints["pay"]["c"].message.version;
        // Planned before the decision, and applied after it: too late, to be planned again.
        let early = world.registry.put_endpoint(endpoint("c"), world.now);
        let Effect::Renew(renew) = early.unwrap().effect else {
            panic!("no renewal");
        };
        let due = world.registry.leases().due(world.now.steady);
        let removals = world.registry.expire(&due);
        assert!(!world.registry.heartbeat(&renew, world.now.steady));

        let planned = world.registry.put_endpoint(endpoint("c"), world.now);
        let planned = planned.unwrap();
        assert_eq!(planned.outcome, Outcome::Unchanged);
        assert_eq!(planned.answer.version, version);
        let Effect::Commit(write) = planned.effect else {
            panic!("only a renewal");
        };
        if heartbeat_first {
            assert!(world.commit(&write));
            assert!(!removals.iter().any(|removal| world.commit(removal)));
            put(&mut world, "c");
            tick(&mut world);
        } else {
            assert!(removals.iter().all(|removal| world.commit(removal)));
            assert!(!world.commit(&write));
            put(&mut world, "c");
        }
        assert_eq!(world.ids(), "a b c");
        assert_eq!(world.registry.leases().count(), 3);
    }
}
