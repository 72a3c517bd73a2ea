//! The requests of Envoy's rate limit filter, made beforehand.

use bytes::Bytes;

use crate::xds::message::framed;

/// `envoy.service.ratelimit.v3.RateLimitRequest`, as much as is said.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<Descriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// What EMS calls a limit per caller and second.
pub(crate) const TOKEN: &str = "caller,,second,enforce";

/// What the filter asks for a service whose only limit is one per caller and second: a request for each caller.
pub(crate) fn questions(service: &str, callers: usize) -> Vec<Bytes> {
    let question = |caller| {
        let entry = Entry {
            key: "question".to_owned(),
            value: format!("1h;{service};{TOKEN}|us/caller-{caller:04}"),
        };
        framed(&Request {
            domain: "isthmus".to_owned(),
            descriptors: vec![Descriptor {
                entries: vec![entry],
            }],
        })
    };
    (0..callers).map(question).collect()
}
