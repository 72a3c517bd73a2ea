//! What concerns a stream as a whole: who the node is, how much it may cost, and what becomes of it when it comes back.

use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use isthmus_tests::{Ems, WorkDir};
use serde_json::json;

use super::*;

/// One that `ems bootstrap` made, in region eu.
pub(crate) fn host(id: &str) -> Node {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.into())),
    };
    let fields = [
        ("kind", "host"),
        ("service", "shop"),
        ("region", "eu"),
        ("listen", "127.0.0.1:10000"),
        ("filter", "/filter.wasm"),
    ];
    let mesh = Struct {
        fields: fields.map(|(k, v)| (k.into(), text(v))).into(),
    };
    let mesh = Value {
        kind: Some(Kind::StructValue(mesh)),
    };
    Node {
        id: id.into(),
        metadata: Some(Struct {
            fields: [("isthmus".into(), mesh)].into(),
        }),
        ..Node::default()
    }
}

fn cluster(name: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: ResourceType::Cluster.type_url().into(),
        resource_names_subscribe: vec![name.into()],
        ..Default::default()
    }
}

/// "Only the first request on a stream is guaranteed to carry the node identifier"; "The node identifier should always be
/// identical if present more than once on the stream. It is sufficient to only check the first message".
#[tokio::test]
async fn the_first_request_says_who_the_node_is() {
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(ResourceType::Cluster, &["a", "b"], "1");
    let mut client = fixture.delta("first").await;
    // The node and nothing else: everything of the type.
    client.subscribe(ResourceType::Cluster, &[]).await;
    assert_eq!(names(&client.next_acked().await), ["a", "b"]);
    let later = DeltaDiscoveryRequest {
        node: Some(named("second")),
        ..cluster("a")
    };
    client.requests.send(later).await.unwrap();
    assert_eq!(names(&client.next_acked().await), ["a"]);
    let ids: Vec<_> = fixture.server.nodes().list();
    let ids: Vec<_> = ids.iter().map(|node| &*node.id).collect();
    assert_eq!(ids, ["first"]);
}

/// A node that opens ever more streams is stopped, and nobody else is.
#[tokio::test]
async fn streams_per_node_are_limited() {
    let limits = Limits {
        streams_per_node: 2,
        ..Limits::default()
    };
    let fixture = Fixture::new(limits).await;
    fixture.put(ResourceType::Cluster, &["a"], "1");
    let mut clients = Vec::new();
    for id in ["greedy", "greedy", "modest"] {
        let mut client = fixture.delta(id).await;
        client.subscribe(ResourceType::Cluster, &["a"]).await;
        client.next_acked().await;
        clients.push(client);
    }
    let mut third = fixture.delta("greedy").await;
    third.subscribe(ResourceType::Cluster, &["a"]).await;
    let end = third.end().await;
    assert_eq!(end.code(), Code::ResourceExhausted);
    let words = "node \"greedy\" has 2 streams already";
    assert!(end.message().contains(words), "{end:?}");
    assert_eq!(fixture.server.counters().refused(), 1);
    eventually(|| fixture.server.streams() == 3).await;
    clients.remove(0);
    eventually(|| fixture.server.streams() == 2).await;
    let mut third = fixture.delta("greedy").await;
    third.subscribe(ResourceType::Cluster, &["a"]).await;
    third.next_acked().await;
}

/// What is kept of a node as long as its stream is not up to it, and the refusal does not repeat it.
#[tokio::test]
async fn what_a_node_says_of_itself_is_limited() {
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(ResourceType::Cluster, &["a"], "1");
    let mut client = fixture.delta(&"n".repeat(1_024)).await;
    client.subscribe(ResourceType::Cluster, &["a"]).await;
    client.next_acked().await;
    let long = |bytes| "n".repeat(bytes);
    let agent = Node {
        user_agent_name: long(1_025),
        ..Node::default()
    };
    for (node, words) in [
        (Some(named(&long(1_025))), "node's id has 1025 bytes"),
        (Some(named(&long(3_000_000))), "node's id has 3000000 bytes"),
        (Some(agent), "node's user agent has 1025 bytes"),
    ] {
        let mut client = fixture.delta("").await;
        let request = DeltaDiscoveryRequest {
            node,
            ..cluster("a")
        };
        client.requests.send(request).await.unwrap();
        let end = client.end().await;
        assert_eq!(end.code(), Code::InvalidArgument);
        assert!(end.message().contains(words), "{end:?}");
    }
    assert_eq!(fixture.server.nodes().list().len(), 1);
}

