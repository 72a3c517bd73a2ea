//! What resources are made of: the registry as it is now.

use std::sync::Arc;

use isthmus_model::{RegionName, ServiceName};

use crate::{
    registrar::Shared,
    registry::{EndpointEntry, RegionEntry, ServiceEntry},
    resources::Facts,
};

impl Facts for Shared {
    fn service(&self, name: &ServiceName) -> Option<Arc<ServiceEntry>> {
        self.read().service(name).cloned()
    }

    fn services(&self) -> Vec<Arc<ServiceEntry>> {
        self.read().services().cloned().collect()
    }

    fn endpoints(&self, service: &ServiceName) -> Vec<Arc<EndpointEntry>> {
        self.read().endpoints(service).cloned().collect()
    }

    fn region(&self, name: &RegionName) -> Option<Arc<RegionEntry>> {
        self.read().region(name).cloned()
    }

    fn regions(&self) -> Vec<Arc<RegionEntry>> {
        self.read().regions().cloned().collect()
    }
}
