//! The policy of a service: defaults and limits of everything that goes into its cluster.

use std::{ops::RangeInclusive, time::Duration};

use isthmus_proto::v1;

use crate::record::{
    CircuitBreakers, HashKey, HealthCheck, LoadBalancing, OutlierDetection, Policy, Probe,
    Protocol, Retries, field::Errors,
};

/// Envoy's `retry_on` conditions, HTTP then gRPC, without those that need a list of their own (of statuses or headers),
/// for which the schema has no field: alone they would do nothing.
pub const RETRY_CONDITIONS: [&str; 14] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// None of these repeats a request that an endpoint may have begun to work on.
const SAFE_CONDITIONS: [&str; 3] = ["connect-failure", "refused-stream", "reset-before-request"];

const HASH_LIMIT: usize = 8;
const NAME_LIMIT: usize = 128;
const PATH_LIMIT: usize = 1024;
const HOST_LIMIT: usize = 255;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// From a millisecond, below which Envoy's timers mean nothing.
fn up_to(limit: Duration) -> RangeInclusive<Duration> {
    Duration::from_millis(1)..=limit
}

/// Times between checks: not so short that the checks themselves become a load.
fn period() -> RangeInclusive<Duration> {
    Duration::from_millis(100)..=HOUR
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            protocol: Protocol::Auto,
            connect_timeout: Duration::from_secs(1),
            retries: Retries::default(),
            hash: Vec::new(),
            circuit_breakers: CircuitBreakers::default(),
            outlier_detection: Some(OutlierDetection::default()),
            health_check: None,
            max_stream_duration: None,
            load_balancing: LoadBalancing::LeastRequest,
            zone_min_cluster_size: Some(6),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: SAFE_CONDITIONS.map(str::to_owned).into(),
            per_try_timeout: None,
        }
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 50,
        }
    }
}

impl Policy {
    pub(super) fn parse(raw: &v1::Service, errors: &mut Errors) -> Self {
        let default = Self::default();
        let protocol = match v1::service::Protocol::try_from(raw.protocol) {
            Ok(v1::service::Protocol::Auto) => Protocol::Auto,
            Ok(v1::service::Protocol::Http1) => Protocol::Http1,
            Ok(v1::service::Protocol::Http2) => Protocol::Http2,
            Ok(v1::service::Protocol::Grpc) => Protocol::Grpc,
            Err(_) => {
                errors.add("protocol", "must be auto, http1, http2 or grpc");
                default.protocol
            }
        };
        let connect_timeout = errors
            .duration(
                "connectTimeout",
                raw.connect_timeout.as_ref(),
                up_to(Duration::from_secs(300)),
            )
            .unwrap_or(default.connect_timeout);
        let retries = raw.retries.as_ref().map_or(default.retries, |raw| {
            errors.within("retries", |errors| retries(raw, errors))
        });
        let hash = hash(&raw.hash_policy, errors);
        let circuit_breakers = raw.circuit_breakers.unwrap_or_default();
        let outlier_detection = raw
            .outlier_detection
            .as_ref()
            .map_or(default.outlier_detection, |raw| {
                errors.within("outlierDetection", |errors| outliers(raw, errors))
            });
        let health_check = raw
            .health_check
            .as_ref()
            .map(|raw| errors.within("healthCheck", |errors| health_check(raw, errors)));
        let asks_grpc = |check: &HealthCheck| matches!(check.probe, Probe::Grpc { .. });
        if protocol == Protocol::Http1 && health_check.as_ref().is_some_and(asks_grpc) {
            errors.add(
                "healthCheck.grpc",
                "needs HTTP/2: set protocol to grpc, http2 or auto, or check with http or tcp",
            );
        }
        let max_stream_duration = errors.duration(
            "maxStreamDuration",
            raw.max_stream_duration.as_ref(),
            up_to(DAY),
        );
        let load_balancing = match v1::service::LoadBalancing::try_from(raw.load_balancing) {
            Ok(v1::service::LoadBalancing::LeastRequest) => LoadBalancing::LeastRequest,
            Ok(v1::service::LoadBalancing::RoundRobin) => LoadBalancing::RoundRobin,
            Ok(v1::service::LoadBalancing::Random) => LoadBalancing::Random,
            Ok(v1::service::LoadBalancing::RingHash) => LoadBalancing::RingHash,
            Ok(v1::service::LoadBalancing::Maglev) => LoadBalancing::Maglev,
            Err(_) => {
                errors.add(
                    "loadBalancing",
                    "must be least_request, round_robin, random, ring_hash or maglev",
                );
                default.load_balancing
            }
        };
        let hashes = matches!(
            load_balancing,
            LoadBalancing::RingHash | LoadBalancing::Maglev
        );
        if !raw.hash_policy.is_empty() && !hashes {
            errors.add(
                "hashPolicy",
                "has no effect with this loadBalancing: set that to ring_hash or maglev",
            );
        }
        let zone_min_cluster_size =
            raw.zone_awareness
                .as_ref()
                .map_or(default.zone_min_cluster_size, |raw| {
                    errors.within("zoneAwareness", |errors| {
                        let size = errors.number(
                            "minClusterSize",
                            raw.min_cluster_size,
                            6,
                            1..=u32::from(u16::MAX),
                        );
                        (!raw.disabled).then_some(size)
                    })
                });
        Self {
            protocol,
            connect_timeout,
            retries,
            hash,
            circuit_breakers: CircuitBreakers {
                max_connections: circuit_breakers.max_connections,
                max_pending_requests: circuit_breakers.max_pending_requests,
                max_requests: circuit_breakers.max_requests,
                max_retries: circuit_breakers.max_retries,
            },
            outlier_detection,
            health_check,
            max_stream_duration,
            load_balancing,
            zone_min_cluster_size,
        }
    }
}

