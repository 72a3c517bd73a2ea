//! A caller that speaks HTTP/2 and gRPC, for tests that are plain functions.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::runtime::{self, Runtime};
use tokio_stream::StreamExt;
use tonic::{
    Request, Status,
    metadata::{AsciiMetadataKey, MetadataMap},
    transport::{Channel, Endpoint},
};

use crate::v1::{EchoRequest, EchoResponse, echo_client::EchoClient};

/// Header names and values.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// A caller with one connection.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    channel: Channel,
}

/// The answer to a plain HTTP/2 request.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers whose values are text.
    pub headers: BTreeMap<String, String>,
    /// The body as JSON; null when it is none.
    pub body: Value,
}

/// An answered gRPC request.
#[derive(Debug)]
pub struct Said {
    /// The message.
    pub message: EchoResponse,
    /// The response's headers.
    pub headers: MetadataMap,
}

impl Client {
    /// A caller of `address`, such as `127.0.0.1:10000`. Connects with the first request.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(address: &str) -> Result<Client> {
        Client::with_authority(address, address)
    }

    /// A caller that sends another `:authority` than the address.
    ///
    /// # Errors
    /// When either is malformed.
    pub fn with_authority(address: &str, authority: &str) -> Result<Client> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .with_context(|| format!("{address} is no address"))?
            .origin(format!("http://{authority}").parse()?)
            .timeout(Duration::from_secs(10));
        let guard = runtime.enter();
        let channel = endpoint.connect_lazy();
        drop(guard);
        Ok(Client { runtime, channel })
    }

    /// A unary gRPC call.
    ///
    /// # Errors
    /// The status that came back.
    pub fn say(&self, headers: Headers<'_>, text: &str) -> Result<Said, Status> {
        self.say_message(headers, message(text))
    }

    /// A unary gRPC call with a message of one's own.
    ///
    /// # Errors
    /// The status that came back.
    pub fn say_message(&self, headers: Headers<'_>, message: EchoRequest) -> Result<Said, Status> {
        let request = with_headers(headers, message)?;
        let mut client = EchoClient::new(self.channel.clone());
        let response = self.runtime.block_on(client.say(request))?;
        Ok(Said {
            headers: response.metadata().clone(),
            message: response.into_inner(),
        })
    }

    /// A gRPC call that streams both ways: sends the next text when the last was answered.
    ///
    /// # Errors
    /// The status that came back.
    pub fn chat(&self, headers: Headers<'_>, texts: &[&str]) -> Result<Vec<EchoResponse>, Status> {
        let mut client = EchoClient::new(self.channel.clone());
        self.runtime.block_on(async {
            let (say, said) = tokio::sync::mpsc::channel(1);
            let stream = tokio_stream::wrappers::ReceiverStream::new(said);
            let mut texts = texts.iter();
            // Some gRPC servers send headers only with the first message, so one has to be there.
            if let Some(first) = texts.next() {
                send(&say, first).await?;
            }
            let request = with_headers(headers, stream)?;
            let mut answers = client.chat(request).await?.into_inner();
            let mut heard = Vec::new();
            while let Some(answer) = answers.next().await {
                heard.push(answer?);
                match texts.next() {
                    Some(text) => send(&say, text).await?,
                    None => return Ok(heard),
                }
            }
            Ok(heard)
        })
    }

    /// A plain HTTP/2 request.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn http2(&self, method: &str, path: &str, headers: Headers<'_>) -> Result<Answer> {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(tonic::body::Body::empty())?;
        let mut channel = self.channel.clone();
        self.runtime.block_on(async {
            use tower::Service;
            std::future::poll_fn(|context| channel.poll_ready(context)).await?;
            let response = channel.call(request).await?;
            let status = response.status().as_u16();
            let headers = response
                .headers()
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.to_string(), value.to_str().ok()?.to_owned()))
                })
                .collect();
            let body = axum::body::Body::new(response.into_body());
            let body = axum::body::to_bytes(body, 1 << 20).await?;
            Ok(Answer {
                status,
                headers,
                body: serde_json::from_slice(&body).unwrap_or_default(),
            })
        })
    }
}

fn message(text: &str) -> EchoRequest {
    EchoRequest {
        text: text.to_owned(),
        delay_ms: 0,
    }
}

async fn send(say: &tokio::sync::mpsc::Sender<EchoRequest>, text: &str) -> Result<(), Status> {
    say.send(message(text))
        .await
        .map_err(|_| Status::cancelled("the stream ended before all was said"))
}

fn with_headers<T>(headers: Headers<'_>, message: T) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        let bad = || Status::internal(format!("the test's header {name}: {value} is malformed"));
        let key: AsciiMetadataKey = name.parse().map_err(|_| bad())?;
        request
            .metadata_mut()
            .insert(key, value.parse().map_err(|_| bad())?);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use crate::Upstream;

    use super::*;

    #[test]
    fn the_upstream_says_what_it_saw() {
        let upstream = Upstream::start("one").unwrap();
        let client =
            Client::with_authority(&format!("127.0.0.1:{}", upstream.port()), "a.mesh").unwrap();

        let said = client.say(&[("x-a", "b")], "hello").unwrap().message;
        assert_eq!(
            (said.upstream.as_str(), said.text.as_str()),
            ("one", "hello")
        );
        assert_eq!(said.headers.get("x-a").map(String::as_str), Some("b"));

        let heard = client.chat(&[], &["a", "b", "c"]).unwrap();
        assert_eq!(
            heard.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );

        let answer = client
            .http2("GET", "/x?status=418", &[("x-a", "b")])
            .unwrap();
        assert_eq!(answer.status, 418);
        assert_eq!(answer.body["protocol"], "HTTP/2.0");
        assert_eq!(answer.body["host"], "a.mesh");
        assert_eq!(answer.body["headers"]["x-a"], "b");
        assert_eq!(upstream.requests(), 3);
        upstream.finish().unwrap();
    }
}
