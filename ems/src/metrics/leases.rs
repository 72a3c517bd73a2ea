//! How many leases are out, and who asks for them.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::lease::server::Lessor;

/// Reads a lessor at every scrape.
#[derive(Debug)]
pub struct LeaseCollector(pub Lessor);

impl Collector for LeaseCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (budgets, leases) = self.0.count();
        for (name, help, count) in [
            (
                "limit_lease_streams",
                "Envoys that report what came for leased limits",
                self.0.streams(),
            ),
            (
                "limit_lease_budgets",
                "Budgets of which Envoys hold shares",
                budgets,
            ),
            ("limit_leases", "Shares of budgets that Envoys hold", leases),
        ] {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(encoder)?;
        }
        Ok(())
    }
}
