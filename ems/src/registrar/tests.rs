//! Writes through a real store, and what becomes of them.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_proto::v1;
use tokio::time::{sleep, timeout};

use super::{Registrar, WriteError};
use crate::{
    metrics::Metrics,
    record::EndpointId,
    registry::{Home, Outcome, Registry, Rejection},
    store::RedbStore,
};

fn start(directory: &std::path::Path) -> (Registrar, tokio::task::JoinHandle<()>) {
    start_on(Arc::new(RedbStore::open(directory).unwrap()))
}

fn start_on(store: Arc<RedbStore>) -> (Registrar, tokio::task::JoinHandle<()>) {
    let home = Home {
        region: "us".parse().unwrap(),
        trust_bundle: String::new(),
    };
    let (registrar, follower) =
        Registrar::new(store, Registry::new(home), Arc::new(Metrics::default()));
    (registrar, tokio::spawn(follower.run(|_| {})))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future)
        .await
        .expect("in time")
}

fn service(name: &str) -> v1::Service {
    v1::Service {
        name: name.to_owned(),
        ..v1::Service::default()
    }
}

fn endpoint(id: &str, ttl: u32) -> v1::Endpoint {
    v1::Endpoint {
        service: "pay".to_owned(),
        id: id.to_owned(),
        address: "10.0.0.1".to_owned(),
        port: 80,
        ttl,
        ..v1::Endpoint::default()
    }
}

#[tokio::test]
async fn who_wrote_can_read_and_a_restart_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (registrar, follower) = start(directory.path());
        let early = registrar.write(|r, _| r.put_service(service("pay"))).await;
        // Either the load had not come yet, or the write went through: never something in between.
        assert!(matches!(
            early,
            Ok(_) | Err(WriteError::Rejected(Rejection::Loading))
        ));
        soon(registrar.loaded()).await;
        for (name, expect) in [("books", Outcome::Created), ("books", Outcome::Unchanged)] {
            let written = soon(registrar.write(|r, _| r.put_service(service(name)))).await;
            assert_eq!(written.unwrap().0, expect);
            let name = name.parse().unwrap();
            assert!(registrar.shared().read().service(&name).is_some());
        }
        follower.abort();
        let _ = follower.await;
    }
    let (registrar, _follower) = start(directory.path());
    soon(registrar.loaded()).await;
    assert!(
        registrar
            .shared()
            .read()
            .service(&"books".parse().unwrap())
            .is_some()
    );
}

#[tokio::test]
async fn writers_who_race_all_get_their_turn() {
    let directory = tempfile::tempdir().unwrap();
    let (registrar, _follower) = start(directory.path());
    soon(registrar.loaded()).await;
    let writers = (0..40).map(|n| {
        let registrar = registrar.clone();
        async move {
            let service = v1::Service {
                connect_timeout: Some(prost_types::Duration {
                    seconds: n + 1,
                    nanos: 0,
                }),
                ..service("pay")
            };
            registrar
                .write(|r, _| r.put_service(service.clone()))
                .await
                .unwrap()
                .1
                .version
        }
    });
    let mut versions = soon(futures::future::join_all(writers)).await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_silent_endpoint_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (registrar, _follower) = start(directory.path());
    soon(registrar.loaded()).await;
    soon(registrar.write(|r, _| r.put_service(service("pay"))))
        .await
        .unwrap();
    for (id, ttl) in [("stays", 0), ("goes", 1)] {
        soon(registrar.write(|r, now| r.put_endpoint(endpoint(id, ttl), now)))
            .await
            .unwrap();
    }
    let has = |id| {
        let id = EndpointId::parse(id).unwrap();
        registrar
            .shared()
            .read()
            .endpoint(&"pay".parse().unwrap(), &id)
            .is_some()
    };
    assert!(has("goes"));
    soon(async {
        while has("goes") {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(has("stays"));
}

/// The renewal must not wait for its way through the store: the endpoint could lapse behind the answer's back.
#[tokio::test]
async fn an_answered_heartbeat_has_renewed_the_lease() {
    let directory = tempfile::tempdir().unwrap();
    let (registrar, follower) = start(directory.path());
    soon(registrar.loaded()).await;
    soon(registrar.write(|r, _| r.put_service(service("pay"))))
        .await
        .unwrap();
    let put = || registrar.write(|r, now| r.put_endpoint(endpoint("a", 60), now));
    soon(put()).await.unwrap();
    // From here on nothing comes back from the store.
    follower.abort();
    let _ = follower.await;
    let left = || {
        let (service, id) = ("pay".parse().unwrap(), EndpointId::parse("a").unwrap());
        let registry = registrar.shared().read();
        registry.leases().left(&service, &id, super::now().steady)
    };
    let before = left().unwrap();
    soon(async {
        while left().unwrap() + Duration::from_millis(20) > before {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let late = left().unwrap();
    assert_eq!(soon(put()).await.unwrap().0, Outcome::Unchanged);
    assert!(left().unwrap() > late);
}

/// Two servers on one store, as with a replicated one: any of them takes any write, and they agree.
#[tokio::test]
async fn replicas_agree_and_share_heartbeats() {
    const TTL: u32 = 3;
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open(directory.path()).unwrap());
    let (here, _here) = start_on(store.clone());
    let (there, _there) = start_on(store);
    soon(here.loaded()).await;
    soon(there.loaded()).await;
    soon(here.write(|r, _| r.put_service(service("pay"))))
        .await
        .unwrap();
    soon(here.write(|r, now| r.put_endpoint(endpoint("a", TTL), now)))
        .await
        .unwrap();
    let has = |registrar: &Registrar| {
        let (service, id) = ("pay".parse().unwrap(), EndpointId::parse("a").unwrap());
        let registry = registrar.shared().read();
        registry.endpoint(&service, &id).is_some()
    };
    soon(async {
        while !has(&there) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Longer than a lease, with heartbeats to the other one only, and many of them: a stall of the machine costs some.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(TTL.into()) + super::TICK * 2 {
        sleep(Duration::from_millis(100)).await;
        let beat = soon(there.write(|r, now| r.put_endpoint(endpoint("a", TTL), now)));
        assert_eq!(beat.await.unwrap().0, Outcome::Unchanged);
        assert!(has(&here) && has(&there));
    }
    soon(async {
        while has(&here) || has(&there) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
