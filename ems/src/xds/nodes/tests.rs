//! What is shown of nodes.

use std::{collections::HashMap, time::Duration};

use envoy_types::pb::envoy::{config::core::v3::BuildVersion, r#type::v3::SemanticVersion};

use super::*;
use crate::xds::{
    Resource, ResourceType,
    memory::Memory,
    stream::{Ask, Mode, Request},
};

fn envoy(id: &str) -> Node {
    Node {
        id: id.into(),
        user_agent_name: "envoy".into(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
            version: Some(SemanticVersion {
                major_number: 1,
                minor_number: 40,
                patch: 0,
            }),
            metadata: None,
        })),
        ..Node::default()
    }
}

fn session(node: &Node, at: u64, kind: ResourceType) -> Arc<Session> {
    let memory = Memory::default();
    memory.write(|write| write.put(kind, Resource::with_version(kind, "a", "1", b"")));
    let mut stream = Stream::new(Mode::Delta, Some(kind), Arc::default());
    let ask = Ask::Delta {
        subscribe: vec!["a".into(), "b".into()],
        unsubscribe: Vec::new(),
        initial: HashMap::new(),
    };
    let request = Request {
        ask,
        ..Request::default()
    };
    stream.on_request(request, &memory).unwrap();
    stream.flush(&memory);
    let at = Duration::from_secs(at);
    let mut known = identify(node, at, &Limits::default()).unwrap();
    known.labels = vec![("kind", "sidecar".into())];
    Arc::new(Session::new(known, stream))
}

#[test]
fn streams_of_a_node_are_one() {
    let nodes = Nodes::default();
    let endpoints = session(&envoy("n"), 20, ResourceType::Endpoints);
    endpoints.rejected();
    assert!(nodes.insert(1, endpoints, 9));
    assert!(nodes.insert(2, session(&envoy("n"), 10, ResourceType::Cluster), 9));
    assert!(nodes.insert(3, session(&Node::default(), 30, ResourceType::Cluster), 9));
    let listed = nodes.list();
    let [unnamed, node] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    assert_eq!((&*unnamed.id, &*unnamed.user_agent), ("", ""));
    assert_eq!(node.labels, [("kind", "sidecar".to_owned())]);
    assert_eq!((&*node.user_agent, node.rejections), ("envoy/1.40.0", 1));
    assert_eq!(node.connected_at, Duration::from_secs(10));
    let resources: Vec<_> = node
        .resources
        .iter()
        .map(|r| {
            let version = r.version.as_deref().unwrap_or_default();
            format!("{} {}={version} {:?}", r.kind, r.name, r.state)
        })
        .collect();
    assert_eq!(
        resources,
        [
            "cluster a=1 Sent",
            "cluster b= Absent",
            "endpoints a=1 Sent",
            "endpoints b= Absent"
        ]
    );
    for id in 1..4 {
        nodes.remove(id);
    }
    assert!(nodes.list().is_empty());
}

/// A node that rejected each of these clusters, and asked for others that do not exist.
fn loaded(id: &str, rejected: usize, absent: usize) -> Arc<Session> {
    let kind = ResourceType::Cluster;
    let memory = Memory::default();
    let names = (0..rejected + absent).map(|i| format!("{i:05}"));
    let names: Vec<_> = names.collect();
    memory.write(|write| {
        for name in names.iter().take(rejected) {
            write.put(kind, Resource::with_version(kind, &**name, "1", b""));
        }
    });
    let rejected_names: Vec<_> = names.iter().take(rejected).cloned().collect();
    let mut stream = Stream::new(Mode::Delta, Some(kind), Arc::default());
    let ask = |subscribe| Ask::Delta {
        subscribe,
        unsubscribe: Vec::new(),
        initial: HashMap::new(),
    };
    let first = Request {
        ask: ask(names),
        ..Request::default()
    };
    stream.on_request(first, &memory).unwrap();
    stream.flush(&memory);
    let refusal = Request {
        ask: ask(Vec::new()),
        nonce: "1".into(),
        error: Some(format!("bad are {}", rejected_names.join(" "))),
        ..Request::default()
    };
    stream.on_request(refusal, &memory).unwrap();
    let known = identify(&envoy(id), Duration::ZERO, &Limits::default()).unwrap();
    Arc::new(Session::new(known, stream))
}

