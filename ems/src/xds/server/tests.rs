//! The door: who is let in.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::stream;
use http_body::Body as _;

use super::*;
use crate::xds::memory::Memory;

fn open(server: &Arc<Server>) -> Response<Body> {
    let silent = stream::pending::<Result<Bytes, Infallible>>();
    let request = http::Request::new(Body::from_stream(silent));
    server.open(Mode::Delta, None, request)
}

/// Whoever comes when the last were sent away has joined nothing: there is nobody left who would send them away.
#[tokio::test]
async fn nobody_stays_in_a_server_that_drains() {
    let server = Server::new(Arc::new(Memory::default()), Limits::default());
    let mut before = open(&server).into_body();
    server.drain(Duration::ZERO).await;
    for _ in 0..3 {
        let late = open(&server);
        let status = &late.headers()[tonic::Status::GRPC_STATUS];
        assert_eq!(status, "14");
        assert_eq!(server.streams(), 1);
    }
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Some(Ok(end))) = Pin::new(&mut before).poll_frame(&mut cx) else {
        panic!("the one before goes on")
    };
    let status = &end.trailers_ref().unwrap()[tonic::Status::GRPC_STATUS];
    assert_eq!(status, "14");
    drop(before);
    assert_eq!(server.streams(), 0);
}
