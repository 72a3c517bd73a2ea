//! What is written here, read by prost.

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use prost::Message;

use super::*;
use std::sync::Arc;

use crate::xds::{Bundle, Resource, ResourceType};

fn response(mode: Mode, bodies: &[&str]) -> Response {
    let kind = ResourceType::Cluster;
    Response {
        mode,
        type_url: kind.type_url().into(),
        version: "v".into(),
        nonce: 300,
        resources: bodies
            .iter()
            .enumerate()
            .map(|(i, body)| Arc::new(Resource::new(kind, format!("n{i}"), body.as_bytes())))
            .collect::<Bundle>()
            .into(),
        removed: match mode {
            Mode::Delta => ["x".into(), "y".into()].into(),
            Mode::Sotw => Arc::default(),
        },
    }
}

/// The message without its prefix, which must be right.
fn message((head, rest): (Bytes, Option<Bytes>)) -> Vec<u8> {
    let whole = [&*head, rest.as_deref().unwrap_or_default()].concat();
    let (prefix, message) = whole.split_at(PREFIX);
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    assert_eq!(prefix, [&[0][..], &len].concat());
    message.to_vec()
}

/// Prost's own decoder reads what is written here, in every way of writing.
#[test]
fn is_what_prost_would_write() {
    let long = "x".repeat(COPIED);
    for bodies in [
        &[][..],
        &["a"],
        &["a", "b", ""],
        &[&*long],
        &[&*long, "b", &*long],
    ] {
        let delta = response(Mode::Delta, bodies);
        let read =
            DeltaDiscoveryResponse::decode(&*message(Encoder::default().encode(&delta))).unwrap();
        assert_eq!(read.system_version_info, "v");
        assert_eq!(read.type_url, delta.type_url);
        assert_eq!(read.nonce, "300");
        assert_eq!(read.removed_resources, ["x", "y"]);
        assert_eq!(read.resources.len(), bodies.len());
        for (read, sent) in read.resources.iter().zip(&**delta.resources) {
            let any = read.resource.as_ref().unwrap();
            assert_eq!(
                (&*read.name, &*read.version),
                (&**sent.name(), &**sent.version())
            );
            assert_eq!(
                (&*any.type_url, &any.value),
                (&*delta.type_url, &sent.body().to_vec())
            );
        }

        let sotw = response(Mode::Sotw, bodies);
        let read = DiscoveryResponse::decode(&*message(Encoder::default().encode(&sotw))).unwrap();
        assert_eq!((&*read.version_info, &*read.nonce), ("v", "300"));
        assert_eq!(read.type_url, sotw.type_url);
        assert_eq!(read.resources.len(), bodies.len());
        for (read, sent) in read.resources.iter().zip(&**sotw.resources) {
            assert_eq!(
                (&*read.type_url, &read.value),
                (&*sotw.type_url, &sent.body().to_vec())
            );
        }
    }
}

/// "An opaque control plane identifier that uniquely identifies an instance of control plane."
#[test]
fn says_who_sent_it() {
    let encoder = Encoder::of("ems/1 eu host");
    let delta = message(encoder.encode(&response(Mode::Delta, &["a"])));
    let delta = DeltaDiscoveryResponse::decode(&*delta).unwrap();
    assert_eq!(delta.control_plane.unwrap().identifier, "ems/1 eu host");
    assert_eq!(delta.removed_resources, ["x", "y"]);
    let sotw = message(encoder.encode(&response(Mode::Sotw, &["a"])));
    let sotw = DiscoveryResponse::decode(&*sotw).unwrap();
    assert_eq!(sotw.control_plane.unwrap().identifier, "ems/1 eu host");
}
