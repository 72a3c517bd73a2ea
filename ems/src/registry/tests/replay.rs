//! Whatever is asked for in whatever order: who followed every change knows what a fresh load knows, and no version
//! ever goes back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Home, Registry, Snapshot, Stored, World};
use crate::record::EndpointId;

#[derive(Clone, Debug)]
enum Step {
    PutService(&'static str, &'static str, u64),
    DeleteService(&'static str),
    PutEndpoint(&'static str, &'static str, u16, Option<bool>),
    Drain(&'static str, &'static str),
    DeleteEndpoint(&'static str, &'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let service = || prop::sample::select(vec!["pay", "shop"]);
    let id = || prop::sample::select(vec!["a", "b"]);
    let protocol = prop::sample::select(vec!["auto", "grpc"]);
    prop_oneof![
        3 => (service(), protocol, 0..6_u64).prop_map(|(s, p, v)| Step::PutService(s, p, v)),
        1 => service().prop_map(Step::DeleteService),
        4 => (service(), id(), 1..3_u16, any::<Option<bool>>())
            .prop_map(|(s, i, p, d)| Step::PutEndpoint(s, i, p, d)),
        1 => (service(), id()).prop_map(|(s, i)| Step::Drain(s, i)),
        1 => (service(), id()).prop_map(|(s, i)| Step::DeleteEndpoint(s, i)),
    ]
}

fn take(world: &mut World, step: Step) {
    // Refusals are part of the game: what matters is what is there afterwards.
    match step {
        Step::PutService(name, protocol, version) => {
            let text =
                format!(r#"{{"name": "{name}", "protocol": "{protocol}", "version": {version}}}"#);
            let _ = world.service(&text);
        }
        Step::DeleteService(name) => {
            let planned = world.registry.delete_service(&name.parse().unwrap());
            let _ = world.run(planned);
        }
        Step::PutEndpoint(service, id, port, draining) => {
            let draining = draining.map_or(String::new(), |d| format!(r#", "draining": {d}"#));
            let text = format!(
                r#"{{"service": "{service}", "id": "{id}", "address": "h", "port": {port}{draining}}}"#
            );
            let _ = world.endpoint(&text);
        }
        Step::Drain(service, id) => {
            let (service, id) = (service.parse().unwrap(), EndpointId::parse(id).unwrap());
            let planned = world.registry.drain_endpoint(&service, &id, world.now);
            let _ = world.run(planned);
        }
        Step::DeleteEndpoint(service, id) => {
            let (service, id) = (service.parse().unwrap(), EndpointId::parse(id).unwrap());
            let planned = world.registry.delete_endpoint(&service, &id);
            let _ = world.run(planned);
        }
    }
}

fn versions(registry: &Registry) -> BTreeMap<String, u64> {
    let services = registry.services();
    let services = services.map(|e| (e.checked.name.to_string(), e.message.version));
    let endpoints = registry.all_endpoints().map(|e| {
        let key = format!("{}/{}", e.checked.service, e.checked.id);
        (key, e.message.version)
    });
    services.chain(endpoints).collect()
}

proptest! {
    #[test]
    fn following_is_as_good_as_loading(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        let mut before = BTreeMap::new();
        for step in steps {
            take(&mut world, step);
            let after = versions(&world.registry);
            for (key, version) in &after {
                prop_assert!(before.get(key).is_none_or(|old| version >= old), "{key} went back");
            }
            for endpoint in world.registry.all_endpoints() {
                prop_assert!(world.registry.service(&endpoint.checked.service).is_some());
            }
            before = after;
        }
        let stored = |(key, (revision, value)): (&String, &(u64, bytes::Bytes))| Stored {
            key: key.clone(),
            revision: *revision,
            value: value.clone(),
        };
        let snapshot = Snapshot {
            revision: world.revision,
            records: world.records.iter().map(stored).collect(),
        };
        let mut fresh = Registry::new(Home {
            region: "us".parse().unwrap(),
            trust_bundle: String::new(),
        });
        fresh.load(snapshot, world.now.steady);
        prop_assert_eq!(&fresh.services, &world.registry.services);
        prop_assert_eq!(&fresh.endpoints, &world.registry.endpoints);
        prop_assert_eq!(fresh.revision, world.registry.revision);
    }
}
