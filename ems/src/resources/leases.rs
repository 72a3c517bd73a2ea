//! How Envoy holds leases: its own quota filter, which asks [`crate::lease`] for them.
//!
//! It is marked as work in progress, and says so in Envoy's log whenever it is loaded. So it is discovered like ours, and as
//! long as no service has leased limits, what is discovered in its place does nothing: listeners need not change for it.
//!
//! Our filter names the budget of a request in one of two headers, because what becomes of a request without a lease is said
//! of the bucket. Without them a request costs it no more than a look.

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::{
            accesslog::v3::{AccessLogFilter, MetadataFilter, access_log_filter::FilterSpecifier},
            core::v3::{
                ConfigSource, ExtensionConfigSource, GrpcService, HeaderValue,
                TypedExtensionConfig, grpc_service,
            },
        },
        extensions::filters::{
            http::{
                header_mutation::v3::HeaderMutation,
                rate_limit_quota::v3::{
                    RateLimitQuotaBucketSettings as Settings, RateLimitQuotaFilterConfig,
                    rate_limit_quota_bucket_settings::{
                        BucketIdBuilder, ExpiredAssignmentBehavior, NoAssignmentBehavior,
                        bucket_id_builder::{ValueBuilder, value_builder::ValueSpecifier},
                        expired_assignment_behavior::ExpiredAssignmentBehavior as Expired,
                        no_assignment_behavior::NoAssignmentBehavior as Unassigned,
                    },
                },
            },
            network::http_connection_manager::v3::{HttpFilter, http_filter},
        },
        r#type::{
            matcher::v3::{
                HttpRequestHeaderMatchInput, MetadataMatcher, ValueMatcher,
                metadata_matcher::{PathSegment, path_segment},
                value_matcher,
            },
            v3::{
                RateLimitStrategy,
                rate_limit_strategy::{BlanketRule, Strategy},
            },
        },
    },
    xds::{
        core::v3::TypedExtensionConfig as XdsExtension,
        r#type::matcher::v3::{
            Matcher, StringMatcher,
            matcher::{
                MatcherList, MatcherType, OnMatch,
                matcher_list::{
                    FieldMatcher, Predicate,
                    predicate::{
                        MatchType, SinglePredicate, single_predicate::Matcher as ValueMatch,
                    },
                },
                on_match,
            },
            string_matcher,
        },
    },
};
use isthmus_model::limit::{OnError, lease};
use prost::Name;
use xxhash_rust::xxh3::xxh3_64;

use super::encode::{EMS, ads, any, bool_value, duration};
use crate::lease::{
    self as leases,
    server::{DOMAIN, KEY, NODE},
};

/// Its name as a filter and as an ECDS resource.
pub(super) const LEASES: &str = "isthmus.leases";

/// Where Envoy's filter notes the bucket that a request was charged to.
const NOTE: &str = "envoy.extensions.http_filters.rate_limit_quota.bucket";

/// How long a bucket whose lease has lapsed does without: until there is a new one.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a listener waits for it. It comes after our filter, which a busy machine may take seconds to compile.
const PATIENCE: Duration = Duration::from_secs(60);

