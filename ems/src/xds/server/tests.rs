//! The door: who is let in; and what is said to those who are.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use futures::{StreamExt as _, stream};
use http_body::Body as _;
use prost::Message as _;

use super::*;
use crate::xds::memory::Memory;

fn open(server: &Arc<Server>) -> Response<Body> {
    let silent = stream::pending::<Result<Bytes, Infallible>>();
    let request = http::Request::new(Body::from_stream(silent));
    server.open(Mode::Delta, None, request)
}

fn ask(kind: ResourceType, names: &[&str], has: &[&str]) -> DeltaDiscoveryRequest {
    let has = has.iter().map(|name| (name.to_string(), "1".to_owned()));
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        initial_resource_versions: has.collect(),
        ..Default::default()
    }
}

fn frame(request: &DeltaDiscoveryRequest) -> Result<Bytes, Infallible> {
    let message = request.encode_to_vec();
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    Ok(Bytes::from([&[0][..], &len, &message].concat()))
}

/// Opens a stream of a client that says this at once, and then nothing, or nothing more.
fn say(
    server: &Arc<Server>,
    only: Option<ResourceType>,
    requests: &[DeltaDiscoveryRequest],
    goes_on: bool,
) -> Body {
    let frames: Vec<_> = requests.iter().map(frame).collect();
    let silent = stream::pending::<Result<Bytes, Infallible>>();
    let all = stream::iter(frames).chain(silent.take(usize::from(goes_on)));
    let request = http::Request::new(Body::from_stream(all));
    server.open(Mode::Delta, only, request).into_body()
}

/// What is sent at once: the names of each response, and the status if the stream ends.
fn hear(body: &mut Body) -> Vec<String> {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut heard, mut bytes) = (Vec::new(), Vec::new());
    while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(&mut cx) {
        match frame.trailers_ref() {
            Some(trailers) => {
                let status = trailers[tonic::Status::GRPC_STATUS].to_str().unwrap();
                heard.push(format!("status {status}"));
            }
            None => bytes.extend(frame.into_data().unwrap()),
        }
        // A response may be in several frames.
        while bytes.len() >= 5 {
            let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
            if bytes.len() < 5 + len {
                break;
            }
            let message: Vec<u8> = bytes.drain(..5 + len).skip(5).collect();
            let response = DeltaDiscoveryResponse::decode(&*message).unwrap();
            let names = response.resources.into_iter().map(|resource| resource.name);
            let names: Vec<_> = names.chain(response.removed_resources).collect();
            let kind = ResourceType::from_type_url(&response.type_url).unwrap();
            heard.push(format!("{kind} {}", names.join(" ")));
        }
    }
    heard
}

/// All that a client has said is heard before it is answered; what was refused takes no answer away from the rest.
#[tokio::test]
async fn what_is_there_is_heard_first() {
    let (cds, eds) = (ResourceType::Cluster, ResourceType::Endpoints);
    let limits = Limits {
        names: 2,
        ..Limits::default()
    };
    for (said, goes_on, expected) in [
        (
            &[
                ask(cds, &["a"], &[]),
                ask(eds, &["e"], &[]),
                ask(cds, &["b"], &[]),
            ][..],
            true,
            &["cluster a b", "endpoints e"][..],
        ),
        (
            &[ask(cds, &["a"], &[]), ask(cds, &["b"], &[])],
            false,
            &["cluster a b", "status 0"],
        ),
        (
            &[ask(cds, &["a"], &[]), ask(eds, &["d", "e", "f"], &[])],
            true,
            &["cluster a", "status 8"],
        ),
        // Who leaves at once does not wait.
        (
            &[ask(cds, &["*"], &["a"])],
            false,
            &["cluster a", "status 0"],
        ),
    ] {
        let server = Server::new(Arc::new(Memory::default()), limits.clone());
        assert_eq!(
            hear(&mut say(&server, None, said, goes_on)),
            expected,
            "{said:?}"
        );
    }
}

/// A client that comes back is told nothing until it had the time to say of all types what it has.
#[tokio::test(start_paused = true)]
async fn who_comes_back_is_heard_first() {
    let limits = Limits::default();
    let settle = limits.settle;
    let server = Server::new(Arc::new(Memory::default()), limits);
    let back = ask(ResourceType::Cluster, &["*"], &["a"]);
    let mut body = say(&server, None, std::slice::from_ref(&back), true);
    assert_eq!(hear(&mut body), [""; 0]);
    tokio::time::advance(settle).await;
    assert_eq!(hear(&mut body), ["cluster a"]);
    // On a stream of clusters there is nothing else to be said.
    let mut alone = say(&server, Some(ResourceType::Cluster), &[back], true);
    assert_eq!(hear(&mut alone), ["cluster a"]);
}

/// A client that talks without pause is answered between two words, and sent away like any other.
#[tokio::test]
async fn who_talks_without_pause_is_sent_away() {
    let server = Server::new(Arc::new(Memory::default()), Limits::default());
    let again = frame(&ask(ResourceType::Cluster, &["a"], &[]));
    let request = http::Request::new(Body::from_stream(stream::repeat(again)));
    let mut body = server.open(Mode::Delta, None, request).into_body();
    // Each time it has said much, it is others' turn.
    let mut heard = || [hear(&mut body), hear(&mut body)].concat();
    assert_eq!(heard(), ["cluster a"]);
    server.drain(Duration::ZERO).await;
    assert_eq!(heard(), ["status 14"]);
}

/// Nor does time stand still for one that talks without pause: it is answered once it had the time to say what it has, and
/// what would expire is refreshed.
#[tokio::test(start_paused = true)]
async fn time_passes_for_who_talks_without_pause() {
    const TTL: Duration = Duration::from_secs(9);
    let memory = Memory::default();
    let cluster = ResourceType::Cluster;
    let expiring = crate::xds::Resource::with_version(cluster, "a", "2", b"").expiring(TTL);
    memory.write(|write| write.put(cluster, expiring));
    let limits = Limits::default();
    let settle = limits.settle;
    let server = Server::new(Arc::new(memory), limits);
    let mut back = ask(cluster, &["a"], &["a"]);
    back.node.get_or_insert_default().user_agent_name = "envoy".into();
    // It takes the first response again and again, also before it is sent.
    let ack = DeltaDiscoveryRequest {
        response_nonce: "1".into(),
        ..ask(cluster, &[], &[])
    };
    let words = stream::iter([frame(&back)]).chain(stream::repeat(frame(&ack)));
    let request = http::Request::new(Body::from_stream(words));
    let mut body = server.open(Mode::Delta, None, request).into_body();
    let mut heard = || (0..8).flat_map(|_| hear(&mut body)).collect::<Vec<_>>();
    assert_eq!(heard(), [""; 0]);
    tokio::time::advance(settle).await;
    assert_eq!(heard(), ["cluster a"]);
    tokio::time::advance(TTL).await;
    assert_eq!(heard(), ["cluster a"]);
}

/// A stream that comes after the last ones were ended is refused at once: nobody would end it later.
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
