//! A server that stops sends its clients away, one after the other, and cuts nobody short.

use std::net::TcpStream;

use isthmus_tests::{Ems, WorkDir, ems::EmsOptions};
use serde_json::json;

use super::{
    slow::{Slow, Stall},
    streams::host,
    *,
};

/// SIGTERM.
const TERMINATE: i32 = 15;

/// As long as there are moments to come, those that wait for theirs are served; those that have been sent away need not
/// come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_yet_sent_away_is_served() {
    let dir = WorkDir::new("leaving").unwrap();
    let options = EmsOptions {
        region: "eu".into(),
        // The first goes at once, the fourth when 85 hundredths of it have passed: it does not come to that.
        arguments: vec!["--drain-seconds=600".into()],
        ..EmsOptions::default()
    };
    let mut ems = Ems::with(&dir, options).unwrap();
    ems.put_service("pay", json!({})).unwrap();
    let address: SocketAddr = ems.xds_address().parse().unwrap();
    let mut clients = Vec::new();
    for id in ["first", "second", "third", "fourth"] {
        let channel = channel(address).await;
        let mut client = delta_on(channel.clone(), host(id)).await;
        client.subscribe(ResourceType::Endpoints, &["pay.eu"]).await;
        client.next_acked().await;
        clients.push((client, channel));
    }
    ems.process().signal(TERMINATE).unwrap();
    let end = clients[0].0.end().await;
    assert_eq!(end.code(), Code::Unavailable);
    assert!(end.message().contains("shutting down"), "{end:?}");

    // It has to go elsewhere: neither its connection nor another takes a stream.
    eventually(|| TcpStream::connect(address).is_err()).await;
    let (_requests, queue) = mpsc::channel(1);
    let again = AggregatedDiscoveryServiceClient::new(clients[0].1.clone())
        .delta_aggregated_resources(ReceiverStream::new(queue))
        .await;
    assert!(again.is_err());
    for (page, status) in [("/readyz", 503), ("/healthz", 200)] {
        let answer = ems.call("GET", page).send().unwrap();
        assert_eq!(answer.status, status, "{page}: {}", answer.body);
    }
    ems.put_endpoint("pay", "1", 7001).unwrap();
    for (client, _) in &mut clients[1..] {
        assert_eq!(names(&client.next_acked().await), ["pay.eu"]);
    }
    ems.kill();
}

/// Who has been sent half of a response gets the rest, and then is told why no more comes.
#[tokio::test]
async fn no_response_is_cut() {
    for stall in [Stall::Window, Stall::Socket] {
        let fixture = Fixture::new(Limits::default()).await;
        let kind = ResourceType::Cluster;
        let bulk = "x".repeat(match stall {
            Stall::Window => 24 << 10,
            Stall::Socket => 24 << 20,
        });
        fixture.put(kind, &["bulk"], &bulk);
        let mut slow = Slow::open(fixture.address, stall, &[kind]).await;
        fixture.leave(Duration::from_millis(50)).await;

        let whole = slow.next().await.unwrap();
        let value = &whole.resources[0].resource.as_ref().unwrap().value;
        assert!(value == bulk.as_bytes(), "{stall:?}");
        assert!(slow.next().await.is_none(), "{stall:?}");
        assert_eq!(slow.status().await, Code::Unavailable, "{stall:?}");
    }
}

/// All of a crowd end alike, in whatever state each is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_a_crowd_are_sent_away() {
    const CROWD: usize = 60;
    let fixture = Fixture::new(Limits::default()).await;
    let kind = ResourceType::Cluster;
    fixture.put(kind, &["a"], &"x".repeat(100_000));
    let mut clients = Vec::new();
    for n in 0..CROWD {
        let mut client = fixture.delta(&format!("n{n}")).await;
        // Some have said nothing yet, some wait for an answer, some answer nothing, some do all that they should.
        if n % 4 > 0 {
            client.subscribe(kind, &["*"]).await;
        }
        if n % 4 > 1 {
            let response = client.next().await;
            if n % 4 > 2 {
                client.answer(&response, None).await;
            }
        }
        clients.push(client);
    }
    let fixture = std::sync::Arc::new(fixture);
    let leaving = fixture.clone();
    let left = tokio::spawn(async move { leaving.leave(Duration::from_millis(300)).await });
    for client in &mut clients {
        let end = loop {
            match timeout(DEADLINE, client.responses.message()).await.unwrap() {
                Ok(response) => assert_eq!(names(&response.unwrap()), ["a"]),
                Err(status) => break status,
            }
        };
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
        assert!(end.message().contains("shutting down"), "{end:?}");
    }
    left.await.unwrap();
    eventually(|| fixture.server.streams() == 0).await;
}