fn retries(raw: &v1::Retries, errors: &mut Errors) -> Retries {
    let default = Retries::default();
    let attempts = errors.number("attempts", raw.attempts, default.attempts, 0..=10);
    errors.at_most("on", raw.on.len(), RETRY_CONDITIONS.len());
    for (at, condition) in raw.on.iter().enumerate() {
        if !RETRY_CONDITIONS.contains(&condition.as_str()) {
            errors.add(
                &format!("on[{at}]"),
                format!("must be one of {}", RETRY_CONDITIONS.join(", ")),
            );
        }
    }
    Retries {
        attempts,
        on: if raw.on.is_empty() {
            default.on
        } else {
            raw.on.clone()
        },
        per_try_timeout: errors.duration(
            "perTryTimeout",
            raw.per_try_timeout.as_ref(),
            up_to(HOUR),
        ),
    }
}

fn hash(raw: &[v1::HashKey], errors: &mut Errors) -> Vec<HashKey> {
    use v1::hash_key::Key;
    errors.at_most("hashPolicy", raw.len(), HASH_LIMIT);
    let keys = raw.iter().enumerate().filter_map(|(at, raw)| {
        errors.within(format!("hashPolicy[{at}]"), |errors| match &raw.key {
            Some(Key::Header(name)) => {
                token("header", name, errors);
                Some(HashKey::Header(name.to_ascii_lowercase()))
            }
            Some(Key::Cookie(name)) => {
                token("cookie", name, errors);
                Some(HashKey::Cookie(name.clone()))
            }
            Some(Key::SourceIp(true)) => Some(HashKey::SourceIp),
            Some(Key::SourceIp(false)) => {
                errors.add("sourceIp", "must be true; leave the entry out otherwise");
                None
            }
            None => {
                errors.add("", "needs one of header, cookie or sourceIp");
                None
            }
        })
    });
    keys.collect()
}

/// A token as RFC 9110 has it: names of headers and cookies.
fn token(field: &str, text: &str, errors: &mut Errors) {
    if text.is_empty() {
        errors.add(field, "is empty");
    }
    errors.text(field, text, NAME_LIMIT, |b| {
        b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
    });
}

fn outliers(raw: &v1::OutlierDetection, errors: &mut Errors) -> Option<OutlierDetection> {
    let default = OutlierDetection::default();
    let consecutive_errors = errors.number(
        "consecutiveErrors",
        raw.consecutive_errors,
        default.consecutive_errors,
        1..=1000,
    );
    let interval = errors.duration("interval", raw.interval.as_ref(), period());
    let base_ejection_time = errors.duration(
        "baseEjectionTime",
        raw.base_ejection_time.as_ref(),
        up_to(HOUR),
    );
    let max_ejection_percent = errors.number(
        "maxEjectionPercent",
        raw.max_ejection_percent,
        default.max_ejection_percent,
        0..=100,
    );
    (!raw.disabled).then(|| OutlierDetection {
        consecutive_errors,
        interval: interval.unwrap_or(default.interval),
        base_ejection_time: base_ejection_time.unwrap_or(default.base_ejection_time),
        max_ejection_percent,
    })
}

fn health_check(raw: &v1::HealthCheck, errors: &mut Errors) -> HealthCheck {
    use v1::health_check::Check;
    let interval = errors.duration("interval", raw.interval.as_ref(), period());
    let timeout = errors.duration("timeout", raw.timeout.as_ref(), up_to(HOUR));
    let unhealthy_threshold =
        errors.number("unhealthyThreshold", raw.unhealthy_threshold, 3, 1..=100);
    let healthy_threshold = errors.number("healthyThreshold", raw.healthy_threshold, 2, 1..=100);
    let probe = match &raw.check {
        Some(Check::Http(http)) => errors.within("http", |errors| {
            let path = match http.path.as_str() {
                "" => "/healthz",
                path => path,
            };
            if !path.starts_with('/') {
                errors.add("path", "must start with /");
            }
            errors.text("path", path, PATH_LIMIT, |b| b.is_ascii_graphic());
            errors.text("host", &http.host, HOST_LIMIT, |b| b.is_ascii_graphic());
            Probe::Http {
                path: path.to_owned(),
                host: http.host.clone(),
            }
        }),
        Some(Check::Grpc(grpc)) => errors.within("grpc", |errors| {
            errors.text("service", &grpc.service, HOST_LIMIT, |b| {
                b.is_ascii_graphic()
            });
            Probe::Grpc {
                service: grpc.service.clone(),
            }
        }),
        Some(Check::Tcp(_)) => Probe::Tcp,
        None => {
            errors.add("", "needs one of http, grpc or tcp");
            Probe::Tcp
        }
    };
    HealthCheck {
        interval: interval.unwrap_or(Duration::from_secs(5)),
        timeout: timeout.unwrap_or(Duration::from_secs(1)),
        unhealthy_threshold,
        healthy_threshold,
        probe,
    }
}
