//! A client that stops reading costs one response of each type, and nobody else's time.
//!
//! It speaks HTTP/2 by itself: what a library reads ahead for it, it would have read.

use std::future::poll_fn;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use tokio::{net::TcpSocket, sync::watch};

use super::*;

/// What does not take any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// The client reads its socket, and leaves the stream's window closed.
    Window,
    /// The client leaves its socket alone, which fills up.
    Socket,
}

const WINDOW: u32 = 100;
const WIDE: u32 = 1 << 30;
/// What the kernel keeps for the client.
const BUFFER: u32 = 4_096;

/// A delta client that reads when it is told to.
pub(crate) struct Slow {
    requests: h2::SendStream<Bytes>,
    responses: h2::RecvStream,
    read: BytesMut,
    reading: watch::Sender<bool>,
}

impl Slow {
    /// Opens a stream, asks for everything of some types, and reads no response.
    pub(crate) async fn open(address: SocketAddr, stall: Stall, kinds: &[ResourceType]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(BUFFER).unwrap();
        let socket = socket.connect(address).await.unwrap();
        let window = match stall {
            Stall::Window => WINDOW,
            Stall::Socket => WIDE,
        };
        let mut client = h2::client::Builder::new();
        client.initial_connection_window_size(WIDE);
        client.initial_window_size(window);
        let (mut send, mut connection) = client.handshake(socket).await.unwrap();
        let (reading, mut told) = watch::channel(true);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    stopped = told.wait_for(|reading| !reading) => drop(stopped),
                    _ = &mut connection => return,
                }
                if told.wait_for(|reading| *reading).await.is_err() {
                    return;
                }
            }
        });
        let method =
            "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
        let request = http::Request::post(format!("http://{address}/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, requests) = send.send_request(request, false).unwrap();
        let responses = response.await.unwrap().into_body();
        let mut slow = Self {
            requests,
            responses,
            read: BytesMut::new(),
            reading,
        };
        let mut node = Some(Node {
            id: "slow".into(),
            ..Node::default()
        });
        for kind in kinds {
            slow.send(&DeltaDiscoveryRequest {
                node: node.take(),
                type_url: kind.type_url().into(),
                resource_names_subscribe: vec!["*".into()],
                ..Default::default()
            });
        }
        // The response is under way.
        let first = slow.more().await.unwrap();
        slow.read.extend_from_slice(&first);
        if stall == Stall::Socket {
            slow.reading.send(false).unwrap();
        }
        slow
    }

    fn send(&mut self, request: &DeltaDiscoveryRequest) {
        let message = request.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let framed = [&[0][..], &length, &message].concat();
        self.requests.send_data(framed.into(), false).unwrap();
    }

    /// The next bytes, which stay in the window.
    async fn more(&mut self) -> Option<Bytes> {
        let more = poll_fn(|cx| self.responses.poll_data(cx));
        let more = timeout(DEADLINE, more).await.expect("bytes in time");
        more.transpose().expect("no bytes are missing")
    }

    /// Reads on, from now on for good, until a response is there, and takes it.
    async fn next_acked(&mut self) -> DeltaDiscoveryResponse {
        let response = self.next().await.expect("the stream goes on");
        self.send(&DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        });
        response
    }

    /// Reads on likewise, until a response is there or no more comes.
    pub(crate) async fn next(&mut self) -> Option<DeltaDiscoveryResponse> {
        self.reading.send_replace(true);
        loop {
            if let Some(response) = self.whole() {
                return Some(response);
            }
            let flow = self.responses.flow_control();
            let used = flow.used_capacity();
            flow.release_capacity(used).unwrap();
            let Some(more) = self.more().await else {
                assert!(self.read.is_empty(), "the end of a response is missing");
                return None;
            };
            self.read.extend_from_slice(&more);
        }
    }

    /// Its status, once no more comes.
    pub(crate) async fn status(&mut self) -> Code {
        let trailers = poll_fn(|cx| self.responses.poll_trailers(cx));
        let trailers = timeout(DEADLINE, trailers).await.expect("an end in time");
        let trailers = trailers.unwrap().expect("trailers");
        tonic::Status::from_header_map(&trailers).unwrap().code()
    }

    fn whole(&mut self) -> Option<DeltaDiscoveryResponse> {
        let prefix = self.read.get(1..5)?;
        let length = u32::from_be_bytes(prefix.try_into().unwrap()) as usize;
        if self.read.len() < 5 + length {
            return None;
        }
        self.read.advance(5);
        let message = self.read.split_to(length);
        Some(DeltaDiscoveryResponse::decode(message).unwrap())
    }
}

