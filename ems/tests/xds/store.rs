//! What a client is told when the store is slow to load, or holds a record that nobody can read.

use std::path::Path;

use ems::{
    options::RawOptions,
    serve::{self, Listeners, room::Room},
    store::{RedbStore, Store, Transaction, Write},
};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use isthmus_proto::v1;
use isthmus_tests::{Ems, WorkDir};
use prost::Message;
use serde_json::json;

use super::{streams::host, *};

/// Writes behind the back of a server that is not running.
async fn write(directory: &Path, records: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let records = records.into_iter();
    let writes = records.map(|(key, value)| Write::Put(key, value.into()));
    let transaction = Transaction {
        guards: Vec::new(),
        writes: writes.collect(),
    };
    let store = RedbStore::open(directory).unwrap();
    store.commit(transaction).await.unwrap();
}

/// To be told that what one has does not exist would be an outage after each restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_before_the_load_waits_for_it() {
    // So many that whoever were let in at once would be answered long before they are all read.
    const SERVICES: usize = 20_000;
    let dir = WorkDir::new("early").unwrap();
    let data_dir = dir.path().join("data");
    let names = (0..SERVICES).map(|n| format!("pay-{n}"));
    let service = |name: String| {
        let key = format!("services/{name}");
        let service = v1::Service {
            name,
            ..v1::Service::default()
        };
        (key, service.encode_to_vec())
    };
    write(&data_dir, names.map(service)).await;

    let free = || Some("127.0.0.1:0".to_owned());
    let options = RawOptions {
        region: Some("eu".to_owned()),
        xds_address: free(),
        http_address: free(),
        data_dir: Some(data_dir),
        ..RawOptions::default()
    };
    let options = options.check().unwrap();
    let listeners = Listeners::bind(&options, Room::whole(options.max_streams))
        .await
        .unwrap();
    // Connected before anything is loaded, or even runs.
    let channel = channel(listeners.xds.local_addr().unwrap()).await;
    let serving = tokio::spawn(serve::run(options, listeners, std::future::pending()));
    let mut client = delta_on(channel, host("host")).await;
    let last = format!("pay-{}.eu", SERVICES - 1);
    client
        .subscribe(ResourceType::Cluster, &["pay-0.eu", &last])
        .await;
    let first = client.next_acked().await;
    let all = (strings(["pay-0.eu", &last]), strings([]));
    assert_eq!(known_and_unknown(&first), all);
    serving.abort();
}

/// Which of the clusters of a response are there, and which are one that says that there is no such service.
fn known_and_unknown(response: &DeltaDiscoveryResponse) -> (Vec<String>, Vec<String>) {
    let clusters = response.resources.iter().map(|resource| {
        let any = resource.resource.as_ref().unwrap();
        Cluster::decode(&*any.value).unwrap()
    });
    let (mut known, mut unknown) = (Vec::new(), response.removed_resources.clone());
    for cluster in clusters {
        let policy = cluster.load_assignment.and_then(|found| found.policy);
        let of = match policy.is_some_and(|policy| !policy.drop_overloads.is_empty()) {
            true => &mut unknown,
            false => &mut known,
        };
        of.push(cluster.name);
    }
    known.sort_unstable();
    (known, unknown)
}

fn strings<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_read_is_set_aside_alone() {
    let dir = WorkDir::new("damaged").unwrap();
    let mut ems = Ems::start(&dir, "eu").unwrap();
    for service in ["good", "bad"] {
        ems.put_service(service, json!({})).unwrap();
        ems.put_endpoint(service, "1", 7001).unwrap();
    }
    ems.stop();
    let damaged = ("services/bad".to_owned(), b"\x07garbage".to_vec());
    write(&dir.path().join("eu-ems-data"), [damaged]).await;
    ems.start_again().unwrap();

    let health = ems.get("/healthz").unwrap();
    assert_eq!(health["status"], "alarm", "{health}");
    let aside = health["quarantined"].as_object().unwrap();
    let keys: Vec<_> = aside.keys().map(String::as_str).collect();
    assert_eq!(keys, ["services/bad"], "{health}");
    let reason = aside["services/bad"].as_str();
    assert!(reason.is_some_and(|reason| !reason.is_empty()), "{health}");
    let log = ems.log();
    let said = log.lines().filter(|line| line.contains("is set aside"));
    let said: Vec<_> = said.collect();
    assert_eq!(said.len(), 1, "{log}");
    for part in ["services/bad", reason.unwrap()] {
        assert!(said[0].contains(part), "{said:?}");
    }
    let counted = || ems.metric("ems_quarantined_records", "").unwrap();
    assert!((counted() - 1.0).abs() < f64::EPSILON);

    let mut client = delta(ems.xds_address().parse().unwrap(), host("host")).await;
    client
        .subscribe(ResourceType::Cluster, &["bad.eu", "good.eu"])
        .await;
    let told = client.next_acked().await;
    let apart = (strings(["good.eu"]), strings(["bad.eu"]));
    assert_eq!(known_and_unknown(&told), apart);

    // To put it again is the way out.
    ems.put_service("bad", json!({})).unwrap();
    let healed = client.next_acked().await;
    let all = (strings(["bad.eu"]), strings([]));
    assert_eq!(known_and_unknown(&healed), all);
    assert_eq!(ems.get("/healthz").unwrap()["status"], "ok");
    assert!(counted().abs() < f64::EPSILON);
}
