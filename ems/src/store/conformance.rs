//! What every store must do, run against each implementation. `open` opens the same store again, as after a restart;
//! the first time it must be empty.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout};

use super::{Change, Edit, Event, Guard, Snapshot, Store, StoreError, Stored, Transaction, Write};

/// Runs the suite.
pub(super) async fn all<S: Store>(open: impl Fn() -> S) {
    let store = open();
    empty_at_first(&store).await;
    guards(&store).await;
    watchers_see_every_change_in_order(&store).await;
    deletes(&store).await;
    renewals_are_no_revisions(&store).await;
    racing_writers(&store).await;
    let before = snapshot(&store).await;
    drop(store);
    let store = open();
    assert_eq!(snapshot(&store).await, before, "a restart loses nothing");
    let revision = put(&store, "again", "1").await;
    assert!(
        revision > before.revision,
        "revisions go on where they were"
    );
}

async fn empty_at_first(store: &dyn Store) {
    let Snapshot { revision, records } = snapshot(store).await;
    assert_eq!((revision, records), (0, Vec::new()));
}

async fn guards(store: &dyn Store) {
    let revision = put(store, "g/a", "1").await;
    let (a, b) = ("g/a".to_owned(), "g/b".to_owned());
    let conflict = |key: &String| Err(StoreError::Conflict(key.clone()));
    for (guards, fails) in [
        (vec![], None),
        (
            vec![Guard::Exists(a.clone()), Guard::Absent(b.clone())],
            None,
        ),
        (vec![Guard::At(a.clone(), revision)], None),
        (vec![Guard::Absent(a.clone())], Some(&a)),
        (vec![Guard::Exists(b.clone())], Some(&b)),
        (vec![Guard::At(a.clone(), revision + 1)], Some(&a)),
        (vec![Guard::At(b.clone(), revision)], Some(&b)),
        (
            vec![Guard::Exists(a.clone()), Guard::Exists(b.clone())],
            Some(&b),
        ),
    ] {
        let before = snapshot(store).await;
        let writes = vec![Write::Put("g/c".to_owned(), Bytes::from_static(b"x"))];
        let result = store
            .commit(Transaction {
                guards: guards.clone(),
                writes,
            })
            .await;
        match fails {
            None => assert_eq!(result, Ok(before.revision + 1), "{guards:?}"),
            Some(key) => {
                assert_eq!(result, conflict(key), "{guards:?}");
                assert_eq!(snapshot(store).await, before, "nothing of it is written");
            }
        }
    }
}

async fn watchers_see_every_change_in_order(store: &dyn Store) {
    let mut early = store.watch().await.unwrap();
    let first = put(store, "w/a", "1").await;
    let mut late = store.watch().await.unwrap();
    assert_eq!(late.snapshot.revision, first);
    assert!(late.snapshot.records.contains(&stored("w/a", first, "1")));
    let second = put(store, "w/a", "2").await;
    let third = put(store, "w/b", "3").await;
    assert!(first < second && second < third);
    for (events, expect) in [
        (
            &mut early.events,
            vec![
                (first, "w/a", "1"),
                (second, "w/a", "2"),
                (third, "w/b", "3"),
            ],
        ),
        (
            &mut late.events,
            vec![(second, "w/a", "2"), (third, "w/b", "3")],
        ),
    ] {
        for (revision, key, value) in expect {
            let (key, value) = (key.to_owned(), Bytes::from(value));
            let edits = vec![Edit::Put { key, value }];
            assert_eq!(
                next(events).await,
                Event::Changed(Change { revision, edits })
            );
        }
    }
}

async fn deletes(store: &dyn Store) {
    for key in ["d", "d/", "d/a", "d/b", "d0", "e"] {
        put(store, key, key).await;
    }
    let mut watch = store.watch().await.unwrap();
    let writes = vec![
        Write::Delete("e".to_owned()),
        Write::Delete("nothing".to_owned()),
        Write::DeletePrefix("d/".to_owned()),
    ];
    let revision = store
        .commit(Transaction {
            guards: Vec::new(),
            writes,
        })
        .await
        .unwrap();
    let deleted = |key: &str| Edit::Deleted {
        key: key.to_owned(),
    };
    let edits = ["e", "d/", "d/a", "d/b"].map(deleted).into();
    assert_eq!(
        next(&mut watch.events).await,
        Event::Changed(Change { revision, edits })
    );
    let left = snapshot(store).await.records;
    let left: Vec<_> = left
        .iter()
        .map(|r| r.key.as_str())
        .filter(|k| *k < "f")
        .collect();
    assert_eq!(left, ["d", "d0"]);
}

async fn renewals_are_no_revisions(store: &dyn Store) {
    let mut watch = store.watch().await.unwrap();
    let keys = vec!["l/a".to_owned(), "l/b".to_owned()];
    store.renew(keys.clone()).await.unwrap();
    assert_eq!(next(&mut watch.events).await, Event::Renewed(keys));
    assert_eq!(snapshot(store).await, watch.snapshot);
}

/// Of all who plan on the same state, one wins.
async fn racing_writers(store: &dyn Store) {
    let revision = put(store, "r", "0").await;
    let racers = (0..16).map(|n: u32| {
        store.commit(Transaction {
            guards: vec![Guard::At("r".to_owned(), revision)],
            writes: vec![Write::Put("r".to_owned(), Bytes::from(n.to_string()))],
        })
    });
    let results = futures::future::join_all(racers).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won, [Ok(revision + 1)]);
    assert!(
        lost.into_iter()
            .all(|result| result == Err(StoreError::Conflict("r".to_owned())))
    );
}

fn stored(key: &str, revision: u64, value: &'static str) -> Stored {
    Stored {
        key: key.to_owned(),
        revision,
        value: Bytes::from(value),
    }
}

async fn put(store: &dyn Store, key: &str, value: &str) -> u64 {
    let writes = vec![Write::Put(
        key.to_owned(),
        Bytes::copy_from_slice(value.as_bytes()),
    )];
    store
        .commit(Transaction {
            guards: Vec::new(),
            writes,
        })
        .await
        .unwrap()
}

async fn snapshot(store: &dyn Store) -> Snapshot {
    store.watch().await.unwrap().snapshot
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    soon(events.recv()).await.expect("the events go on")
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future)
        .await
        .expect("answered in time")
}
