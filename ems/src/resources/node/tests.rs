//! What a node must say, and how much it may.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::config::core::v3::Locality,
    google::protobuf::{ListValue, Value},
};

use super::*;
use crate::{
    resources::tests::world::{World, metadata, node, text},
    xds::Source,
};

fn mesh(node: &mut EnvoyNode) -> &mut HashMap<String, Value> {
    let fields = &mut node.metadata.as_mut().unwrap().fields;
    let Some(Kind::StructValue(mesh)) = &mut fields.get_mut("isthmus").unwrap().kind else {
        panic!("no struct")
    };
    &mut mesh.fields
}

#[test]
fn a_node_must_say_who_it_is() {
    let world = World::new();
    let cases = [
        (EnvoyNode::default(), "ems bootstrap"),
        (
            metadata(HashMap::from([("kind", text("sidecart"))])),
            "isthmus.kind: \"sidecart\" is no kind of Envoy: say sidecar, host or gateway; isthmus.service is missing; \
             isthmus.region is missing; isthmus.listen is missing; isthmus.filter is missing",
        ),
    ];
    for (node, part) in cases {
        let error = world.resources.view(&node).err().unwrap();
        assert!(error.contains(part), "{error}");
    }
    let mut elsewhere = node("host", &[], false);
    mesh(&mut elsewhere).insert("region".into(), text("eu"));
    let error = world.resources.view(&elsewhere).err().unwrap();
    assert!(error.contains("own region"), "{error}");
}

/// What is kept of a node is bounded, and so is what it is told of its errors.
#[test]
fn what_a_node_says_is_limited() {
    let world = World::new();
    let bounded = |key: &'static str, value: Value| {
        let mut node = node("host", &[], false);
        mesh(&mut node).insert(key.into(), value);
        world.resources.view(&node).map(drop)
    };
    let long = |bytes| text(&"x".repeat(bytes));
    let list = |values: Vec<Value>| Value {
        kind: Some(Kind::ListValue(ListValue { values })),
    };
    assert_eq!(bounded("filter", long(1_024)), Ok(()));
    assert_eq!(bounded("uses", list(vec![long(512); 1_000])), Ok(()));
    for (key, value, part) in [
        (
            "filter",
            long(1_025),
            "filter: has 1025 bytes; at most 1024",
        ),
        (
            "kind",
            long(100_000),
            "kind: has 100000 bytes; at most 1024",
        ),
        (
            "uses",
            list(vec![long(1); 1_001]),
            "uses has 1001 entries; at most 1000 are allowed",
        ),
        (
            "uses",
            list(vec![long(513); 1_000]),
            "uses: an entry has 513 bytes; at most 512 are allowed",
        ),
    ] {
        let error = bounded(key, value).unwrap_err();
        assert!(error.contains(part) && error.len() < 200, "{error}");
    }
    for (bytes, taken) in [(1_024, true), (1_025, false)] {
        let zone = Locality {
            zone: "z".repeat(bytes),
            ..Locality::default()
        };
        let mut node = node("host", &[], false);
        node.locality = Some(zone);
        assert_eq!(world.resources.view(&node).is_ok(), taken, "{bytes}");
    }
}
