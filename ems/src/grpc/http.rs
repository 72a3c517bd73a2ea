//! What gRPC says in HTTP's headers and trailers.

use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use tonic::Status;

/// The response whose messages and status are in a body.
pub(crate) fn response<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

/// How a body ends. A status whose text cannot be said is an internal error.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if status.add_header(&mut trailers).is_err() {
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("13"));
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        let ok = trailers(&Status::ok(""));
        assert_eq!(ok.len(), 1);
        assert_eq!(ok["grpc-status"], "0");
        let refused = trailers(&Status::resource_exhausted("too many: 5 %"));
        assert_eq!(refused["grpc-status"], "8");
        assert_eq!(refused["grpc-message"], "too%20many:%205%20%25");
    }
}
