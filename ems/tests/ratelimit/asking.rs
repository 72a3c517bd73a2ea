//! A client of the rate limit service, which says what Envoy says.

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{
        RateLimitRequest, rate_limit_response, rate_limit_service_client::RateLimitServiceClient,
    },
};
use isthmus_tests::Ems;
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

/// See the module.
#[derive(Clone)]
pub(crate) struct Asking {
    client: RateLimitServiceClient<Channel>,
    domain: &'static str,
    key: &'static str,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Passes,
    /// With this body.
    Over(String),
    Failed(Code),
}

impl Asking {
    pub(crate) async fn new(ems: &Ems) -> Self {
        let address = format!("http://{}", ems.xds_address());
        let client = RateLimitServiceClient::connect(address).await.unwrap();
        Self {
            client,
            domain: "isthmus",
            key: "question",
        }
    }

    pub(crate) fn named(&self, domain: &'static str, key: &'static str) -> Self {
        Self {
            domain,
            key,
            ..self.clone()
        }
    }

    pub(crate) async fn ask(&self, question: &str) -> Said {
        let entry = Entry {
            key: self.key.to_owned(),
            value: question.to_owned(),
        };
        let descriptor = RateLimitDescriptor {
            entries: vec![entry],
            ..Default::default()
        };
        let request = RateLimitRequest {
            domain: self.domain.to_owned(),
            descriptors: vec![descriptor],
            hits_addend: 0,
        };
        let response = match self.client.clone().should_rate_limit(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Said::Failed(status.code()),
        };
        match response.overall_code() {
            rate_limit_response::Code::Ok => Said::Passes,
            _ => Said::Over(String::from_utf8(response.raw_body).unwrap()),
        }
    }

    /// Whether a request passes; if not, because of a limit, or because nobody can say whether it is over one.
    pub(crate) async fn passes(&self, question: &str) -> bool {
        match self.ask(question).await {
            Said::Passes => true,
            Said::Over(_) | Said::Failed(Code::Unavailable) => false,
            Said::Failed(code) => panic!("{code:?}"),
        }
    }
}

/// Gives service `pay` these limits.
pub(crate) fn put(ems: &Ems, limits: Value) {
    ems.put_service("pay", json!({"rateLimits": limits}))
        .unwrap();
}
