//! A server for one test, in this process, on free ports and a folder of its own.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use ems::{
    options::{Options, RawOptions},
    serve::{self, Listeners, room::Room},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

/// Nothing here takes as long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) xds: SocketAddr,
    pub(crate) http: SocketAddr,
    folder: TempDir,
    stop: oneshot::Sender<()>,
    running: JoinHandle<anyhow::Result<()>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

fn options(folder: &TempDir) -> Options {
    let raw = RawOptions {
        region: Some("us".to_owned()),
        xds_address: Some("127.0.0.1:0".to_owned()),
        http_address: Some("127.0.0.1:0".to_owned()),
        data_dir: Some(folder.path().join("data")),
        ..RawOptions::default()
    };
    raw.check().unwrap()
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_in(TempDir::new().unwrap()).await
    }

    async fn start_in(folder: TempDir) -> Self {
        let options = options(&folder);
        let listeners = Listeners::bind(&options, Room::whole(options.max_streams))
            .await
            .unwrap();
        let xds = listeners.xds.local_addr().unwrap();
        let http = listeners.http.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(serve::run(options, listeners, shutdown));
        let server = Self {
            xds,
            http,
            folder,
            stop,
            running,
        };
        let begun = Instant::now();
        while server.http("GET", "/readyz", &Value::Null).await.status != 200 {
            assert!(begun.elapsed() < DEADLINE, "ready in time");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    /// Stops it; it must have ended without an error.
    pub(crate) async fn stop(self) -> TempDir {
        self.stop.send(()).unwrap();
        timeout(DEADLINE, self.running)
            .await
            .expect("stops in time")
            .unwrap()
            .unwrap();
        self.folder
    }

    pub(crate) async fn restart(self) -> Self {
        let folder = self.stop().await;
        Self::start_in(folder).await
    }

    /// What another server on the same folder says.
    pub(crate) async fn rival(&self) -> String {
        let options = options(&self.folder);
        let listeners = Listeners::bind(&options, Room::whole(options.max_streams))
            .await
            .unwrap();
        let run = serve::run(options, listeners, std::future::pending());
        let error = timeout(DEADLINE, run)
            .await
            .expect("gives up at once")
            .unwrap_err();
        format!("{error:#}")
    }

    pub(crate) async fn http(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.http_with(method, path, body, &[]).await
    }

    pub(crate) async fn http_with(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.http));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = request.body(body).unwrap();
        let call = tokio::task::spawn_blocking(move || {
            let config = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .allow_non_standard_methods(true)
                .timeout_global(Some(DEADLINE))
                .build();
            let mut response = ureq::Agent::new_with_config(config).run(request).unwrap();
            let media = response.headers().get("content-type");
            let media = media.map_or("", |media| media.to_str().unwrap()).to_owned();
            let status = response.status().as_u16();
            let body = response.body_mut().read_to_string().unwrap();
            Answer {
                status,
                media,
                body,
            }
        });
        call.await.unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: Value) {
        let answer = self.http("PUT", path, &body).await;
        assert!(matches!(answer.status, 200 | 201), "{path}: {answer:?}");
    }

    /// The value of a metric by its name and labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.http("GET", "/metrics", &Value::Null).await.body;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    pub(crate) async fn eventually(&self, metric: &str, value: f64) {
        let begun = Instant::now();
        while self.metric(metric).await != Some(value) {
            assert!(begun.elapsed() < DEADLINE, "{metric} becomes {value}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
