//! What EMS counts, for Prometheus: names start with `ems_`, units are base units, counters end in `_total`.
//!
//! Numbers that somebody else keeps anyway (records, leases, streams, acknowledgements) are read when they are asked
//! for, by collectors, and kept nowhere twice.

mod leases;
mod limits;
mod registry;
mod rejected;
mod xds;

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};

pub use leases::LeaseCollector;
pub use limits::LimitCollector;
pub use registry::RegistryCollector;
pub use rejected::RejectedCollector;
pub use xds::XdsCollector;

/// The content type of what [`Metrics::encode`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of this process.
pub struct Metrics {
    all: Mutex<Registry>,
    requests: Family<Request, Counter>,
    commits: Histogram,
    changes: Counter,
}

/// Labels of a request to the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    /// The route, not the path: a label must not grow with the number of names.
    route: &'static str,
    status: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Registry::with_prefix("ems");
        let requests = Family::<Request, Counter>::default();
        all.register(
            "http_requests",
            "Requests to the HTTP API",
            requests.clone(),
        );
        // From half a millisecond, the best an SSD does, to about four seconds.
        let commits = Histogram::new((0..14).map(|n| 0.0005 * f64::from(1 << n)));
        all.register(
            "store_commit_seconds",
            "Time until a write was durable or refused",
            commits.clone(),
        );
        let changes = Counter::default();
        all.register(
            "changes",
            "Records and endpoint sets that changed",
            changes.clone(),
        );
        Self {
            all: Mutex::new(all),
            requests,
            commits,
            changes,
        }
    }
}

impl Metrics {
    /// Adds a collector, which is asked at every scrape.
    pub fn collect(&self, collector: impl Collector) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.register_collector(Box::new(collector));
    }

    /// Everything, in the text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // A string takes whatever is written to it.
        let _ = encode(&mut text, &all);
        text
    }

    /// A request to the HTTP API was answered.
    pub(crate) fn requested(&self, method: &'static str, route: &'static str, status: u16) {
        let request = Request {
            method,
            route,
            status,
        };
        self.requests.get_or_create(&request).inc();
    }

    /// The store answered a commit.
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// Changes were applied.
    pub(crate) fn changed(&self, count: usize) {
        self.changes.inc_by(count as u64);
    }
}

/// A count as it is now.
fn gauge(count: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
