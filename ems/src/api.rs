//! The registry's API: what can be asked, once for both of its forms.
//!
//! [`http`] and [`grpc`] are thin: they turn a request into a message, call the method here, and turn the answer or
//! the [`Failure`] into what their protocol has for it. Nothing here knows of either.

pub mod grpc;
pub mod http;
pub mod openapi;
mod problem;
mod route;

use std::sync::Arc;

use async_trait::async_trait;
use isthmus_model::{RegionName, ServiceName};
use isthmus_proto::v1;

use crate::{
    metrics::Metrics,
    record::{EndpointId, Invalid},
    registrar::{Registrar, WriteError, now},
    registry::{Key, Outcome, RegionEntry, Rejection, ServiceEntry},
};

/// Answers for what the registry does not know: connected Envoys, decisions, and what limits have counted.
#[async_trait]
pub trait Insight: Send + Sync + 'static {
    /// Every connected Envoy. Takes its time where there are many.
    fn nodes(&self) -> Vec<v1::Node>;
    /// The connected Envoy of this id, with all of its resources.
    fn node(&self, id: &str) -> Option<v1::Node>;
    /// Envoys are being sent away: the server stops.
    fn stopping(&self) -> bool {
        false
    }
    /// Whether calls to the Redis of limits are held back, because it did not answer; `None`: there is none.
    fn redis_held_back(&self) -> Option<bool> {
        None
    }
    /// What every client rejected that answered.
    fn rejections(&self) -> Vec<v1::Rejection>;
    /// Those that come from the record of a service.
    fn rejections_of_service(&self, name: &ServiceName) -> Vec<v1::Rejection>;
    /// Those that come from the record of a region.
    fn rejections_of_region(&self, name: &RegionName) -> Vec<v1::Rejection>;
    /// What the mesh would do with a request.
    ///
    /// # Errors
    /// Fields at fault.
    async fn explain(&self, request: &v1::ExplainRequest) -> Result<v1::Explanation, Invalid>;
    /// The limits of the region; an empty name stands for all services.
    async fn limits(&self, service: &str) -> Vec<v1::LimitState>;
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It was refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It was not refused, and could not be done.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Rejected(invalid.into())
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Rejected(rejection) => Self::Rejected(rejection),
            WriteError::Contended => {
                Self::Unavailable("others write the same record all the time: try again later")
            }
            WriteError::Store(error) => {
                // Paths and the like are for whoever runs the server, not for its clients.
                tracing::error!(%error, "a write failed");
                Self::Unavailable(
                    "the store does not take writes now: try again later, or see the server's log",
                )
            }
        }
    }
}

/// A write's answer: the record as it is now.
pub type Written<M> = Result<(Outcome, M), Failure>;

/// The API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    registrar: Registrar,
    insight: Arc<dyn Insight>,
    metrics: Arc<Metrics>,
}

impl Api {
    /// The API of a registry.
    #[must_use]
    pub fn new(registrar: Registrar, insight: Arc<dyn Insight>, metrics: Arc<Metrics>) -> Self {
        Self {
            registrar,
            insight,
            metrics,
        }
    }

    /// Whether Envoys are let in.
    fn ready(&self) -> Result<(), Failure> {
        self.registrar.shared().read().loaded()?;
        if self.insight.stopping() {
            return Err(Failure::Unavailable("the server is stopping: try another"));
        }
        Ok(())
    }

    async fn put_service(&self, message: v1::Service) -> Written<v1::Service> {
        let plan = self.registrar.write(|r, _| r.put_service(message.clone()));
        Ok(plan.await?)
    }

    fn get_service(&self, target: &v1::ServiceRef) -> Result<v1::Service, Failure> {
        let name = service(&target.service)?;
        let registry = self.registrar.shared().read();
        registry.loaded()?;
        let found = registry.service(&name).cloned();
        drop(registry);
        match found {
            Some(entry) => Ok(self.present_service(&entry)),
            None => Err(Rejection::missing(&Key::Service(name)).into()),
        }
    }

    fn list_services(&self) -> Result<v1::ServiceList, Failure> {
        let registry = self.registrar.shared().read();
        registry.loaded()?;
        let services: Vec<_> = registry.services().cloned().collect();
        drop(registry);
        let services = services.iter().map(|entry| self.present_service(entry));
        Ok(v1::ServiceList {
            services: services.collect(),
        })
    }

    /// A service as reads show it. Not under the registry's lock: resources look into the registry themselves.
    fn present_service(&self, entry: &ServiceEntry) -> v1::Service {
        v1::Service {
            rejected: self.insight.rejections_of_service(&entry.checked.name),
            ..entry.message.clone()
        }
    }

    /// Likewise.
    fn present_region(&self, shown: v1::Region, name: &RegionName) -> v1::Region {
        v1::Region {
            rejected: self.insight.rejections_of_region(name),
            ..shown
        }
    }

    async fn delete_service(&self, target: &v1::ServiceRef) -> Written<v1::Deleted> {
        let name = service(&target.service)?;
        Ok(self.registrar.write(|r, _| r.delete_service(&name)).await?)
    }

    async fn put_endpoint(&self, message: v1::Endpoint) -> Written<v1::Endpoint> {
        let plan = |r: &crate::registry::Registry, now| r.put_endpoint(message.clone(), now);
        Ok(self.registrar.write(plan).await?)
    }

