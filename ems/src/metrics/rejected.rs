//! What no Envoy can use, as numbers.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::MetricType,
};

use super::gauge;
use crate::{resources::Resources, xds::ResourceType};

/// Looks at the resources at every scrape.
pub struct RejectedCollector(pub Resources);

impl Collector for RejectedCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rejections = self.0.rejections();
        let mut family = encoder.encode_descriptor(
            "rejected_resources",
            "Resources whose present version was rejected by every client that answered",
            None,
            MetricType::Gauge,
        )?;
        for kind in ResourceType::ALL {
            let of_kind = rejections.iter().filter(|r| r.type_url == kind.type_url());
            let labels = [("type", kind.as_str())];
            gauge(of_kind.count()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for RejectedCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RejectedCollector")
    }
}
