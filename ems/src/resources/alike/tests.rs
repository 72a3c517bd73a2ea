//! Who shares what with whom, and what becomes of a filter config that is bad.

use super::*;
use crate::{
    record::{CallerPattern, Service},
    registry::Affected,
    resources::tests::world::{
        World, metadata, put_region, put_service, region, rejects, service, text,
    },
    xds::{Source, View},
};

fn view(world: &World, kind: &str, service: &str, listen: &str, filter: &str) -> Arc<dyn View> {
    let node = metadata(HashMap::from([
        ("kind", text(kind)),
        ("service", text(service)),
        ("region", text("us")),
        ("listen", text(listen)),
        ("filter", text(filter)),
    ]));
    world.resources.view(&node).unwrap()
}

/// A sidecar like all others.
fn sidecar(world: &World, service: &str) -> Arc<dyn View> {
    view(
        world,
        "sidecar",
        service,
        "127.0.0.1:10000",
        "/isthmus.wasm",
    )
}

/// What a node has: filter config, listener, route.
fn all(view: &Arc<dyn View>) -> [Arc<Resource>; 3] {
    let name = view.wildcard(ResourceType::Listener).pop().unwrap();
    [
        (ResourceType::ExtensionConfig, filter::FILTER),
        (ResourceType::Listener, &*name),
        (ResourceType::Route, listener::ROUTE),
    ]
    .map(|(kind, name)| view.get(kind, name).unwrap())
}

fn config(view: &Arc<dyn View>) -> Arc<Resource> {
    view.get(ResourceType::ExtensionConfig, filter::FILTER)
        .unwrap()
}

/// Changes the rules of a service.
fn allow(world: &World, name: &str, callers: &[&str]) -> Vec<String> {
    let callers = callers.iter().map(|caller| CallerPattern {
        region: None,
        service: Some(caller.parse().unwrap()),
    });
    put_service(
        &world.maps,
        Service {
            access: Some(callers.collect()),
            ..service(name)
        },
    );
    world.apply(Affected::Service(name.parse().unwrap()))
}

#[test]
fn nodes_that_are_alike_have_the_same() {
    let world = World::new();
    let one = sidecar(&world, "orders");
    let first = all(&one);
    for (kind, service, listen, filter, same) in [
        (
            "sidecar",
            "orders",
            "127.0.0.1:10000",
            "/isthmus.wasm",
            [true; 3],
        ),
        (
            "sidecar",
            "web",
            "127.0.0.1:10000",
            "/isthmus.wasm",
            [false, true, true],
        ),
        (
            "sidecar",
            "orders",
            "127.0.0.1:9",
            "/isthmus.wasm",
            [true, false, true],
        ),
        (
            "sidecar",
            "orders",
            "127.0.0.1:10000",
            "/other.wasm",
            [false, true, true],
        ),
        (
            "gateway",
            "orders",
            "127.0.0.1:10000",
            "/isthmus.wasm",
            [false, false, true],
        ),
    ] {
        let other = view(&world, kind, service, listen, filter);
        let shares = |(a, b): (&Arc<Resource>, &Arc<Resource>)| Arc::ptr_eq(a, b);
        let found: Vec<_> = first.iter().zip(&all(&other)).map(shares).collect();
        assert_eq!(found, same, "{kind} of {service} at {listen} with {filter}");
    }
    // Gateways carry requests of any service.
    let gateway = |service| view(&world, "gateway", service, "0.0.0.0:15443", "/isthmus.wasm");
    let (a, b) = (gateway("a"), gateway("b"));
    assert!(Arc::ptr_eq(&config(&a), &config(&b)));
    assert_ne!(world.resources.0.alike.len(), 0);
    drop((one, a, b));
    assert_eq!(world.resources.0.alike.len(), 0);
}

