//! The xDS server over real gRPC, with scripted clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "xds/crowd.rs"]
mod crowd;
#[path = "xds/fixture.rs"]
mod fixture;
#[path = "xds/leaving.rs"]
mod leaving;
#[path = "xds/limits.rs"]
mod limits;
#[path = "xds/methods.rs"]
mod methods;
#[path = "xds/peers.rs"]
mod peers;
#[path = "xds/slow.rs"]
mod slow;
#[path = "xds/store.rs"]
mod store;
#[path = "xds/streams.rs"]
mod streams;

use std::{net::SocketAddr, time::Duration};

use ems::xds::{Resource, ResourceType, limits::Limits, stream::State};
use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::{
            discovery::v3::{
                DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
                aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
            },
            endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient,
        },
    },
    google::rpc::Status,
};
use fixture::Fixture;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

const DEADLINE: Duration = Duration::from_secs(10);
/// How long nothing must come before we believe that nothing comes.
const QUIET: Duration = Duration::from_millis(150);

impl Fixture {
    fn put(&self, kind: ResourceType, names: &[&str], content: &str) {
        self.write(|write| {
            for name in names {
                write.put(kind, Resource::new(kind, *name, content.as_bytes()));
            }
        });
    }

    async fn channel(&self) -> Channel {
        channel(self.address).await
    }

    async fn delta(&self, node: &str) -> Delta {
        delta(self.address, named(node)).await
    }
}

async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn delta(address: SocketAddr, node: Node) -> Delta {
    delta_on(channel(address).await, node).await
}

async fn delta_on(channel: Channel, node: Node) -> Delta {
    let (requests, queue) = mpsc::channel(16);
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let responses = client
        .delta_aggregated_resources(ReceiverStream::new(queue))
        .await
        .unwrap()
        .into_inner();
    Delta {
        node: Some(node),
        requests,
        responses,
    }
}

/// A node that says nothing of itself but its id.
fn named(id: &str) -> Node {
    Node {
        id: id.into(),
        ..Node::default()
    }
}

/// A delta client.
struct Delta {
    /// Goes with the first request.
    node: Option<Node>,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Delta {
    async fn send(&mut self, request: DeltaDiscoveryRequest) {
        let node = self.node.take();
        self.requests
            .send(DeltaDiscoveryRequest { node, ..request })
            .await
            .unwrap();
    }

    async fn subscribe(&mut self, kind: ResourceType, names: &[&str]) {
        self.send(DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            resource_names_subscribe: names.iter().map(|&n| n.into()).collect(),
            ..Default::default()
        })
        .await;
    }

