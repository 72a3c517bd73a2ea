//! What `ems serve` is told is what clients meet.

use isthmus_tests::{Ems, WorkDir, ems::EmsOptions};

use super::{streams::host, *};

async fn open(address: SocketAddr, id: &str) -> Delta {
    let mut client = delta(address, host(id)).await;
    client.subscribe(ResourceType::Cluster, &["ghost.eu"]).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_node_and_in_all() {
    let dir = WorkDir::new("limits").unwrap();
    let options = EmsOptions {
        region: "eu".into(),
        arguments: ["--max-streams=3", "--max-streams-per-node=2"]
            .map(str::to_owned)
            .into(),
        ..EmsOptions::default()
    };
    let ems = Ems::with(&dir, options).unwrap();
    let address: SocketAddr = ems.xds_address().parse().unwrap();
    let mut there = Vec::new();
    for _ in 0..2 {
        let mut client = open(address, "greedy").await;
        client.next_acked().await;
        there.push(client);
    }
    let end = open(address, "greedy").await.end().await;
    assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
    assert!(end.message().contains("has 2 streams already"), "{end:?}");

    let streams = || ems.metric("ems_xds_streams", "").unwrap() as u32;
    eventually(|| streams() == 2).await;
    let mut third = open(address, "modest").await;
    third.next_acked().await;
    let mut client = AggregatedDiscoveryServiceClient::new(channel(address).await);
    let (_requests, queue) = mpsc::channel(1);
    let end = client
        .delta_aggregated_resources(ReceiverStream::new(queue))
        .await
        .expect_err("a fourth stream");
    assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
    assert!(end.message().contains("3 streams already"), "{end:?}");
    let refused = ems.metric("ems_xds_refused_streams_total", "").unwrap();
    assert_eq!((streams(), refused as u32), (3, 2));
    // Who it was and where, for whoever has to find it.
    let log = ems.log();
    for parts in [
        ["stream refused", r#"node \"greedy\""#, "peer=127.0.0.1:"],
        ["--max-streams", "limit=3", "peer=127.0.0.1:"],
    ] {
        let found = log
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?}: {log}");
    }
}

/// One connection cannot have ever more under way: its client has to wait, or make another.
#[tokio::test]
async fn requests_on_a_connection() {
    const AT_ONCE: usize = 1_000;
    let fixture = Fixture::new(Limits::default()).await;
    let socket = tokio::net::TcpStream::connect(fixture.address).await;
    let (mut send, connection) = h2::client::handshake(socket.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let method = "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    let request = || {
        http::Request::post(format!("http://{}/{method}", fixture.address))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap()
    };
    let mut open = Vec::new();
    for _ in 0..AT_ONCE {
        send = timeout(DEADLINE, send.ready()).await.unwrap().unwrap();
        let (response, requests) = send.send_request(request(), false).unwrap();
        open.push((response.await.unwrap(), requests));
    }
    assert_eq!(fixture.server.streams(), AT_ONCE);
    send = send.ready().await.unwrap();
    let (more, requests) = send.send_request(request(), false).unwrap();
    let mut more = tokio::spawn(more);
    assert!(timeout(QUIET, &mut more).await.is_err(), "one more");
    drop(open.pop());
    assert!(timeout(DEADLINE, more).await.unwrap().unwrap().is_ok());
    drop(requests);
}