/// The list is as long as what there is only while that is little; the numbers are always right, and one node is whole.
#[test]
fn long_lists_have_numbers() {
    let nodes = Nodes::default();
    assert!(nodes.insert(0, loaded("bad", 30, 0), 9));
    assert!(nodes.insert(1, loaded("large", 0, ROWS - 30), 9));
    let rows = |nodes: &Nodes| -> Vec<usize> {
        let listed = nodes.list();
        listed.iter().map(|node| node.resources.len()).collect()
    };
    assert_eq!(rows(&nodes), [30, ROWS - 30]);
    assert!(nodes.insert(2, loaded("small", 0, 1), 9));
    assert_eq!(rows(&nodes), [REJECTED_ROWS_OF_NODE, 0, 0]);
    let listed = nodes.list();
    let rejected = |status: &Status| status.state == State::Rejected;
    assert!(listed[0].resources.iter().all(rejected));
    let counts = |rejected, absent| Counts {
        rejected,
        absent,
        ..Counts::default()
    };
    assert_eq!(listed[0].counts, counts(30, 0));
    assert_eq!(listed[1].counts, counts(0, ROWS as u64 - 30));
    for (id, expected) in [("bad", 30), ("large", ROWS - 30), ("small", 1)] {
        assert_eq!(nodes.get(id).unwrap().resources.len(), expected);
    }
    assert_eq!(nodes.get("nobody"), None);
    for id in 3..90 {
        assert!(nodes.insert(id, loaded(&format!("{id}"), 30, 0), 9));
    }
    assert_eq!(rows(&nodes).iter().sum::<usize>(), REJECTED_ROWS);
}

#[test]
fn streams_of_a_node_are_limited() {
    let nodes = Nodes::default();
    let cds = |node: &Node| session(node, 10, ResourceType::Cluster);
    assert!(nodes.insert(1, cds(&envoy("n")), 2));
    assert!(nodes.insert(2, cds(&envoy("n")), 2));
    assert!(!nodes.insert(3, cds(&envoy("n")), 2));
    assert!(nodes.insert(4, cds(&envoy("other")), 2));
    nodes.remove(3);
    assert!(!nodes.insert(3, cds(&envoy("n")), 2));
    nodes.remove(1);
    nodes.remove(1);
    assert!(nodes.insert(3, cds(&envoy("n")), 2));
}

/// What is kept of a node is bounded: each text by itself, and not by what a request may have.
#[test]
fn what_a_node_says_of_itself_is_limited() {
    let limits = Limits {
        name_bytes: 16,
        ..Limits::default()
    };
    type Make<'a> = &'a dyn Fn(String) -> Node;
    let cases: [(&str, Make<'_>); 2] = [
        ("id", &|text| envoy(&text)),
        ("user agent", &|text| Node {
            user_agent_name: text,
            user_agent_version_type: None,
            ..envoy("n")
        }),
    ];
    for (what, make) in cases {
        let of = |bytes| identify(&make("x".repeat(bytes)), Duration::ZERO, &limits);
        assert!(of(16).is_ok(), "{what}");
        let refusal = of(17).unwrap_err();
        let limit = 16;
        let expected = Refusal::NodeTooLong {
            what,
            found: 17,
            limit,
        };
        assert_eq!(refusal, expected);
    }
    // Name and version are kept together.
    let node = Node {
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion("y".repeat(11))),
        ..envoy("n")
    };
    let refusal = identify(&node, Duration::ZERO, &limits).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the node's user agent has 17 bytes, which is too long; at most 16 are allowed"
    );
}

/// "For clients that support the *xds.config.supports-resource-ttl* client feature"; in the state of the world "gated by
/// the *xds.config.supports-resource-in-sotw* client feature", which gRPC calls `xds.config.resource-in-sotw`.
#[test]
fn who_takes_a_ttl() {
    let of = |agent: &str, features: &[&str]| Node {
        user_agent_name: agent.into(),
        client_features: features.iter().map(|&f| f.into()).collect(),
        ..Node::default()
    };
    let (ttl, wrapped) = (
        "xds.config.supports-resource-ttl",
        "xds.config.resource-in-sotw",
    );
    for (agent, features, delta, sotw) in [
        ("envoy", &[][..], true, true),
        ("gRPC Go", &[wrapped], false, false),
        ("other", &[ttl], true, false),
        ("other", &[ttl, wrapped], true, true),
        (
            "other",
            &[ttl, "xds.config.supports-resource-in-sotw"],
            true,
            true,
        ),
        ("", &[], false, false),
    ] {
        let node = of(agent, features);
        let found = (knows_ttl(&node, Mode::Delta), knows_ttl(&node, Mode::Sotw));
        assert_eq!(found, (delta, sotw), "{agent} {features:?}");
    }
}