#[test]
fn what_does_not_differ_stays_what_it_is() {
    let world = World::new();
    let (one, gateway) = (
        sidecar(&world, "orders"),
        view(&world, "gateway", "gw", "0.0.0.0:15443", "/isthmus.wasm"),
    );
    let (before, believed) = (all(&one), all(&gateway));
    let same = |a: &[Arc<Resource>; 3], b: &[Arc<Resource>; 3]| {
        [0, 1, 2].map(|at| Arc::ptr_eq(&a[at], &b[at]))
    };
    put_region(&world.maps, region("eu", &["127.0.0.9:1"], 10));
    world.apply(Affected::Region("eu".parse().unwrap()));
    assert_eq!(same(&before, &all(&one)), [true; 3]);
    put_region(&world.maps, region("sa", &["127.0.0.9:1"], 30));
    world.apply(Affected::Region("sa".parse().unwrap()));
    assert_eq!(same(&before, &all(&one)), [false, true, true]);
    assert_eq!(same(&believed, &all(&gateway)), [false, false, true]);
}

#[test]
fn a_filter_config_that_all_reject_is_not_for_newcomers() {
    let world = World::new();
    let one = sidecar(&world, "orders");
    let good = config(&one);
    good.fate().take();
    assert_eq!(
        allow(&world, "payments", &["web"]),
        ["extension_config isthmus"]
    );
    let bad = config(&one);
    assert!(!Arc::ptr_eq(&good, &bad));
    assert!(rejects("one", &bad, "no such limit"));
    assert!(Arc::ptr_eq(&config(&one), &bad), "one may be the odd one");
    rejects("two", &bad, "no such limit either");
    let changed = world.resources.ruled(ResourceType::ExtensionConfig, &bad);
    assert!(changed.is_empty());
    let other = sidecar(&world, "web");
    assert!(rejects("three", &config(&other), "no such limit"));
    let rejections = || {
        let all = world.resources.rejections().into_iter();
        all.map(|r| (r.name, r.error)).collect::<Vec<_>>()
    };
    let said = [("isthmus".to_owned(), "no such limit".to_owned())];
    assert_eq!(rejections(), said, "the same of both");
    let payments = "payments".parse().unwrap();
    assert_eq!(world.resources.rejections_of_service(&payments), []);

    // Who comes, also when all were gone.
    assert!(Arc::ptr_eq(&config(&sidecar(&world, "orders")), &good));
    drop((one, other));
    assert_eq!(
        world.resources.0.alike.len(),
        1,
        "of web nothing was good before"
    );
    let one = sidecar(&world, "orders");
    assert!(Arc::ptr_eq(&config(&one), &good));
    assert_eq!(rejections(), said);

    // Somebody takes it after all.
    assert!(bad.fate().take());
    let changed = world.resources.ruled(ResourceType::ExtensionConfig, &bad);
    let names: Vec<_> = changed.iter().map(|(_, name)| &**name).collect();
    assert_eq!(names, ["isthmus"]);
    assert!(Arc::ptr_eq(&config(&one), &bad));

    // The next version is another matter.
    allow(&world, "payments", &["orders"]);
    let next = config(&one);
    assert!(rejects("one", &next, "words") && !rejects("two", &next, "words"));
    assert!(Arc::ptr_eq(&config(&one), &bad));
    allow(&world, "payments", &[]);
    assert_eq!(rejections(), []);
    assert!(!Arc::ptr_eq(&config(&one), &bad));
    drop(one);
    assert_eq!(world.resources.0.alike.len(), 0);
}

/// Nodes say what they are, so they could leave ever more behind.
#[test]
fn what_is_kept_for_nobody_is_limited() {
    let world = World::new();
    let views: Vec<_> = (0..KEPT + 9)
        .map(|n| sidecar(&world, &format!("s{n}")))
        .collect();
    for view in &views {
        config(view).fate().take();
    }
    allow(&world, "payments", &[]);
    for view in &views {
        rejects("one", &config(view), "bad");
    }
    drop(views);
    assert_eq!(world.resources.0.alike.len(), KEPT);
    assert_eq!(world.resources.rejections().len(), 1);
}
