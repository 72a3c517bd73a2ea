//! The policy of services as a real Envoy holds it: records are put, Envoy's config dump is asked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "policy/region.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod region;

use isthmus_tests::eventually;
use region::Region;
use serde_json::{Value, json};

/// A service's record, and what Envoy's cluster says at a JSON pointer. `null`: nothing.
struct Case {
    name: &'static str,
    record: Value,
    expect: Vec<(&'static str, Value)>,
}

const HTTP: &str =
    "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn cases() -> Vec<Case> {
    let case = |name, record, expect| Case {
        name,
        record,
        expect,
    };
    vec![
        case(
            "defaults",
            json!({}),
            vec![
                ("/type", json!("EDS")),
                ("/connect_timeout", json!("1s")),
                ("/lb_policy", json!("LEAST_REQUEST")),
                ("/circuit_breakers", Value::Null),
                ("/health_checks", Value::Null),
                ("/ignore_health_on_host_removal", json!(true)),
                ("/common_lb_config/healthy_panic_threshold", json!({})),
                ("/common_lb_config/update_merge_window", json!("0.100s")),
                (
                    "/common_lb_config/zone_aware_lb_config/min_cluster_size",
                    json!("6"),
                ),
                ("/outlier_detection/consecutive_5xx", json!(5)),
                ("/outlier_detection/enforcing_success_rate", json!(0)),
                (
                    "HTTP/use_downstream_protocol_config/http_protocol_options",
                    json!({}),
                ),
                (
                    "HTTP/use_downstream_protocol_config/http2_protocol_options/connection_keepalive/timeout",
                    json!("10s"),
                ),
                (
                    "HTTP/retry_policy/retry_on",
                    json!("connect-failure,refused-stream,reset-before-request"),
                ),
                ("HTTP/retry_policy/num_retries", json!(2)),
                (
                    "HTTP/retry_policy/retry_host_predicate/0/name",
                    json!("envoy.retry_host_predicates.previous_hosts"),
                ),
                (
                    "HTTP/common_http_protocol_options/max_stream_duration",
                    Value::Null,
                ),
                ("HTTP/hash_policy", Value::Null),
            ],
        ),
        case(
            "http1",
            json!({"protocol": "http1"}),
            vec![("HTTP/explicit_http_config/http_protocol_options", json!({}))],
        ),
        case(
            "http2",
            json!({"protocol": "http2"}),
            vec![(
                "HTTP/explicit_http_config/http2_protocol_options/connection_keepalive/connection_idle_interval",
                json!("30s"),
            )],
        ),
        case(
            "grpc",
            json!({"protocol": "grpc", "healthCheck": {"grpc": {"service": "bank"}}}),
            vec![
                (
                    "HTTP/explicit_http_config/http2_protocol_options/connection_keepalive/connection_idle_interval",
                    json!("30s"),
                ),
                (
                    "/health_checks/0/grpc_health_check/service_name",
                    json!("bank"),
                ),
            ],
        ),
        case(
            "timeouts",
            json!({"connectTimeout": "0.250s", "maxStreamDuration": "90s"}),
            vec![
                ("/connect_timeout", json!("0.250s")),
                (
                    "HTTP/common_http_protocol_options/max_stream_duration",
                    json!("90s"),
                ),
            ],
        ),
        case(
            "retries",
            json!({"retries": {"attempts": 4, "on": ["5xx"], "perTryTimeout": "2s"}}),
            vec![
                ("HTTP/retry_policy/retry_on", json!("5xx")),
                ("HTTP/retry_policy/num_retries", json!(4)),
                ("HTTP/retry_policy/per_try_timeout", json!("2s")),
            ],
        ),
        case(
            "no-retries",
            json!({"retries": {"attempts": 0}}),
            vec![("HTTP/retry_policy", Value::Null)],
        ),
        case(
            "ring",
            json!({
                "loadBalancing": "ring_hash",
                "hashPolicy": [{"header": "x-user"}, {"cookie": "session"}, {"sourceIp": true}],
            }),
            vec![
                ("/lb_policy", json!("RING_HASH")),
                ("/common_lb_config/zone_aware_lb_config", Value::Null),
                ("HTTP/hash_policy/0/header/header_name", json!("x-user")),
                ("HTTP/hash_policy/0/terminal", json!(true)),
                ("HTTP/hash_policy/1/cookie/name", json!("session")),
                (
                    "HTTP/hash_policy/2/connection_properties/source_ip",
                    json!(true),
                ),
            ],
        ),
        case(
            "maglev",
            json!({"loadBalancing": "maglev", "hashPolicy": [{"header": "x-user"}]}),
            vec![("/lb_policy", json!("MAGLEV"))],
        ),
        case(
            "round-robin",
            json!({"loadBalancing": "round_robin"}),
            // Envoy's default, which a dump leaves out.
            vec![("/lb_policy", Value::Null)],
        ),
        case(
            "random",
            json!({"loadBalancing": "random"}),
            vec![("/lb_policy", json!("RANDOM"))],
        ),
        case(
            "breakers",
            json!({"circuitBreakers": {
                "maxConnections": 1, "maxPendingRequests": 2, "maxRequests": 3, "maxRetries": 4,
            }}),
            vec![(
                "/circuit_breakers/thresholds/0",
                json!({"max_connections": 1, "max_pending_requests": 2, "max_requests": 3, "max_retries": 4}),
            )],
        ),
        case(
            "outliers",
            json!({"outlierDetection": {
                "consecutiveErrors": 7, "interval": "3s", "baseEjectionTime": "60s", "maxEjectionPercent": 20,
            }}),
            vec![
                ("/outlier_detection/consecutive_5xx", json!(7)),
                (
                    "/outlier_detection/consecutive_local_origin_failure",
                    json!(7),
                ),
                ("/outlier_detection/interval", json!("3s")),
                ("/outlier_detection/base_ejection_time", json!("60s")),
                ("/outlier_detection/max_ejection_percent", json!(20)),
                (
                    "/outlier_detection/split_external_local_origin_errors",
                    json!(true),
                ),
            ],
        ),
        case(
            "no-outliers",
            json!({"outlierDetection": {"disabled": true}}),
            vec![("/outlier_detection", Value::Null)],
        ),
        case(
            "checked-http",
            json!({"healthCheck": {
                "interval": "2s", "timeout": "0.500s", "unhealthyThreshold": 5, "healthyThreshold": 1,
                "http": {"path": "/up", "host": "here"},
            }}),
            vec![
                ("/health_checks/0/interval", json!("2s")),
                ("/health_checks/0/no_traffic_interval", json!("2s")),
                ("/health_checks/0/timeout", json!("0.500s")),
                ("/health_checks/0/unhealthy_threshold", json!(5)),
                ("/health_checks/0/healthy_threshold", json!(1)),
                ("/health_checks/0/http_health_check/path", json!("/up")),
                ("/health_checks/0/http_health_check/host", json!("here")),
            ],
        ),
        case(
            "checked-tcp",
            json!({"healthCheck": {"tcp": {}}}),
            vec![("/health_checks/0/tcp_health_check", json!({}))],
        ),
        case(
            "zones",
            json!({"zoneAwareness": {"minClusterSize": 2}}),
            vec![(
                "/common_lb_config/zone_aware_lb_config/min_cluster_size",
                json!("2"),
            )],
        ),
        case(
            "no-zones",
            json!({"zoneAwareness": {"disabled": true}}),
            vec![(
                "/common_lb_config/zone_aware_lb_config/routing_enabled",
                json!({}),
            )],
        ),
    ]
}

