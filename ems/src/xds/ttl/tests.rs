//! What goes over the wire, and when.

use envoy_types::pb::{
    envoy::service::discovery::v3::{
        DeltaDiscoveryResponse, DiscoveryResponse, Resource as Wrapped,
    },
    google::protobuf::Any,
};

use super::*;
use crate::xds::{ResourceType, stream::Mode};

const KIND: ResourceType = ResourceType::Endpoints;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn delta(resource: &Resource) -> Wrapped {
    let response = DeltaDiscoveryResponse::decode(resource.entry(Mode::Delta)).unwrap();
    response.resources.into_iter().next().unwrap()
}

fn sotw(resource: &Resource) -> Any {
    let response = DiscoveryResponse::decode(resource.entry(Mode::Sotw)).unwrap();
    response.resources.into_iter().next().unwrap()
}

#[test]
fn forms_of_a_resource_that_expires() {
    let ttl = Duration::from_millis(2_500);
    let resource = Resource::with_version(KIND, "a", "1", b"body").expiring(ttl);
    assert_eq!(
        (&**resource.version(), resource.ttl()),
        ("1+2.5s", Some(ttl))
    );
    assert_eq!(&*resource.body(), b"body");

    let content = Any {
        type_url: KIND.type_url().into(),
        value: b"body".into(),
    };
    let whole = delta(&resource);
    assert_eq!((&*whole.name, &*whole.version), ("a", "1+2.5s"));
    assert_eq!(whole.resource.as_ref(), Some(&content));
    let encoded = whole.ttl.as_ref().unwrap();
    assert_eq!((encoded.seconds, encoded.nanos), (2, 500_000_000));
    assert!(whole.aliases.is_empty());

    // "In order to use TTL with SotW xDS, the relevant resources must be wrapped in a Resource."
    let any = sotw(&resource);
    assert_eq!(any.type_url, WRAPPER);
    assert_eq!(Wrapped::decode(&*any.value).unwrap(), whole);

    // "a response can be sent that provides a Resource with the resource unset and version matching the most recently
    // sent version".
    let heartbeat = resource.heartbeat().unwrap();
    assert!(heartbeat.is_heartbeat() && !resource.is_heartbeat());
    assert_eq!(
        delta(heartbeat),
        Wrapped {
            resource: None,
            ..whole.clone()
        }
    );

    let endless = Arc::new(resource).endless();
    assert_eq!(delta(&endless), Wrapped { ttl: None, ..whole });
    assert_eq!(sotw(&endless), content);
}

#[test]
fn a_ttl_is_refreshed_in_time() {
    let mut beats = Beats::default();
    let resource = Resource::with_version(KIND, "a", "1", b"").expiring(seconds(30));
    assert_eq!(beats.next(seconds(5)), None);
    beats.sent(&resource, resource.ttl());
    // Only now is it known when that was.
    assert_eq!(beats.next(seconds(100)), Some(seconds(110)));
    assert!(beats.take_due(seconds(109)).is_empty());
    assert_eq!(beats.take_due(seconds(110)), [("a".into(), false)]);
    assert_eq!(beats.next(seconds(110)), None);
    beats.sent(&resource, resource.ttl());
    assert_eq!(beats.next(seconds(110)), Some(seconds(120)));
    // Kept waiting for longer than the client remembers it.
    assert_eq!(beats.take_due(seconds(140)), [("a".into(), true)]);
    // The same without a TTL.
    beats.sent(&resource, resource.ttl());
    beats.sent(&resource, None);
    assert!(beats.take_due(seconds(999)).is_empty());
}

#[test]
fn a_ttl_of_nothing_is_no_flood() {
    let mut beats = Beats::default();
    let resource = Resource::with_version(KIND, "a", "1", b"").expiring(Duration::ZERO);
    beats.sent(&resource, resource.ttl());
    assert_eq!(beats.next(seconds(1)), Some(seconds(1) + SHORTEST));
}