/// The filter's place in a listener.
pub(super) fn place() -> HttpFilter {
    HttpFilter {
        name: LEASES.to_owned(),
        config_type: Some(http_filter::ConfigType::ConfigDiscovery(
            ExtensionConfigSource {
                config_source: ads().map(|source| ConfigSource {
                    initial_fetch_timeout: duration(PATIENCE),
                    ..source
                }),
                type_urls: vec![
                    RateLimitQuotaFilterConfig::type_url(),
                    HeaderMutation::type_url(),
                ],
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

/// The ECDS resource of the node with this id: the filter, or nothing to do if no limit is leased.
pub(super) fn extension(node: &str, leased: bool) -> TypedExtensionConfig {
    let config = if leased {
        any(&filter(node))
    } else {
        any(&HeaderMutation::default())
    };
    TypedExtensionConfig {
        name: LEASES.to_owned(),
        typed_config: Some(config),
    }
}

/// What is none of the next hop's business.
pub(super) fn headers() -> [String; 2] {
    OnError::ALL.map(|on_error| lease::header(on_error).to_owned())
}

/// Whether a request was charged to a lease.
pub(super) fn charged() -> AccessLogFilter {
    let matcher = MetadataMatcher {
        filter: NOTE.to_owned(),
        path: vec![PathSegment {
            segment: Some(path_segment::Segment::Key(KEY.to_owned())),
        }],
        value: Some(ValueMatcher {
            match_pattern: Some(value_matcher::MatchPattern::PresentMatch(true)),
        }),
        ..Default::default()
    };
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::MetadataFilter(MetadataFilter {
            matcher: Some(matcher),
            match_if_key_not_found: bool_value(false),
        })),
    }
}

fn filter(node: &str) -> RateLimitQuotaFilterConfig {
    RateLimitQuotaFilterConfig {
        domain: DOMAIN.to_owned(),
        rlqs_server: Some(GrpcService {
            target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(
                grpc_service::EnvoyGrpc {
                    cluster_name: EMS.to_owned(),
                    ..Default::default()
                },
            )),
            initial_metadata: vec![HeaderValue {
                key: NODE.to_owned(),
                // An id may be any text, and a header may not.
                value: format!("{:016x}", xxh3_64(node.as_bytes())),
                ..Default::default()
            }],
            ..Default::default()
        }),
        bucket_matchers: Some(Matcher {
            matcher_type: Some(MatcherType::MatcherList(MatcherList {
                matchers: OnError::ALL.map(bucket).to_vec(),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Where requests go that have the header: a bucket for each value.
fn bucket(on_error: OnError) -> FieldMatcher {
    let header = HttpRequestHeaderMatchInput {
        header_name: lease::header(on_error).to_owned(),
    };
    let input = |name| XdsExtension {
        name,
        typed_config: Some(any(&header)),
    };
    let rule = match on_error {
        OnError::Allow => BlanketRule::AllowAll,
        OnError::Deny => BlanketRule::DenyAll,
    };
    let fallback = RateLimitStrategy {
        strategy: Some(Strategy::BlanketRule(rule.into())),
    };
    let value = ValueBuilder {
        value_specifier: Some(ValueSpecifier::CustomValue(TypedExtensionConfig {
            name: KEY.to_owned(),
            typed_config: Some(any(&header)),
        })),
    };
    let settings = Settings {
        bucket_id_builder: Some(BucketIdBuilder {
            bucket_id_builder: [(KEY.to_owned(), value)].into(),
        }),
        // Envoy needs it, and reports as it likes.
        reporting_interval: duration(leases::REPORT),
        no_assignment_behavior: Some(NoAssignmentBehavior {
            no_assignment_behavior: Some(Unassigned::FallbackRateLimit(fallback)),
        }),
        expired_assignment_behavior: Some(ExpiredAssignmentBehavior {
            expired_assignment_behavior_timeout: duration(FOR_EVER),
            expired_assignment_behavior: Some(Expired::FallbackRateLimit(fallback)),
        }),
        ..Default::default()
    };
    FieldMatcher {
        predicate: Some(Predicate {
            match_type: Some(MatchType::SinglePredicate(SinglePredicate {
                input: Some(input(KEY.to_owned())),
                matcher: Some(ValueMatch::ValueMatch(StringMatcher {
                    match_pattern: Some(string_matcher::MatchPattern::Prefix(
                        lease::BEGIN.to_owned(),
                    )),
                    ..Default::default()
                })),
            })),
        }),
        on_match: Some(OnMatch {
            on_match: Some(on_match::OnMatch::Action(XdsExtension {
                name: on_error.as_str().to_owned(),
                typed_config: Some(any(&settings)),
            })),
            ..Default::default()
        }),
    }
}

#[cfg(test)]
mod tests;