    async fn answer(&mut self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| Status {
                message: message.into(),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await;
    }

    async fn next(&mut self) -> DeltaDiscoveryResponse {
        timeout(DEADLINE, self.responses.message())
            .await
            .expect("a response in time")
            .unwrap()
            .expect("the stream goes on")
    }

    async fn next_acked(&mut self) -> DeltaDiscoveryResponse {
        let response = self.next().await;
        self.answer(&response, None).await;
        response
    }

    async fn end(&mut self) -> tonic::Status {
        match timeout(DEADLINE, self.responses.message())
            .await
            .expect("an end in time")
        {
            Err(status) => status,
            Ok(response) => panic!("no end but {response:?}"),
        }
    }

    async fn quiet(&mut self) {
        if let Ok(response) = timeout(QUIET, self.responses.message()).await {
            panic!("unexpected {response:?}");
        }
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|r| &*r.name).collect()
}

#[tokio::test]
async fn delta_subscription_change_and_removal() {
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(ResourceType::Cluster, &["a", "b"], "1");
    let mut client = fixture.delta("n").await;
    client
        .subscribe(ResourceType::Cluster, &["a", "ghost"])
        .await;

    let first = client.next_acked().await;
    assert_eq!(first.type_url, ResourceType::Cluster.type_url());
    assert_eq!(names(&first), ["a"]);
    assert_eq!(first.removed_resources, ["ghost"]);
    assert!(!first.system_version_info.is_empty());
    let any = first.resources[0].resource.as_ref().unwrap();
    assert_eq!(any.type_url, ResourceType::Cluster.type_url());
    assert_eq!(any.value, b"1");
    assert!(!first.resources[0].version.is_empty());

    fixture.put(ResourceType::Cluster, &["b"], "2");
    client.quiet().await;
    fixture.put(ResourceType::Cluster, &["a", "ghost"], "2");
    assert_eq!(names(&client.next_acked().await), ["a", "ghost"]);

    fixture.write(|write| write.remove(ResourceType::Cluster, "a"));
    let gone = client.next_acked().await;
    assert_eq!(gone.removed_resources, ["a"]);
    client.quiet().await;
}

#[tokio::test]
async fn large_responses_are_whole() {
    let fixture = Fixture::new(Limits::default()).await;
    let content = "x".repeat(100_000);
    let all: Vec<String> = (0..30).map(|i| format!("cluster-{i:02}")).collect();
    let all: Vec<&str> = all.iter().map(|n| &**n).collect();
    fixture.put(ResourceType::Endpoints, &all, &content);
    for node in ["one", "two"] {
        let mut client = fixture.delta(node).await;
        client.subscribe(ResourceType::Endpoints, &["*"]).await;
        let response = client.next_acked().await;
        assert_eq!(names(&response), all);
        for resource in &response.resources {
            assert_eq!(
                resource.resource.as_ref().unwrap().value,
                content.as_bytes()
            );
        }
    }
}

#[tokio::test]
async fn rejection_is_kept_counted_and_not_answered_by_the_same() {
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(ResourceType::Cluster, &["bad", "good"], "1");
    let mut client = fixture.delta("n").await;
    client
        .subscribe(ResourceType::Cluster, &["bad", "good"])
        .await;
    let response = client.next().await;
    client
        .answer(
            &response,
            Some("Error adding/updating cluster(s) bad: no endpoints"),
        )
        .await;
    client.quiet().await;

    let nodes = fixture.server.nodes().list();
    assert_eq!(nodes.len(), 1);
    assert_eq!((&*nodes[0].id, nodes[0].rejections), ("n", 1));
    let states: Vec<_> = nodes[0]
        .resources
        .iter()
        .map(|r| (&*r.name, r.state, r.error.as_deref()))
        .collect();
    let words = "Error adding/updating cluster(s) bad: no endpoints";
    assert_eq!(
        states,
        [
            ("bad", State::Rejected, Some(words)),
            ("good", State::Sent, None)
        ]
    );
    assert_eq!(
        fixture
            .server
            .counters()
            .totals(ResourceType::Cluster)
            .nacks,
        1
    );

    fixture.put(ResourceType::Cluster, &["bad"], "2");
    assert_eq!(names(&client.next_acked().await), ["bad"]);
    drop(client);
    eventually(|| fixture.server.nodes().list().is_empty()).await;
    assert_eq!(fixture.server.streams(), 0);
}

async fn eventually(mut done: impl FnMut() -> bool) {
    timeout(DEADLINE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("done in time");
}

#[tokio::test]
async fn state_of_the_world_on_its_own_service() {
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(ResourceType::Endpoints, &["a", "b"], "1");
    let mut client = EndpointDiscoveryServiceClient::new(fixture.channel().await);
    let (requests, queue) = mpsc::channel(16);
    let mut responses = client
        .stream_endpoints(ReceiverStream::new(queue))
        .await
        .unwrap()
        .into_inner();
    let ask = |nonce: &str, names: &[&str]| DiscoveryRequest {
        node: Some(Node::default()),
        response_nonce: nonce.into(),
        resource_names: names.iter().map(|&n| n.into()).collect(),
        ..Default::default()
    };
    requests.send(ask("", &["a"])).await.unwrap();
    let first: DiscoveryResponse = timeout(DEADLINE, responses.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(first.type_url, ResourceType::Endpoints.type_url());
    assert_eq!(first.resources.len(), 1);
    assert_eq!(first.resources[0].value, b"1");
    assert!(!first.version_info.is_empty());
    requests.send(ask(&first.nonce, &["a", "b"])).await.unwrap();
    let second = timeout(DEADLINE, responses.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(second.resources.len(), 1);
}

#[tokio::test]
async fn limits_have_clear_ends() {
    let limits = Limits {
        streams: 2,
        names: 3,
        name_bytes: 8,
        all_names_bytes: 20,
        request_bytes: 512,
        ..Limits::default()
    };
    let fixture = Fixture::new(limits).await;
    let long = "n".repeat(600);
    for (names, code, words) in [
        (
            &["a", "b", "c", "d"][..],
            Code::ResourceExhausted,
            "at most 3 names",
        ),
        (
            &["123456789"][..],
            Code::InvalidArgument,
            "9 bytes is too long",
        ),
        (
            &["12345678", "1234567", "123456"][..],
            Code::ResourceExhausted,
            "at most 20 bytes",
        ),
        (&[&*long][..], Code::OutOfRange, "limit is: 512"),
    ] {
        let mut client = fixture.delta("n").await;
        client.subscribe(ResourceType::Cluster, names).await;
        let end = client.end().await;
        assert_eq!(end.code(), code, "{end:?}");
        assert!(end.message().contains(words), "{end:?}");
        eventually(|| fixture.server.streams() == 0).await;
    }
    let _one = fixture.delta("1").await;
    let _two = fixture.delta("2").await;
    let mut client = AggregatedDiscoveryServiceClient::new(fixture.channel().await);
    let (_requests, queue) = mpsc::channel(1);
    let end = client
        .delta_aggregated_resources(ReceiverStream::new(queue))
        .await
        .expect_err("a third stream");
    assert_eq!(end.code(), Code::ResourceExhausted);
    assert_eq!(fixture.server.counters().refused(), 5);
}

#[tokio::test]
async fn draining_ends_streams_and_lets_nobody_in() {
    let fixture = Fixture::new(Limits::default()).await;
    let mut client = fixture.delta("n").await;
    client.subscribe(ResourceType::Cluster, &["a"]).await;
    client.next_acked().await;
    fixture.server.drain(Duration::ZERO).await;
    assert_eq!(client.end().await.code(), Code::Unavailable);
    let mut late = AggregatedDiscoveryServiceClient::new(fixture.channel().await);
    let (_requests, queue) = mpsc::channel(1);
    let end = late
        .delta_aggregated_resources(ReceiverStream::new(queue))
        .await
        .unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
}

#[tokio::test]
async fn who_says_nothing_loses_the_place() {
    // The talker has as much time to speak: enough of it that a stall of the machine does not silence it.
    let limits = Limits {
        first_request: Duration::from_secs(3),
        ..Limits::default()
    };
    let fixture = Fixture::new(limits).await;
    fixture.put(ResourceType::Cluster, &["a"], "1");
    let mut talker = fixture.delta("talker").await;
    talker.subscribe(ResourceType::Cluster, &["a"]).await;
    talker.next_acked().await;
    let mut silent = fixture.delta("silent").await;
    let end = silent.end().await;
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end:?}");
    eventually(|| fixture.server.streams() == 1).await;
    // Whoever spoke once may be silent for as long as it likes: by now, longer than the one who never did.
    talker.quiet().await;
    fixture.put(ResourceType::Cluster, &["a"], "2");
    talker.next_acked().await;
}
