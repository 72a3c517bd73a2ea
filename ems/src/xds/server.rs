//! xDS over gRPC: the services, who is let in, and what all streams share.

mod drain;
mod load;
mod responses;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, routing};
use http::Response;
use tokio::time::Instant;

use super::{
    Bundles, Changed, ResourceType, Source, counters::Counters, hub::Hub, limits::Limits,
    nodes::Nodes, stream::Mode, wire::Encoder,
};
use crate::grpc;
use responses::Responses;

/// Service, its state-of-the-world method, its delta method, and its type; `None`: all of them.
const SERVICES: [(&str, &str, &str, Option<ResourceType>); 7] = [
    (
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
        "StreamAggregatedResources",
        "DeltaAggregatedResources",
        None,
    ),
    (
        "envoy.service.secret.v3.SecretDiscoveryService",
        "StreamSecrets",
        "DeltaSecrets",
        Some(ResourceType::Secret),
    ),
    (
        "envoy.service.cluster.v3.ClusterDiscoveryService",
        "StreamClusters",
        "DeltaClusters",
        Some(ResourceType::Cluster),
    ),
    (
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        "StreamEndpoints",
        "DeltaEndpoints",
        Some(ResourceType::Endpoints),
    ),
    (
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
        "StreamExtensionConfigs",
        "DeltaExtensionConfigs",
        Some(ResourceType::ExtensionConfig),
    ),
    (
        "envoy.service.listener.v3.ListenerDiscoveryService",
        "StreamListeners",
        "DeltaListeners",
        Some(ResourceType::Listener),
    ),
    (
        "envoy.service.route.v3.RouteDiscoveryService",
        "StreamRoutes",
        "DeltaRoutes",
        Some(ResourceType::Route),
    ),
];

/// The xDS server: all streams, and what they share.
pub struct Server {
    source: Arc<dyn Source>,
    limits: Arc<Limits>,
    hub: Hub,
    nodes: Nodes,
    counters: Counters,
    encoder: Encoder,
    bundles: Arc<Bundles>,
    draining: AtomicBool,
    /// Said in the log that there is no room for another stream; there was none since.
    full: AtomicBool,
    /// What the engine's times count from.
    started: Instant,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server of what the source has.
    pub fn new(source: Arc<dyn Source>, limits: Limits) -> Arc<Self> {
        Self::named("", source, limits)
    }

    /// The same, which tells its clients what it is called, so that they can say whom they have their resources from.
    pub fn named(identifier: &str, source: Arc<dyn Source>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            source,
            limits: Arc::new(limits),
            hub: Hub::default(),
            nodes: Nodes::default(),
            counters: Counters::default(),
            encoder: Encoder::of(identifier),
            bundles: Arc::default(),
            draining: AtomicBool::new(false),
            full: AtomicBool::new(false),
            started: Instant::now(),
        })
    }

    /// The gRPC services, to be merged with others: `tonic::service::Routes::from(router)`.
    pub fn router(self: &Arc<Self>) -> Router {
        let mut router = Router::new();
        for (service, sotw, delta, only) in SERVICES {
            for (method, mode) in [(sotw, Mode::Sotw), (delta, Mode::Delta)] {
                let server = self.clone();
                let open = move |request: http::Request<Body>| {
                    let response = server.open(mode, only, request);
                    async move { response }
                };
                router = router.route(&format!("/{service}/{method}"), routing::post(open));
            }
        }
        router
    }

    /// Tells the streams whom it concerns. Views must show the change already.
    pub fn publish(&self, changed: Changed) {
        self.hub.publish(changed);
    }

    /// The connected nodes.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Streams connected now.
    pub fn streams(&self) -> usize {
        self.hub.streams()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn open(
        self: &Arc<Self>,
        mode: Mode,
        only: Option<ResourceType>,
        request: http::Request<Body>,
    ) -> Response<Body> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(address)| *address);
        let Some((id, inbox)) = self.hub.join(self.limits.streams) else {
            let limit = self.limits.streams;
            self.counters.refuse();
            // Once is enough of what everybody meets who comes while it lasts.
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    limit,
                    peer = peer.map(tracing::field::display),
                    "stream refused: there are as many as are allowed (--max-streams)"
                );
            }
            return tonic::Status::resource_exhausted(format!(
                "this server has {limit} streams already, try another"
            ))
            .into_http();
        };
        self.full.store(false, Ordering::Relaxed);
        // Once it has joined: whoever did so too late to be sent away with the others sees that here.
        if self.draining.load(Ordering::Acquire) {
            self.hub.leave(id, std::iter::empty());
            return tonic::Status::unavailable("this server is shutting down, try another")
                .into_http();
        }
        let body = Responses::new(
            self.clone(),
            (mode, only),
            (id, inbox),
            peer,
            request.into_body(),
        );
        grpc::http::response(Body::new(body))
    }
}

#[cfg(test)]
mod tests;
