//! Numbers of the registry: records, leases, what is held and what is set aside.

use std::{fmt, time::Instant};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::gauge;
use crate::registrar::Shared;

/// Reads a registry at every scrape.
#[derive(Debug)]
pub struct RegistryCollector(pub Shared);

impl Collector for RegistryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let registry = self.0.read();
        let services = registry.services().count();
        let endpoints = registry.all_endpoints().count();
        let draining = registry.all_endpoints();
        let draining = draining.filter(|e| e.checked.draining).count();
        let regions = registry.regions().count();
        let due = registry.leases().due(Instant::now());
        let held: usize = due.held.values().map(Vec::len).sum();

        let mut records = encoder.encode_descriptor(
            "records",
            "Registered records by kind",
            None,
            MetricType::Gauge,
        )?;
        for (kind, count) in [
            ("service", services),
            ("endpoint", endpoints),
            ("region", regions),
        ] {
            let labels = [("kind", kind)];
            let encoder = records.encode_family(&labels)?;
            gauge(count).encode(encoder)?;
        }
        for (name, help, count) in [
            (
                "endpoints_draining",
                "Endpoints that take no new requests",
                draining,
            ),
            ("leases", "Leases of endpoints", registry.leases().count()),
            (
                "leases_held",
                "Leases that ran out and are held, because most of their service's did at once",
                held,
            ),
            (
                "quarantined_records",
                "Stored records that cannot be read",
                registry.quarantined().len(),
            ),
        ] {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge(count).encode(encoder)?;
        }
        let revision = encoder.encode_descriptor(
            "store_revision",
            "Last revision of the store that was applied",
            None,
            MetricType::Gauge,
        )?;
        let applied = registry.revision().unwrap_or(0);
        ConstGauge::new(i64::try_from(applied).unwrap_or(i64::MAX)).encode(revision)
    }
}
