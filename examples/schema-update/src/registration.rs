//! How a service says that it is there: one PUT to EMS, repeated as a heartbeat; at the end a drain and a delete.
//!
//! Plain HTTP and JSON, so the same can be done from any language, or by a shell script with curl.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Seconds after which EMS forgets an endpoint that no longer says that it is there.
pub const TTL: u32 = 10;

/// Three heartbeats fit into one lease, so two may be lost.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// One endpoint of a service, as EMS knows it.
#[derive(Clone, Debug)]
pub struct Registration {
    client: ureq::Agent,
    service: String,
    endpoint: String,
    record: Value,
}

impl Registration {
    /// What is to be registered, and where: `ems` is the base URL of its API, such as `http://127.0.0.1:18080`.
    pub fn new(ems: &str, service: &str, id: &str, address: &str, port: u16) -> Registration {
        let service = format!("{}/v1/services/{service}", ems.trim_end_matches('/'));
        Registration {
            client: ureq::Agent::config_builder()
                .timeout_global(Some(Duration::from_secs(5)))
                .http_status_as_error(false)
                // EMS is in the same region: never behind a proxy for the outside world.
                .proxy(None)
                .build()
                .new_agent(),
            endpoint: format!("{service}/endpoints/{id}"),
            service,
            record: json!({"address": address, "port": port, "ttl": TTL}),
        }
    }

    /// Registers the endpoint; repeated, it is the heartbeat.
    ///
    /// # Errors
    /// When EMS cannot be reached or refuses.
    pub fn put(&self) -> Result<()> {
        match self.send("PUT", &self.endpoint, Some(&self.record))? {
            // Nobody has described the service yet. Where people keep their services in files (`ems apply`), they have.
            404 => {
                let described =
                    self.send("PUT", &self.service, Some(&json!({"protocol": "grpc"})))?;
                expect(described, "PUT", &self.service)?;
                let status = self.send("PUT", &self.endpoint, Some(&self.record))?;
                expect(status, "PUT", &self.endpoint)
            }
            status => expect(status, "PUT", &self.endpoint),
        }
    }

    /// Takes the endpoint out of rotation: no new requests come, those under way go on.
    ///
    /// # Errors
    /// When EMS cannot be reached or refuses.
    pub fn drain(&self) -> Result<()> {
        let url = format!("{}/drain", self.endpoint);
        expect(self.send("POST", &url, None)?, "POST", &url)
    }

    /// Removes the endpoint.
    ///
    /// # Errors
    /// When EMS cannot be reached or refuses.
    pub fn delete(&self) -> Result<()> {
        expect(
            self.send("DELETE", &self.endpoint, None)?,
            "DELETE",
            &self.endpoint,
        )
    }

    fn send(&self, method: &str, url: &str, body: Option<&Value>) -> Result<u16> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", "application/json");
        let answer = match body {
            Some(body) => self.client.run(request.body(body.to_string())?),
            None => self.client.run(request.body(())?),
        };
        let answer = answer.with_context(|| format!("{method} {url} was not answered"))?;
        Ok(answer.status().as_u16())
    }
}

fn expect(status: u16, method: &str, url: &str) -> Result<()> {
    if !(200..300).contains(&status) {
        bail!("EMS answered {status} to {method} {url}");
    }
    Ok(())
}
