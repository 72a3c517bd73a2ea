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

/// Those that come while the others are sent away are sent away as well, or not let in: whenever exactly they come.
#[test]
fn nobody_slips_in_while_the_door_is_closed() {
    const ROUNDS: usize = 100;
    const OPENERS: usize = 3;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let (mut sent_away, mut not_let_in) = (0, 0);
    for round in 0..ROUNDS {
        let server = Server::new(Arc::new(Memory::default()), Limits::default());
        let start = std::sync::Barrier::new(OPENERS + 1);
        let responses = std::thread::scope(|scope| {
            let openers: Vec<_> = (0..OPENERS)
                .map(|_| {
                    scope.spawn(|| {
                        let _time = runtime.enter();
                        start.wait();
                        // Until it is refused, so that there is always one that is just being let in.
                        let mut all = vec![open(&server)];
                        while !all.last().unwrap().headers().contains_key("grpc-status") {
                            all.push(open(&server));
                        }
                        all
                    })
                })
                .collect();
            start.wait();
            runtime.block_on(server.drain(Duration::ZERO));
            openers
                .into_iter()
                .flat_map(|opener| opener.join().unwrap())
                .collect::<Vec<_>>()
        });
        for response in responses {
            if let Some(status) = response.headers().get("grpc-status") {
                assert_eq!(status, "14");
                not_let_in += 1;
                continue;
            }
            let mut body = response.into_body();
            let mut cx = Context::from_waker(Waker::noop());
            let _time = runtime.enter();
            let Poll::Ready(Some(Ok(end))) = Pin::new(&mut body).poll_frame(&mut cx) else {
                panic!("one slipped in, in round {round}")
            };
            assert_eq!(end.trailers_ref().unwrap()["grpc-status"], "14");
            sent_away += 1;
        }
        assert_eq!(server.streams(), 0);
    }
    assert!(
        not_let_in >= ROUNDS && sent_away > 0,
        "{sent_away} {not_let_in}"
    );
}
