//! The mesh that most tests share: two regions, with services that nobody changes.
//!
//! A test that changes something does so to services of its own name. One that stops or cuts what others use starts its
//! own region or mesh.

use std::{ops::Deref, sync::LazyLock, thread, time::Duration};

use anyhow::{Context, Result};
use isthmus_tests::{Envoy, Load, Mesh, Region, eventually, http};
use isthmus_upstream::{ECHO_SERVICE, Upstream};
use serde_json::{Value, json};

/// The shared mesh and its upstreams. In each region one upstream serves both `payments` (HTTP) and [`ECHO_SERVICE`]
/// (gRPC).
pub(crate) struct Stage {
    pub(crate) mesh: Mesh,
    _upstreams: [Upstream; 2],
}

static STAGE: LazyLock<Result<Stage, String>> =
    LazyLock::new(|| Stage::set().map_err(|error| format!("{error:?}")));

/// The shared mesh; its logs are shown when the test fails.
pub(crate) fn shared() -> Shown<&'static Stage> {
    match &*STAGE {
        Ok(stage) => Shown(stage),
        Err(error) => panic!("the shared mesh did not start: {error}"),
    }
}

impl Stage {
    fn set() -> Result<Stage> {
        let mesh = Mesh::start()?;
        let upstreams = [Upstream::start("eu-1")?, Upstream::start("us-1")?];
        for (region, upstream) in [&mesh.eu, &mesh.us].into_iter().zip(&upstreams) {
            region.serve("payments", json!({}), upstream.port())?;
            region.serve(ECHO_SERVICE, json!({"protocol": "grpc"}), upstream.port())?;
        }
        Ok(Stage {
            mesh,
            _upstreams: upstreams,
        })
    }
}

/// Something whose logs are shown when the test that holds it fails.
pub(crate) struct Shown<T: Show>(T);

pub(crate) trait Show {
    fn show(&self);
}

impl Show for &Stage {
    fn show(&self) {
        self.mesh.show();
    }
}

impl<T: Show> Deref for Shown<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Show> Drop for Shown<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.show();
        }
    }
}

/// Starts an upstream and registers it as an endpoint of a service, named as itself.
pub(crate) fn endpoint(region: &Region, service: &str, id: &str) -> Upstream {
    let upstream = Upstream::start(id).unwrap();
    region
        .ems
        .put_endpoint(service, id, upstream.port())
        .unwrap();
    upstream
}

/// Creates a service with one endpoint, and waits until the host Envoy of the region reaches it.
pub(crate) fn service(region: &Region, name: &str, record: Value, id: &str) -> Upstream {
    region.ems.put_service(name, record).unwrap();
    let upstream = endpoint(region, name, id);
    reaches(&region.host, name, &region.name, id);
    upstream
}

/// Waits until a service's answer comes from `id`.
pub(crate) fn reaches(envoy: &Envoy, service: &str, region: &str, id: &str) {
    eventually(
        &format!("{service} in {region} to be answered by {id}"),
        || {
            let reply = envoy.get(service, region)?;
            anyhow::ensure!(reply.json()["upstream"] == id, "{reply:?}");
            Ok(())
        },
    )
    .unwrap();
}

/// Waits until a request is refused with a code.
pub(crate) fn refuses(envoy: &Envoy, service: &str, region: &str, code: &str) {
    eventually(
        &format!("{service} in {region} to be refused with {code}"),
        || {
            let reply = envoy.get(service, region)?;
            anyhow::ensure!(reply.error() == Some(code), "{reply:?}");
            Ok(())
        },
    )
    .unwrap();
}

/// Steady load on a service through an Envoy: about 200 requests a second; each says which upstream answered.
pub(crate) fn load(envoy: &Envoy, service: &str, region: &str) -> Load {
    load_at(envoy, service, region, "/")
}

/// [`load`] with a path.
pub(crate) fn load_at(envoy: &Envoy, service: &str, region: &str, path: &str) -> Load {
    let client = http::agent(Duration::from_secs(10));
    let call = http::Call::on(&client, "GET", format!("http://{}{path}", envoy.address()))
        .service(service)
        .region(region);
    Load::start(2, Duration::from_millis(10), move || {
        let reply = call.send()?.ok()?;
        let who = reply.json()["upstream"].as_str().map(str::to_owned);
        who.with_context(|| format!("no upstream in {reply:?}"))
    })
}

/// Ends a load, which must not have seen a failed request.
pub(crate) fn none_failed(load: Load) {
    let report = load.finish();
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(report.total() > 0, "no request was made");
}

/// [`service`], but reached from another Envoy.
pub(crate) fn service_for(
    region: &Region,
    name: &str,
    record: Value,
    id: &str,
    from: &Envoy,
) -> Upstream {
    region.ems.put_service(name, record).unwrap();
    let upstream = endpoint(region, name, id);
    reaches(from, name, &region.name, id);
    upstream
}
