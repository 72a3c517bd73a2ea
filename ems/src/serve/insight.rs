//! Answers of a running server about its Envoys and its decisions.

use std::sync::Arc;

use isthmus_model::{RegionName, ServiceName};
use isthmus_proto::v1;

use crate::{
    api::Insight, explain::explain, record::Invalid, resources::Resources, xds::server::Server,
};

/// Looks at what this process has.
pub(super) struct Lookout {
    pub(super) envoys: Arc<Server>,
    pub(super) resources: Resources,
}

impl Insight for Lookout {
    fn nodes(&self) -> Vec<v1::Node> {
        self.envoys.nodes().list()
    }

    fn stopping(&self) -> bool {
        self.envoys.is_draining()
    }

    fn rejections(&self) -> Vec<v1::Rejection> {
        self.resources.rejections()
    }

    fn rejections_of_service(&self, name: &ServiceName) -> Vec<v1::Rejection> {
        self.resources.rejections_of_service(name)
    }

    fn rejections_of_region(&self, name: &RegionName) -> Vec<v1::Rejection> {
        self.resources.rejections_of_region(name)
    }

    fn explain(&self, question: &v1::ExplainRequest) -> Result<v1::Explanation, Invalid> {
        explain(question, &self.resources)
    }
}