fn content<'a>(response: &'a DeltaDiscoveryResponse, name: &str) -> &'a [u8] {
    let resource = response.resources.iter().find(|r| r.name == name).unwrap();
    &resource.resource.as_ref().unwrap().value
}

async fn others_go_on_beside(stall: Stall) {
    const CHANGES: u64 = 200;
    let (kind, second) = (ResourceType::Cluster, ResourceType::Route);
    let fixture = Fixture::new(Limits::default()).await;
    fixture.put(kind, &["hot"], "0");
    fixture.put(second, &["route"], "0");
    // Together far more than the window, or than the kernel keeps of what nobody reads.
    let bulk = "x".repeat(match stall {
        Stall::Window => 1 << 10,
        Stall::Socket => 1 << 20,
    });
    let all: Vec<String> = (0..24).map(|n| format!("bulk-{n:02}")).collect();
    let bulky: Vec<&str> = all.iter().map(|name| &**name).collect();
    fixture.put(kind, &bulky, &bulk);
    let pushes = |kind| fixture.server.counters().totals(kind).pushes;

    let mut slow = Slow::open(fixture.address, stall, &[kind, second]).await;
    eventually(|| pushes(kind) == 1 && pushes(second) == 1).await;
    let mut others = Vec::new();
    for id in ["one", "two"] {
        let mut other = fixture.delta(id).await;
        other.subscribe(kind, &["hot"]).await;
        assert_eq!(content(&other.next_acked().await, "hot"), b"0");
        others.push(other);
    }
    // What nobody repeats must not be lost among what is merged.
    fixture.put(kind, &["late"], "0");
    for change in 1..=CHANGES {
        let now = change.to_string();
        fixture.put(kind, &["hot"], &now);
        fixture.put(second, &["route"], &now);
        for other in &mut others {
            assert_eq!(content(&other.next_acked().await, "hot"), now.as_bytes());
        }
    }
    // All of that time it had the one response of each type that it does not read.
    let to_others = others.len() as u64 * (1 + CHANGES);
    assert_eq!(pushes(kind), 1 + to_others, "{stall:?}");
    assert_eq!(pushes(second), 1, "{stall:?}");

    let old = slow.next_acked().await;
    assert_eq!(old.resources.len(), 1 + all.len());
    assert_eq!(content(&old, "hot"), b"0");
    assert_eq!(content(&slow.next_acked().await, "route"), b"0");
    let mut new = [slow.next_acked().await, slow.next_acked().await];
    new.sort_by_key(|response| names(response) == ["route"]);
    assert_eq!(names(&new[0]), ["hot", "late"]);
    let newest = CHANGES.to_string();
    assert_eq!(content(&new[0], "hot"), newest.as_bytes());
    assert_eq!(content(&new[1], "route"), newest.as_bytes());
    assert_eq!(pushes(kind), 2 + to_others, "{stall:?}");
    assert_eq!(pushes(second), 2, "{stall:?}");
}

#[tokio::test]
async fn others_go_on_beside_a_closed_window() {
    others_go_on_beside(Stall::Window).await;
}

#[tokio::test]
async fn others_go_on_beside_a_socket_that_nobody_reads() {
    others_go_on_beside(Stall::Socket).await;
}
