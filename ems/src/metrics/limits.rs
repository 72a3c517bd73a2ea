//! What the limits of the region let pass and refused. The labels are those of limits in the registry, so there is a bound.

use std::fmt;

use isthmus_model::Outcome;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::ratelimit::{redis::Call, server::Limiter};

/// Reads a limiter at every scrape.
#[derive(Debug)]
pub struct LimitCollector(pub Limiter);

impl Collector for LimitCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let pages = self.0.book().pages();
        let mut family = encoder.encode_descriptor(
            "limit_requests",
            "What limits of the region had to say about requests",
            None,
            MetricType::Counter,
        )?;
        for page in &pages {
            for entry in page.entries() {
                for outcome in Outcome::ALL {
                    // Without the numbers: a limit that changes them goes on counting.
                    let labels = [
                        ("service", page.service().as_str()),
                        ("limit", entry.limit().token()),
                        ("outcome", outcome.as_str()),
                    ];
                    let count = ConstCounter::new(entry.counted(outcome));
                    count.encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let Some(redis) = self.0.redis() else {
            return Ok(());
        };
        let mut family = encoder.encode_descriptor(
            "redis_calls",
            "What became of calls to the Redis of limits",
            None,
            MetricType::Counter,
        )?;
        for call in Call::ALL {
            let labels = [("outcome", call.as_str())];
            let count = ConstCounter::new(redis.counted(call));
            count.encode(family.encode_family(&labels)?)?;
        }
        let open = encoder.encode_descriptor(
            "redis_breaker_open",
            "Whether calls to the Redis of limits are held back",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(i64::from(redis.is_open())).encode(open)
    }
}