/// A client that takes everything and answers nothing has one response of each type, however much changes.
#[tokio::test]
async fn unanswered_responses_are_bounded() {
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(ResourceType::Cluster, &["a"], "0");
    fixture.put(ResourceType::Route, &["r"], "0");
    let mut client = fixture.delta("n").await;
    client.subscribe(ResourceType::Cluster, &["*"]).await;
    let clusters = client.next().await;
    client.subscribe(ResourceType::Route, &["*"]).await;
    let routes = client.next().await;
    for change in 1..300 {
        fixture.put(ResourceType::Cluster, &["a", "b"], &change.to_string());
        fixture.put(ResourceType::Route, &["r"], &change.to_string());
    }
    client.quiet().await;
    let pushes = |kind| fixture.server.counters().totals(kind).pushes;
    assert_eq!(pushes(ResourceType::Cluster), 1);
    assert_eq!(pushes(ResourceType::Route), 1);
    // What it missed is one response.
    client.answer(&clusters, None).await;
    client.answer(&routes, None).await;
    let merged = client.next_acked().await;
    assert_eq!(names(&merged), ["a", "b"]);
    assert_eq!(merged.resources[0].resource.as_ref().unwrap().value, b"299");
    assert_eq!(names(&client.next_acked().await), ["r"]);
}

/// A TTL is refreshed without a word of the client, and its content is not sent again.
#[tokio::test]
async fn heartbeats_come_by_themselves() {
    let fixture = Fixture::new(Limits::default()).await;
    let kind = ResourceType::Cluster;
    // A third of it between beats: more than a machine stalls for, and less than `next` waits.
    const TTL: Duration = Duration::from_secs(6);
    let brief = Resource::new(kind, "brief", b"1").expiring(TTL);
    fixture.write(|write| write.put(kind, brief));
    let mut client = fixture.delta("n").await;
    client.node = None;
    let first = DeltaDiscoveryRequest {
        node: Some(Node {
            client_features: vec!["xds.config.supports-resource-ttl".into()],
            ..Node::default()
        }),
        ..cluster("brief")
    };
    client.requests.send(first).await.unwrap();
    let whole = client.next_acked().await.resources.remove(0);
    assert!(whole.resource.is_some() && whole.aliases.is_empty());
    let ttl = whole.ttl.unwrap();
    assert_eq!((ttl.seconds, ttl.nanos), (6, 0));
    for _ in 0..2 {
        let beat = client.next_acked().await.resources.remove(0);
        assert_eq!((&beat.name, &beat.version), (&whole.name, &whole.version));
        assert_eq!((beat.ttl, beat.resource), (whole.ttl, None));
    }
}

/// "On reconnect the Incremental xDS client may tell the server of its known resources to avoid resending them": another
/// EMS that serves the same has the same versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_with_another_process() {
    let (service, name) = (json!({"name": "pay"}), "pay.eu");
    let mut has = std::collections::HashMap::new();
    let mut identifiers = Vec::new();
    for round in ["one", "two"] {
        let dir = WorkDir::new(&format!("xds-{round}")).unwrap();
        let ems = Ems::start(&dir, "eu").unwrap();
        ems.put_service("pay", service.clone()).unwrap();
        ems.put_endpoint("pay", "1", 7001).unwrap();
        let mut client = delta(ems.xds_address().parse().unwrap(), host("host")).await;
        for kind in [ResourceType::Cluster, ResourceType::Endpoints] {
            let request = DeltaDiscoveryRequest {
                type_url: kind.type_url().into(),
                resource_names_subscribe: vec![name.into()],
                initial_resource_versions: has.get(&kind).cloned().into_iter().collect(),
                ..Default::default()
            };
            client.send(request).await;
            if round == "one" {
                let response = client.next_acked().await;
                let resource = &response.resources[0];
                has.insert(kind, (resource.name.clone(), resource.version.clone()));
                identifiers.push(response.control_plane.unwrap().identifier);
            }
        }
        if round == "two" {
            // It has everything.
            client.quiet().await;
            ems.put_endpoint("pay", "2", 7002).unwrap();
            let moved = client.next_acked().await;
            assert_eq!(moved.type_url, ResourceType::Endpoints.type_url());
            assert_eq!(names(&moved), [name]);
        }
    }
    assert!(identifiers[0].contains(" eu "), "{identifiers:?}");
}
