//! Numbers of the xDS server: streams, and what was pushed, acknowledged and rejected by type.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

use super::gauge;
use crate::xds::{ResourceType, counters::Totals, server::Server};

/// Reads an xDS server at every scrape.
pub struct XdsCollector(pub Arc<Server>);

/// Name, help, and what it is of the totals.
type Count = (&'static str, &'static str, fn(&Totals) -> u64);

const COUNTS: [Count; 5] = [
    ("xds_pushes", "Responses sent to Envoys", |t| t.pushes),
    (
        "xds_pushed_resources",
        "Resources sent to Envoys, removals too",
        |t| t.resources,
    ),
    ("xds_pushed_bytes", "Bytes of responses", |t| t.bytes),
    ("xds_acks", "Responses that Envoys took", |t| t.acks),
    ("xds_nacks", "Responses that Envoys rejected", |t| t.nacks),
];

impl Collector for XdsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let streams = encoder.encode_descriptor(
            "xds_streams",
            "Streams of Envoys",
            None,
            MetricType::Gauge,
        )?;
        gauge(self.0.streams()).encode(streams)?;
        for (name, help, of) in COUNTS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for kind in ResourceType::ALL {
                let labels = [("type", kind.as_str())];
                let totals = self.0.counters().totals(kind);
                ConstCounter::new(of(&totals)).encode(family.encode_family(&labels)?)?;
            }
        }
        let refused = encoder.encode_descriptor(
            "xds_refused_streams",
            "Streams that were not let in, or ended for what they asked",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(self.0.counters().refused()).encode(refused)
    }
}

impl fmt::Debug for XdsCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XdsCollector")
    }
}
