//! A small HTTP/1.1 client for admin pages, the API of EMS, and callers that say what a plain program would say.
//!
//! Every status is an answer, not an error, and header values are bytes, since tests send what strangers may send.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use ureq::http::{HeaderName, HeaderValue, Request};

/// One request to be.
#[derive(Clone, Debug)]
pub struct Call {
    agent: ureq::Agent,
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Names in lower case, values as text (what is no UTF-8 is replaced).
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: String,
}

/// A client with its own pool of connections; a clone shares them.
pub fn agent(limit: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(limit))
        .max_redirects(0)
        .proxy(None)
        .build()
        .new_agent()
}

impl Call {
    /// A request on a new connection, with ten seconds to be answered.
    pub fn new(method: &str, url: impl Into<String>) -> Call {
        Call::on(&agent(Duration::from_secs(10)), method, url)
    }

    /// A request on the connections of a client.
    pub fn on(agent: &ureq::Agent, method: &str, url: impl Into<String>) -> Call {
        Call {
            agent: agent.clone(),
            method: method.to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header; the value may be any bytes.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Call {
        self.headers
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Says which service is meant.
    #[must_use]
    pub fn service(self, name: &str) -> Call {
        self.header("x-mesh-service", name)
    }

    /// Says which region is meant.
    #[must_use]
    pub fn region(self, name: &str) -> Call {
        self.header("x-mesh-region", name)
    }

    /// Asks for a receipt.
    #[must_use]
    pub fn debug(self) -> Call {
        self.header("x-mesh-debug", "1")
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Call {
        self.body = body.into();
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Call {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Sends it and waits for the whole answer.
    pub fn send(&self) -> Result<Reply> {
        self.exchange()
            .with_context(|| format!("{} {} was not answered", self.method, self.url))
    }

    fn exchange(&self) -> Result<Reply> {
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(&self.url);
        for (name, value) in &self.headers {
            request = request.header(
                HeaderName::from_bytes(name.as_bytes())?,
                HeaderValue::from_bytes(value)?,
            );
        }
        let mut response = if self.body.is_empty() {
            self.agent.run(request.body(())?)?
        } else {
            self.agent.run(request.body(self.body.clone())?)?
        };
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect();
        let body = response
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_vec()?;
        Ok(Reply {
            status: response.status().as_u16(),
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

impl Reply {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_str())
    }

    /// The mesh's reason, when it refused.
    pub fn error(&self) -> Option<&str> {
        self.header("x-mesh-error")
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Fails unless the status is 2xx.
    pub fn ok(self) -> Result<Reply> {
        anyhow::ensure!(
            (200..300).contains(&self.status),
            "answered {}: {}",
            self.status,
            self.body
        );
        Ok(self)
    }
}
