//! Responses in whatever pieces they come.

use prost::Message as _;

use super::*;

/// A discovery response of either variant, written by prost and not by us.
#[derive(Clone, PartialEq, prost::Message)]
struct Whole {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(bytes = "vec", repeated, tag = "2")]
    resources: Vec<Vec<u8>>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(string, repeated, tag = "6")]
    removed: Vec<String>,
}

fn whole(resources: usize, nonce: &str) -> Whole {
    Whole {
        version: "v".to_owned(),
        resources: (0..resources).map(|n| vec![0x12; n * 100]).collect(),
        type_url: ENDPOINTS.to_owned(),
        nonce: nonce.to_owned(),
        removed: vec!["gone".to_owned()],
    }
}

#[test]
fn counts_in_pieces_of_any_size() {
    let wholes = [
        whole(3, "1"),
        whole(0, "2"),
        Whole::default(),
        whole(40, "300"),
    ];
    let want: Vec<_> = wholes
        .iter()
        .map(|whole| Response {
            type_url: whole.type_url.clone(),
            nonce: whole.nonce.clone(),
            version: whole.version.clone(),
            resources: whole.resources.len() as u64,
        })
        .collect();
    let bytes: Vec<u8> = wholes.iter().flat_map(framed).collect();
    for size in [1, 2, 3, 5, 7, 64, 1_000, bytes.len()] {
        let mut scanner = Scanner::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(size) {
            scanner
                .feed(piece, |response| found.push(response))
                .unwrap();
        }
        assert_eq!(found, want, "pieces of {size}");
    }
}

#[test]
fn what_is_no_response_is_said() {
    let check = |bytes: &[u8]| {
        let found = Scanner::default().feed(bytes, |_| {});
        assert_eq!(found, Err(Malformed), "{bytes:?}");
    };
    // Compressed; a number; a field longer than the message; a message that ends in a key or a length.
    check(&[1, 0, 0, 0, 0]);
    check(&[0, 0, 0, 0, 2, 8, 1]);
    check(&[0, 0, 0, 0, 3, 0x12, 2, 1]);
    check(&[0, 0, 0, 0, 1, 0x92]);
    check(&[0, 0, 0, 0, 1, 0x12]);
    check(&[
        0, 0, 0, 0, 12, 0x92, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1,
    ]);
}

#[test]
fn requests_say_what_the_variant_wants() {
    let subscription = Subscription {
        type_url: ENDPOINTS,
        names: vec!["a".to_owned(), "b".to_owned()],
    };
    let node = Node {
        id: "n".to_owned(),
        metadata: None,
    };
    let response = Response {
        nonce: "7".to_owned(),
        version: "v".to_owned(),
        ..Response::default()
    };
    let body = |bytes: Bytes| bytes.slice(5..);
    let delta = |bytes| DeltaRequest::decode(body(bytes)).unwrap();
    let first = delta(subscription.request(Mode::Delta, Some(node.clone())));
    assert_eq!(first.subscribe, ["a", "b"]);
    assert_eq!(first.node, Some(node));
    let ack = delta(subscription.ack(Mode::Delta, &response));
    assert_eq!((ack.nonce.as_str(), ack.subscribe.len()), ("7", 0));
    let sotw = |bytes| SotwRequest::decode(body(bytes)).unwrap();
    let ack = sotw(subscription.ack(Mode::Sotw, &response));
    assert_eq!((ack.nonce.as_str(), ack.version.as_str()), ("7", "v"));
    assert_eq!(ack.names, ["a", "b"]);
}
