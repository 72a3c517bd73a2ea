//! Who is woken by what.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use super::*;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoints;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream that counts how often it is woken.
struct Member {
    id: StreamId,
    inbox: Arc<Inbox>,
    count: Arc<Count>,
}

impl Member {
    fn join(hub: &Hub, follow: &[Action]) -> Self {
        let (id, inbox) = hub.join(10).unwrap();
        hub.follow(id, follow);
        Self {
            id,
            inbox,
            count: Arc::default(),
        }
    }

    fn take(&self) -> News {
        self.inbox.take(&self.count.clone().into())
    }

    fn woken(&self) -> usize {
        self.count.0.swap(0, Ordering::Relaxed)
    }
}

fn changed(names: &[(ResourceType, &str)]) -> Changed {
    let names = names.iter().map(|(kind, name)| (*kind, Arc::from(*name)));
    Changed::of(names)
}

#[test]
fn wakes_only_followers_and_once() {
    let hub = Hub::default();
    let a = Member::join(&hub, &[Action::Follow(CDS, "a".into())]);
    let both = [
        Action::Follow(CDS, "a".into()),
        Action::Follow(CDS, "b".into()),
    ];
    let ab = Member::join(&hub, &both);
    let all = Member::join(&hub, &[Action::FollowAll(CDS)]);
    for (names, woken) in [
        (&[(CDS, "a")][..], [1, 1, 1]),
        (&[(CDS, "b")], [0, 1, 1]),
        (&[(CDS, "c")], [0, 0, 1]),
        (&[(EDS, "a")], [0, 0, 0]),
        (&[(CDS, "a"), (EDS, "x"), (CDS, "b"), (CDS, "c")], [1, 1, 1]),
        (&[], [0, 0, 0]),
    ] {
        for member in [&a, &ab, &all] {
            member.take();
            member.take();
        }
        hub.publish(changed(names));
        assert_eq!([a.woken(), ab.woken(), all.woken()], woken, "{names:?}");
    }
}

#[test]
fn unfollowing_and_leaving() {
    let hub = Hub::default();
    let a = Member::join(
        &hub,
        &[Action::Follow(CDS, "a".into()), Action::FollowAll(EDS)],
    );
    hub.follow(
        a.id,
        &[Action::Unfollow(CDS, "a".into()), Action::UnfollowAll(EDS)],
    );
    hub.publish(changed(&[(CDS, "a"), (EDS, "a")]));
    assert!(a.take().is_empty());
    hub.follow(a.id, &[Action::Follow(CDS, "a".into())]);
    hub.leave(a.id, [(CDS, Arc::from("a"))].into_iter());
    assert_eq!(hub.streams(), 0);
    // Whoever gets the number next inherits nothing.
    let next = Member::join(&hub, &[]);
    assert_eq!(next.id, a.id);
    hub.publish(changed(&[(CDS, "a")]));
    assert!(next.take().is_empty());
}

#[test]
fn streams_are_limited() {
    let hub = Hub::default();
    let first = hub.join(1).unwrap();
    assert!(hub.join(1).is_none());
    hub.leave(first.0, std::iter::empty());
    assert!(hub.join(1).is_some());
}

#[test]
fn backlog_is_bounded() {
    let hub = Hub::default();
    let member = Member::join(&hub, &[Action::Follow(CDS, "a".into())]);
    for _ in 0..BACKLOG {
        hub.publish(changed(&[(CDS, "a")]));
    }
    hub.publish(changed(&[(CDS, "a")]));
    let news = member.take();
    assert!(news.missed && news.changes.is_empty(), "{news:?}");
    hub.publish(changed(&[(CDS, "a")]));
    assert_eq!(member.take().changes.len(), 1);
}

#[test]
fn the_epoch_tells_of_a_change_in_between() {
    let hub = Hub::default();
    let (id, _inbox) = hub.join(1).unwrap();
    let before = hub.epoch();
    hub.publish(changed(&[(CDS, "a")]));
    assert_ne!(hub.follow(id, &[Action::Follow(CDS, "a".into())]), before);
}

#[test]
fn closing_reaches_whom_it_shall() {
    let hub = Hub::default();
    let members: Vec<_> = (0..5).map(|_| Member::join(&hub, &[])).collect();
    let closing = || members.iter().filter(|m| m.take().closing).count();
    hub.close(|id| id % 2 == 0);
    assert_eq!(closing(), 3);
    hub.close(|_| true);
    assert_eq!(closing(), 5);
}
