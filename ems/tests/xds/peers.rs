//! Clients that are gone without a word.

use ems::serve::network::{Keepalive, Terms};
use isthmus_tests::{Ems, Link, WorkDir, ems::EmsOptions};
use serde_json::json;

use super::{
    slow::{Slow, Stall},
    streams::host,
    *,
};

/// Time enough for one that lives, on a busy machine; less than [`isthmus_tests::eventually`] waits, as the usual times
/// are not.
const BRIEF: Keepalive = Keepalive {
    after: Duration::from_secs(1),
    within: Duration::from_secs(4),
};

/// A network that drops every packet: nobody is told of an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_no_ping_is_gone() {
    let dir = WorkDir::new("frozen").unwrap();
    let (after, within) = (BRIEF.after.as_secs(), BRIEF.within.as_secs());
    let options = EmsOptions {
        region: "eu".into(),
        arguments: vec![
            format!("--keepalive-seconds={after}"),
            format!("--keepalive-timeout-seconds={within}"),
        ],
        ..EmsOptions::default()
    };
    let ems = Ems::with(&dir, options).unwrap();
    ems.put_service("pay", json!({})).unwrap();
    let link = Link::to(&ems.xds_address()).unwrap();
    let direct: SocketAddr = ems.xds_address().parse().unwrap();
    let linked = SocketAddr::new(direct.ip(), link.port());
    let mut clients = Vec::new();
    for (id, address) in [("alive", direct), ("frozen", linked)] {
        let mut client = delta(address, host(id)).await;
        client.subscribe(ResourceType::Endpoints, &["pay.eu"]).await;
        client.next_acked().await;
        clients.push(client);
    }
    let ids = || {
        let nodes = ems.nodes().unwrap();
        let ids = nodes.iter().map(|node| node["id"].as_str().unwrap().into());
        ids.collect::<Vec<String>>()
    };
    assert_eq!(ids(), ["alive", "frozen"]);

    link.silence();
    isthmus_tests::eventually("the frozen one to be gone", || ids() == ["alive"]).unwrap();
    assert!((ems.metric("ems_xds_streams", "").unwrap() - 1.0).abs() < f64::EPSILON);
    // The other was pinged as well.
    ems.put_endpoint("pay", "1", 7001).unwrap();
    assert_eq!(names(&clients[0].next_acked().await), ["pay.eu"]);
}

/// One that reads nothing gets no ping either, nor the word that it is given up: its connection ends all the same, and
/// its place is another's.
#[tokio::test]
async fn who_reads_nothing_is_gone() {
    let terms = Terms {
        places: 1,
        admission: None,
        keepalive: BRIEF,
    };
    let fixture = Fixture::on(Limits::default(), terms).await;
    let kind = ResourceType::Cluster;
    let bulk = "x".repeat(24 << 20);
    fixture.put(kind, &["bulk"], &bulk);
    let _frozen = Slow::open(fixture.address, Stall::Socket, &[kind]).await;
    assert_eq!(fixture.server.streams(), 1);
    let address = fixture.address;
    let next = timeout(isthmus_tests::wait::DEADLINE, async {
        let mut next = delta(address, named("next")).await;
        next.subscribe(kind, &["ghost"]).await;
        next.next_acked().await
    });
    let answer = next.await.expect("the place of the frozen one");
    assert_eq!(answer.removed_resources, ["ghost"]);
}
