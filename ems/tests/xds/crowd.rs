//! All Envoys come back at once.

use std::time::Instant;

use isthmus_tests::{Ems, WorkDir, ems::EmsOptions};
use serde_json::json;
use tokio::task::JoinSet;

use super::{streams::host, *};

/// A second; as many at once as come in half of one.
const RATE: u32 = 2;
const CROWD: u32 = 10;

async fn host_at(address: SocketAddr, id: &str) -> Delta {
    let mut client = delta(address, host(id)).await;
    client.subscribe(ResourceType::Endpoints, &["pay.eu"]).await;
    let first = timeout(DEADLINE * 2, client.responses.message());
    let first = first.await.expect("its turn in time").unwrap().unwrap();
    client.answer(&first, None).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_let_in_little_by_little() {
    let dir = WorkDir::new("crowd").unwrap();
    let options = EmsOptions {
        region: "eu".into(),
        arguments: vec![format!("--max-connects-per-second={RATE}")],
        ..EmsOptions::default()
    };
    let ems = Ems::with(&dir, options).unwrap();
    ems.put_service("pay", json!({})).unwrap();
    let address = ems.xds_address().parse().unwrap();
    let mut there = host_at(address, "there").await;

    let begin = Instant::now();
    let mut crowd = JoinSet::new();
    for n in 0..CROWD {
        crowd.spawn(async move { (host_at(address, &n.to_string()).await, begin.elapsed()) });
    }
    let (mut served, mut heard) = (Vec::new(), 0);
    while served.len() < CROWD as usize {
        while let Some(joined) = crowd.try_join_next() {
            served.push(joined.unwrap());
        }
        if served.len() < CROWD as usize {
            heard += 1;
            ems.put_endpoint("pay", "1", 7_000 + heard).unwrap();
            there.next_acked().await;
        }
    }
    assert!(heard > 1, "nothing changed while the crowd waited");
    served.sort_by_key(|(_, at)| *at);
    // The clock cannot have been slow: nobody came before those whose turn it was.
    for (n, (_, at)) in (0..).zip(&served) {
        let turn = Duration::from_secs(1) * n / RATE;
        assert!(*at >= turn, "{n} was let in after {at:?}, before {turn:?}");
    }
}