    fn get_endpoint(&self, target: &v1::EndpointRef) -> Result<v1::Endpoint, Failure> {
        let (service, id) = endpoint(target)?;
        let registry = self.registrar.shared().read();
        registry.loaded()?;
        match registry.endpoint(&service, &id) {
            Some(entry) => Ok(registry.present_endpoint(entry, now())),
            None => Err(Rejection::missing(&Key::Endpoint(service, id)).into()),
        }
    }

    fn list_endpoints(&self, target: &v1::ServiceRef) -> Result<v1::EndpointList, Failure> {
        let name = service(&target.service)?;
        let registry = self.registrar.shared().read();
        registry.loaded()?;
        if registry.service(&name).is_none() {
            return Err(Rejection::missing(&Key::Service(name)).into());
        }
        let now = now();
        let endpoints = registry.endpoints(&name);
        let endpoints = endpoints.map(|entry| registry.present_endpoint(entry, now));
        Ok(v1::EndpointList {
            endpoints: endpoints.collect(),
        })
    }

    async fn delete_endpoint(&self, target: &v1::EndpointRef) -> Written<v1::Deleted> {
        let (service, id) = endpoint(target)?;
        let plan = |r: &crate::registry::Registry, _| r.delete_endpoint(&service, &id);
        Ok(self.registrar.write(plan).await?)
    }

    async fn drain_endpoint(&self, target: &v1::EndpointRef) -> Written<v1::Endpoint> {
        let (service, id) = endpoint(target)?;
        let plan = |r: &crate::registry::Registry, now| r.drain_endpoint(&service, &id, now);
        Ok(self.registrar.write(plan).await?)
    }

    async fn put_region(&self, message: v1::Region) -> Written<v1::Region> {
        let plan = self.registrar.write(|r, _| r.put_region(message.clone()));
        Ok(plan.await?)
    }

    fn get_region(&self, target: &v1::RegionRef) -> Result<v1::Region, Failure> {
        let name = region(&target.region)?;
        let registry = self.registrar.shared().read();
        registry.loaded()?;
        let shown = registry.region(&name).map(|e| registry.present_region(e));
        drop(registry);
        match shown {
            Some(shown) => Ok(self.present_region(shown, &name)),
            None => Err(Rejection::missing(&Key::Region(name)).into()),
        }
    }

    fn list_regions(&self) -> Result<v1::RegionList, Failure> {
        let registry = self.registrar.shared().read();
        registry.loaded()?;
        let shown = |entry: &Arc<RegionEntry>| {
            let name = entry.checked.name.clone();
            (name, registry.present_region(entry))
        };
        let regions: Vec<_> = registry.regions().map(shown).collect();
        drop(registry);
        let regions = regions.into_iter();
        let regions = regions.map(|(name, shown)| self.present_region(shown, &name));
        Ok(v1::RegionList {
            regions: regions.collect(),
        })
    }

    async fn delete_region(&self, target: &v1::RegionRef) -> Written<v1::Deleted> {
        let name = region(&target.region)?;
        Ok(self.registrar.write(|r, _| r.delete_region(&name)).await?)
    }

    /// Lists nodes and gives what `present` makes of the list, both where nobody else waits for it.
    async fn list_nodes<T: Send + 'static>(
        &self,
        request: v1::ListNodesRequest,
        present: impl FnOnce(v1::NodeList) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let insight = self.insight.clone();
        let list = move || {
            present(v1::NodeList {
                nodes: match &*request.node {
                    "" => insight.nodes(),
                    id => insight.node(id).into_iter().collect(),
                },
                rejected: insight.rejections(),
            })
        };
        let listed = tokio::task::spawn_blocking(list).await;
        listed.map_err(|_| {
            Failure::Unavailable("the nodes could not be listed: see the server's log")
        })
    }

    async fn explain(&self, request: &v1::ExplainRequest) -> Result<v1::Explanation, Failure> {
        self.registrar.shared().read().loaded()?;
        Ok(self.insight.explain(request).await?)
    }

    async fn list_limits(&self, request: &v1::LimitsRequest) -> Result<v1::LimitList, Failure> {
        self.registrar.shared().read().loaded()?;
        let mut of = String::new();
        if !request.service.is_empty() {
            let name = service(&request.service)?;
            if self.registrar.shared().read().service(&name).is_none() {
                return Err(Rejection::missing(&Key::Service(name)).into());
            }
            of = name.to_string();
        }
        let limits = self.insight.limits(&of).await;
        Ok(v1::LimitList { limits })
    }
}

fn service(text: &str) -> Result<ServiceName, Invalid> {
    let name = ServiceName::parse(text.as_bytes());
    name.map_err(|error| Invalid::one("service", error.to_string()))
}

fn region(text: &str) -> Result<RegionName, Invalid> {
    let name = RegionName::parse(text.as_bytes());
    name.map_err(|error| Invalid::one("region", error.to_string()))
}

fn endpoint(target: &v1::EndpointRef) -> Result<(ServiceName, EndpointId), Invalid> {
    let id = EndpointId::parse(&target.id).map_err(|error| Invalid::one("id", error))?;
    Ok((service(&target.service)?, id))
}
