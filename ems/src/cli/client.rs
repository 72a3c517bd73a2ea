//! The connection of the commands to a server.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use isthmus_proto::v1::registry_client::RegistryClient;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

/// Long enough for another continent.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(30);
/// Most bytes of an answer. Lists come in one message, which for many records of full length is far above the 4 MiB that
/// gRPC clients take by default; this is what a terminal can still be asked to hold.
const ANSWER_LIMIT: usize = 256 * 1024 * 1024;

/// Which server to talk to
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Server {
    /// HTTP address of the server
    #[arg(
        long,
        env = "EMS_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:18080"
    )]
    server: String,
}

/// A connected client. Clones share the connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    url: String,
    pub(super) registry: RegistryClient<Channel>,
}

impl Server {
    /// Connects and does something.
    pub(super) fn run<T, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce(Client) -> F,
    ) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async { work(self.connect().await?).await })
    }

    async fn connect(&self) -> Result<Client> {
        let url = normalise(&self.server)?;
        let endpoint = Endpoint::from_shared(url.clone())
            .with_context(|| format!("--server: {url} is no URL"))?
            .connect_timeout(CONNECT)
            .timeout(REQUEST);
        let channel = endpoint.connect().await.map_err(|error| {
            let cause = root_cause(&error);
            anyhow!(
                "cannot reach the server at {url}: {cause}; check that `ems serve` runs there and that --server or \
                 EMS_SERVER names its HTTP address"
            )
        })?;
        Ok(Client {
            url,
            registry: RegistryClient::new(channel).max_decoding_message_size(ANSWER_LIMIT),
        })
    }
}

impl Client {
    /// An error of a call, as people should read it.
    pub(super) fn error(&self, what: &str, status: &tonic::Status) -> anyhow::Error {
        let url = &self.url;
        match status.code() {
            Code::Unimplemented => anyhow!(
                "{what}: the server at {url} does not know this call; is it an EMS of this version?"
            ),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                anyhow!(
                    "{what}: the server at {url} does not answer: {}",
                    status.message()
                )
            }
            Code::Unknown if status.message().is_empty() => {
                anyhow!("{what}: the server at {url} speaks no gRPC; is it an EMS?")
            }
            _ => anyhow!("{what}: {}", status.message()),
        }
    }
}

/// An address without a scheme is an HTTP one.
fn normalise(server: &str) -> Result<String> {
    match server.split_once("://") {
        None if server.is_empty() => bail!("--server is empty"),
        None => Ok(format!("http://{server}")),
        Some(("http", _)) => Ok(server.to_owned()),
        Some((scheme, _)) => bail!("--server: {scheme} is not supported, only http"),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for (server, expected) in [
            ("http://ems:18080", Some("http://ems:18080")),
            ("ems:18080", Some("http://ems:18080")),
            ("", None),
            ("https://ems", None),
            ("unix:///x", None),
        ] {
            assert_eq!(normalise(server).ok().as_deref(), expected, "{server}");
        }
    }

    #[test]
    fn unreachable_server_is_named() {
        // Bound and closed again: nobody listens there.
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let server = Server {
            server: free.to_string(),
        };
        let error = server.run(|_| async { Ok(()) }).unwrap_err().to_string();
        assert!(error.contains(&format!("http://{free}")), "{error}");
        assert!(
            error.contains("refused") && error.contains("EMS_SERVER"),
            "{error}"
        );
    }
}
