//! Leases over real gRPC: what an Envoy says and hears, and what is too much.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ems::lease::{
    Bounds, Budget, By, Limits, Usage,
    server::{KEY, Lessor, NODE},
};
use envoy_types::pb::envoy::{
    service::rate_limit_quota::v3::{
        BucketId, RateLimitQuotaResponse, RateLimitQuotaUsageReports,
        rate_limit_quota_response::bucket_action::BucketAction as Action,
        rate_limit_quota_service_client::RateLimitQuotaServiceClient,
        rate_limit_quota_usage_reports::BucketQuotaUsage,
    },
    r#type::v3::{TokenBucket, rate_limit_strategy::Strategy},
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Server},
};

/// `payments` and `quotes` let pass 100 a minute, or what is said; others there are none.
#[derive(Default)]
struct Fixed {
    came: Mutex<Vec<(String, Usage, By)>>,
    requests: Mutex<Option<u32>>,
}

impl Limits for Fixed {
    fn budget(&self, bucket: &str) -> Option<Budget> {
        matches!(bucket, "payments" | "quotes").then_some(Budget {
            requests: self.requests.lock().unwrap().unwrap_or(100),
            unit: 60,
            burst: 10,
        })
    }

    fn count(&self, bucket: &str, usage: Usage, by: By) {
        let came = (bucket.to_owned(), usage, by);
        self.came.lock().unwrap().push(came);
    }
}

struct Fixture {
    lessor: Lessor,
    limits: Arc<Fixed>,
    channel: Channel,
}

impl Fixture {
    async fn start(bounds: Bounds, streams: usize) -> Self {
        let limits = Arc::new(Fixed::default());
        let lessor = Lessor::new(limits.clone(), bounds, streams);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Server::builder()
            .add_service(lessor.service())
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(served);
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        Self {
            lessor,
            limits,
            channel: channel.connect().await.unwrap(),
        }
    }

    async fn join(&self, node: &str) -> Result<Envoy, Status> {
        let (reports, receiver) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(receiver));
        if !node.is_empty() {
            let node = MetadataValue::try_from(node).unwrap();
            request.metadata_mut().insert(NODE, node);
        }
        let mut client = RateLimitQuotaServiceClient::new(self.channel.clone());
        let answers = client.stream_rate_limit_quotas(request).await?.into_inner();
        Ok(Envoy { reports, answers })
    }
}

struct Envoy {
    reports: mpsc::UnboundedSender<RateLimitQuotaUsageReports>,
    answers: Streaming<RateLimitQuotaResponse>,
}

fn usage(keys: &[(&str, &str)], allowed: u64) -> BucketQuotaUsage {
    let bucket = keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    BucketQuotaUsage {
        bucket_id: Some(BucketId {
            bucket: bucket.collect(),
        }),
        num_requests_allowed: allowed,
        num_requests_denied: 2,
        ..Default::default()
    }
}

impl Envoy {
    fn report(&self, usages: Vec<BucketQuotaUsage>) {
        let _ = self.reports.send(RateLimitQuotaUsageReports {
            domain: "isthmus".to_owned(),
            bucket_quota_usages: usages,
        });
    }

    /// What is said of each bucket: a token bucket, or that it is to be forgotten.
    async fn hear(&mut self) -> Result<BTreeMap<String, Option<TokenBucket>>, Status> {
        let answer = timeout(Duration::from_secs(10), self.answers.message());
        let answer = answer.await.expect("no answer")?;
        let answer = answer.ok_or_else(|| Status::ok("the end"))?;
        let said = answer.bucket_action.into_iter().map(|action| {
            let name = action.bucket_id.unwrap().bucket[KEY].clone();
            let tokens = match action.bucket_action.unwrap() {
                Action::AbandonAction(_) => None,
                Action::QuotaAssignmentAction(assignment) => {
                    let ttl = assignment.assignment_time_to_live.unwrap();
                    assert_eq!((ttl.seconds, ttl.nanos), (15, 0));
                    let strategy = assignment.rate_limit_strategy.unwrap().strategy;
                    let Some(Strategy::TokenBucket(tokens)) = strategy else {
                        panic!("{strategy:?}");
                    };
                    Some(tokens)
                }
            };
            (name, tokens)
        });
        Ok(said.collect())
    }
}

#[tokio::test]
async fn a_lease_and_what_is_none() {
    let fixture = Fixture::start(Bounds::default(), 10).await;
    let mut envoy = fixture.join("sidecar-1").await.unwrap();
    // What is no bucket of ours is not answered.
    envoy.report(vec![
        usage(&[], 1),
        usage(&[("other", "payments")], 1),
        usage(&[(KEY, "payments"), ("other", "x")], 1),
        usage(&[(KEY, "")], 1),
        usage(&[(KEY, &"p".repeat(4_097))], 1),
    ]);
    envoy.report(vec![
        usage(&[(KEY, "payments")], 7),
        usage(&[(KEY, "gone")], 1),
    ]);
    let said = envoy.hear().await.unwrap();
    let tokens = said["payments"].as_ref().unwrap();
    assert_eq!(tokens.max_tokens, 10);
    // 100 a minute, in thousandths.
    assert_eq!(tokens.tokens_per_fill.unwrap().value, 100_000);
    assert_eq!(tokens.fill_interval.unwrap().seconds, 60_000);
    assert_eq!(said["gone"], None);
    assert_eq!(said.len(), 2);
    assert_eq!(fixture.lessor.count(), (1, 1));
    let came = fixture.limits.came.lock().unwrap();
    let counts: Vec<_> = came
        .iter()
        .map(|(bucket, usage, by)| (bucket.as_str(), usage.allowed, usage.denied, *by))
        .collect();
    // Nothing was leased yet.
    let want = [("payments", 7, 2, By::OnError), ("gone", 1, 2, By::OnError)];
    assert_eq!(counts, want);
    let lent = fixture.lessor.lent("payments");
    assert_eq!((lent.envoys, lent.rate), (1, 100_000));
}

