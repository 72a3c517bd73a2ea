//! Envoy's rate limit service, in front of all others that there are on the socket.
//!
//! It is asked once for each request of a limited service, many thousand times a second, by messages of a hundred bytes. What
//! a router and a gRPC library do for calls of any kind, with buffers for messages of any size, costs more than the answer.
//! So this takes the bytes from the HTTP/2 server itself, and gives them back to it.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use futures::future::Either;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use prost::Message;
use tonic::{Status, body::Body};
use tower::Service;

use super::server::Limiter;
use crate::grpc::{self, PREFIX};

/// The only method of the service.
const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Most bytes of a request: a question, and what is around it.
const REQUEST_BYTES: usize = 256 * 1024;

/// The services of a socket, behind the limiter.
#[derive(Clone, Debug)]
pub struct Front<S> {
    limiter: Limiter,
    inner: S,
}

impl<S> Front<S> {
    /// Puts a limiter in front.
    pub fn new(limiter: Limiter, inner: S) -> Self {
        Self { limiter, inner }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Answer, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return Either::Right(self.inner.call(request));
        }
        let limiter = self.limiter.clone();
        Either::Left(Box::pin(async move {
            let answer = answer(&limiter, request.into_body()).await;
            Ok(answer.unwrap_or_else(Status::into_http))
        }))
    }
}

async fn answer(limiter: &Limiter, body: Body) -> Result<Response<Body>, Status> {
    let message = message(read(body).await?)?;
    let request = RateLimitRequest::decode(message)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let answer = limiter.should_rate_limit(&request).await?;
    let mut bytes = BytesMut::with_capacity(PREFIX + answer.encoded_len());
    bytes.put_slice(&grpc::prefix(answer.encoded_len()));
    // The buffer grows: this cannot fail.
    let _ = answer.encode(&mut bytes);
    Ok(grpc::http::response(Body::new(Reply::Message(
        bytes.freeze(),
    ))))
}

/// All bytes of a body.
async fn read(mut body: Body) -> Result<Bytes, Status> {
    let mut all = Bytes::new();
    while !body.is_end_stream()
        && let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
    {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if all.len() + data.len() > PREFIX + REQUEST_BYTES {
            return Err(Status::out_of_range("the request is too long"));
        }
        all = match all.is_empty() {
            true => data,
            // Nearly never: a question fits into a frame.
            false => {
                let mut both = BytesMut::from(all);
                both.put(data);
                both.freeze()
            }
        };
    }
    Ok(all)
}

/// The one message of a request.
fn message(mut all: Bytes) -> Result<Bytes, Status> {
    let Some((&[compressed, len @ ..], rest)) = all.split_first_chunk::<PREFIX>() else {
        return Err(Status::invalid_argument("wanted: one message"));
    };
    if compressed != 0 {
        return Err(Status::unimplemented("the message is compressed"));
    }
    if usize::try_from(u32::from_be_bytes(len)) != Ok(rest.len()) {
        return Err(Status::invalid_argument("wanted: one message"));
    }
    Ok(all.split_off(PREFIX))
}

/// An answer, and what is still to be sent of it.
enum Reply {
    Message(Bytes),
    Status,
    Nothing,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (next, frame) = match std::mem::replace(&mut *self, Self::Nothing) {
            Self::Message(bytes) => (Self::Status, Some(Frame::data(bytes))),
            Self::Status => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
                (Self::Nothing, Some(Frame::trailers(trailers)))
            }
            Self::Nothing => (Self::Nothing, None),
        };
        *self = next;
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let check = |bytes: &'static [u8], want: Result<&'static [u8], tonic::Code>| {
            let found = message(Bytes::from_static(bytes)).map_err(|status| status.code());
            assert_eq!(found, want.map(Bytes::from_static), "{bytes:?}");
        };
        check(b"\0\0\0\0\x02ab", Ok(b"ab"));
        check(b"\0\0\0\0\0", Ok(b""));
        for wrong in [
            &b""[..],
            b"\0\0\0\0",
            b"\0\0\0\0\x02a",
            b"\0\0\0\0\x02abc",
            b"\0\xff\xff\xff\xffab",
        ] {
            check(wrong, Err(tonic::Code::InvalidArgument));
        }
        check(b"\x01\0\0\0\x02ab", Err(tonic::Code::Unimplemented));
    }
}