#[test]
fn envoy_holds_what_the_record_says() {
    let (us, eu) = (Region::start("us"), Region::start("eu"));
    us.region(&eu, 1, 10);
    let cases = cases();
    let mut uses = ["defaults.eu", "defaults.any", "no-retries.any"]
        .map(str::to_owned)
        .to_vec();
    for case in &cases {
        us.service(case.name, case.record.clone());
        uses.push(case.name.to_owned());
    }
    for name in ["defaults", "no-retries"] {
        us.endpoint(name, "a", 1, json!({}));
    }
    let envoy = us.envoy("host", &["--service", "orders", "--uses", &uses.join(",")]);
    for case in &cases {
        check(&envoy, &format!("{}.us", case.name), &case.expect);
    }
    check(
        &envoy,
        "defaults.eu",
        &[
            ("/type", json!("EDS")),
            ("/outlier_detection/enforcing_consecutive_5xx", json!(0)),
            (
                "/outlier_detection/enforcing_consecutive_local_origin_failure",
                json!(100),
            ),
            (
                "/transport_socket/typed_config/sni",
                json!("us.mesh.internal"),
            ),
            (
                "/transport_socket/typed_config/common_tls_context/combined_validation_context\
                 /default_validation_context/match_typed_subject_alt_names/0/matcher/exact",
                json!("spiffe://mesh.internal/region/eu/gateway"),
            ),
            (
                "/transport_socket/typed_config/common_tls_context/combined_validation_context\
                 /validation_context_sds_secret_config/name",
                json!("trust.eu"),
            ),
            (
                "/upstream_connection_options/tcp_keepalive/keepalive_time",
                json!(30),
            ),
        ],
    );
    check(
        &envoy,
        "defaults.any",
        &[
            ("/transport_socket_matches/0/match/region", json!("eu")),
            ("HTTP/retry_policy/num_retries", json!(2)),
            (
                "HTTP/retry_policy/retry_on",
                json!("connect-failure,refused-stream,reset-before-request,retriable-headers"),
            ),
            (
                "HTTP/retry_policy/retry_priority/typed_config/update_frequency",
                json!(2),
            ),
            (
                "HTTP/retry_policy/retriable_headers/0/name",
                json!("x-mesh-error"),
            ),
            ("/outlier_detection/enforcing_consecutive_5xx", json!(100)),
        ],
    );
    check(
        &envoy,
        "no-retries.any",
        &[
            ("HTTP/retry_policy/num_retries", json!(2)),
            (
                "HTTP/retry_policy/retry_on",
                json!("connect-failure,retriable-headers"),
            ),
        ],
    );
    assert_eq!(us.rejections(), Vec::<String>::new());
}

/// Compares what a cluster of an Envoy says. `HTTP` stands for where its protocol options are.
fn check(envoy: &isthmus_tests::Envoy, name: &str, expect: &[(&str, Value)]) {
    let cluster = eventually(&format!("cluster {name}"), || envoy.cluster(name)).unwrap();
    let options = HTTP
        .trim_start_matches('/')
        .split('/')
        .fold(&cluster, |at, key| &at[key]);
    for (pointer, expected) in expect {
        let found = match pointer.strip_prefix("HTTP") {
            Some(pointer) => options.pointer(pointer),
            None => cluster.pointer(pointer),
        };
        assert_eq!(
            found.unwrap_or(&Value::Null),
            expected,
            "{pointer} of {name}: {cluster:#}"
        );
    }
}
