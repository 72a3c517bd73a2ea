//! Tells every database of a schema: one request each, several at a time, each with a deadline.
//!
//! This is all that a caller does: a channel to the Envoy beside it, and two headers that say which service in which
//! region. No address, no discovery, no certificate, no retry loop.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    schema::Schema,
    v1::{
        ApplySchemaRequest, ApplySchemaResponse,
        schema_update_service_client::SchemaUpdateServiceClient,
    },
};

/// One database in one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its service name.
    pub database: String,
    /// Its region.
    pub region: String,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Who was asked.
    pub target: Target,
    /// The answer, or the gRPC status.
    pub answer: Result<ApplySchemaResponse, Status>,
    /// How long it took.
    pub latency: Duration,
    /// What each Envoy on the way decided, in the order of the way; empty unless asked for.
    pub receipts: Vec<String>,
}

/// How to call.
#[derive(Clone, Debug)]
pub struct FanOut {
    /// The Envoy beside the caller, such as `http://127.0.0.1:10000`.
    pub envoy: Endpoint,
    /// Requests at a time.
    pub concurrency: usize,
    /// Limit of each request; it travels with the request, so nobody works on one that was given up.
    pub deadline: Duration,
    /// Whether to ask for receipts.
    pub receipts: bool,
}

impl FanOut {
    /// Tells all targets, and returns what became of each, in their order.
    pub async fn tell(&self, targets: &[Target], schema: &Schema) -> Vec<Outcome> {
        // Lazy: if Envoy is not there, each request says so.
        let channel = self.envoy.connect_lazy();
        stream::iter(targets)
            .map(|target| self.tell_one(channel.clone(), target, schema))
            .buffered(self.concurrency.max(1))
            .collect()
            .await
    }

    async fn tell_one(&self, channel: Channel, target: &Target, schema: &Schema) -> Outcome {
        let begin = Instant::now();
        let answer = self.request(channel, target, schema).await;
        let latency = begin.elapsed();
        let headers = match &answer {
            Ok(response) => response.metadata(),
            Err(status) => status.metadata(),
        };
        // The Envoy nearest to the database adds its receipt first.
        let mut receipts: Vec<String> = headers
            .get_all("x-mesh-receipt")
            .iter()
            .filter_map(|receipt| receipt.to_str().ok().map(str::to_owned))
            .collect();
        receipts.reverse();
        Outcome {
            target: target.clone(),
            answer: answer.map(Response::into_inner),
            latency,
            receipts,
        }
    }

    async fn request(
        &self,
        channel: Channel,
        target: &Target,
        schema: &Schema,
    ) -> Result<Response<ApplySchemaResponse>, Status> {
        let mut request = Request::new(ApplySchemaRequest {
            version: schema.version,
            statements: schema.statements.clone(),
        });
        let headers = request.metadata_mut();
        headers.insert("x-mesh-service", name(&target.database)?);
        headers.insert("x-mesh-region", name(&target.region)?);
        if self.receipts {
            headers.insert("x-mesh-debug", MetadataValue::from_static("1"));
        }
        request.set_timeout(self.deadline);
        SchemaUpdateServiceClient::new(channel)
            .apply_schema(request)
            .await
    }
}

fn name(text: &str) -> Result<MetadataValue<Ascii>, Status> {
    text.parse().map_err(|_| {
        Status::new(
            Code::InvalidArgument,
            format!("{text:?} is no header value"),
        )
    })
}