#[tokio::test]
async fn two_share_and_one_comes_back() {
    let fixture = Fixture::start(Bounds::default(), 10).await;
    let rate = |said: &BTreeMap<String, Option<TokenBucket>>| {
        let tokens = said["payments"].as_ref().unwrap();
        (tokens.tokens_per_fill.unwrap().value, tokens.max_tokens)
    };
    let mut first = fixture.join("sidecar-1").await.unwrap();
    first.report(vec![usage(&[(KEY, "payments")], 1)]);
    assert_eq!(rate(&first.hear().await.unwrap()), (100_000, 10));
    let mut second = fixture.join("sidecar-2").await.unwrap();
    second.report(vec![usage(&[(KEY, "payments")], 1)]);
    assert_eq!(rate(&second.hear().await.unwrap()), (1, 5));
    // The same Envoy, on a new stream, gives back what it held on the old one, which is still its own.
    drop(first);
    let gone = async {
        while fixture.lessor.streams() > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.unwrap();
    let mut first = fixture.join("sidecar-1").await.unwrap();
    first.report(vec![usage(&[(KEY, "payments")], 1)]);
    assert_eq!(rate(&first.hear().await.unwrap()), (50_000, 5));
    first.report(vec![usage(&[(KEY, "payments")], 1)]);
    assert_eq!(rate(&first.hear().await.unwrap()).0, 50_000);
}

#[tokio::test]
async fn a_limit_that_changes_is_said_at_once() {
    let fixture = Fixture::start(Bounds::default(), 10).await;
    let mut envoy = fixture.join("sidecar-1").await.unwrap();
    let mut idle = fixture.join("sidecar-2").await.unwrap();
    envoy.report(vec![usage(&[(KEY, "payments")], 1)]);
    envoy.hear().await.unwrap();
    for requests in [7, 700] {
        *fixture.limits.requests.lock().unwrap() = Some(requests);
        fixture.lessor.changed("pay".to_owned());
        let said = envoy.hear().await.unwrap();
        let tokens = said["payments"].as_ref().unwrap();
        assert_eq!(tokens.tokens_per_fill.unwrap().value, requests * 1_000);
    }
    // Of each of several that come at a time.
    envoy.report(vec![usage(&[(KEY, "quotes")], 1)]);
    envoy.hear().await.unwrap();
    *fixture.limits.requests.lock().unwrap() = Some(70);
    for begin in ["quotes", "other", "pay", "payments", "another"] {
        fixture.lessor.changed(begin.to_owned());
    }
    let mut said = BTreeMap::new();
    while said.len() < 2 {
        said.extend(envoy.hear().await.unwrap());
    }
    for bucket in ["payments", "quotes"] {
        let tokens = said[bucket].as_ref().unwrap();
        assert_eq!(tokens.tokens_per_fill.unwrap().value, 70_000, "{bucket}");
    }
    // Not of what it has nothing to do with.
    fixture.lessor.changed("other".to_owned());
    for envoy in [&mut envoy, &mut idle] {
        envoy.report(vec![usage(&[(KEY, "gone")], 1)]);
        assert_eq!(envoy.hear().await.unwrap()["gone"], None);
    }
}

#[tokio::test]
async fn who_is_not_let_in() {
    let fixture = Fixture::start(Bounds::default(), 1).await;
    let refused = |result: Result<Envoy, Status>| result.err().unwrap().code();
    for node in ["", &"n".repeat(1_025)] {
        assert_eq!(refused(fixture.join(node).await), Code::InvalidArgument);
    }
    let mut first = fixture.join("sidecar-1").await.unwrap();
    let too_many = fixture.join("sidecar-2").await;
    assert_eq!(refused(too_many), Code::ResourceExhausted);
    // One that says too much at once.
    first.report(vec![usage(&[(KEY, &"p".repeat(5 << 20))], 1)]);
    assert_eq!(first.hear().await.unwrap_err().code(), Code::OutOfRange);
    drop(first);
    let deadline = Duration::from_secs(10);
    let place = async {
        loop {
            if let Ok(envoy) = fixture.join("sidecar-2").await {
                return envoy;
            }
        }
    };
    let mut second = timeout(deadline, place).await.unwrap();
    fixture.lessor.close();
    assert_eq!(second.hear().await.unwrap_err().code(), Code::Unavailable);
    let closed = fixture.join("sidecar-3").await;
    assert_eq!(refused(closed), Code::Unavailable);
}

#[tokio::test]
async fn too_many_buckets() {
    let bounds = Bounds {
        buckets: 50_000,
        holders: 1,
    };
    let fixture = Fixture::start(bounds, 10).await;
    let mut envoy = fixture.join("sidecar-1").await.unwrap();
    let names: Vec<_> = (0..10_001).map(|n| n.to_string()).collect();
    let usages = names.iter().map(|name| usage(&[(KEY, name)], 1));
    envoy.report(usages.collect());
    assert_eq!(envoy.hear().await.unwrap().len(), 10_000);
    envoy.report(vec![usage(&[(KEY, "payments")], 1)]);
    assert!(envoy.hear().await.unwrap()["payments"].is_some());
    // There is no room for another one.
    let mut other = fixture.join("sidecar-2").await.unwrap();
    other.report(vec![usage(&[(KEY, "payments")], 1)]);
    other.report(vec![usage(&[(KEY, "gone")], 1)]);
    let said = other.hear().await.unwrap();
    assert_eq!(said.keys().collect::<Vec<_>>(), ["gone"]);
}
