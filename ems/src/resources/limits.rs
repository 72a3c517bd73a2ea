//! How Envoy asks EMS about limits of the region: its own rate limit filter, of which there are two, because what becomes of
//! a request when nobody answers is said of the filter, and our limits each have a say in that.
//!
//! Our filter puts the question into the header of one of them. Without its header such a filter has nothing to ask, and a
//! request costs it no more than a look. They come after the clusters were found: for a destination without a cluster they
//! ask nothing.

use std::time::Duration;

use envoy_types::pb::envoy::{
    config::{
        core::v3::{ApiVersion, GrpcService, grpc_service},
        ratelimit::v3::RateLimitServiceConfig,
        route::v3::{
            RateLimit as Descriptors,
            rate_limit::{Action, action},
        },
    },
    extensions::filters::http::ratelimit::v3::RateLimit,
    r#type::v3::{HttpStatus, StatusCode},
};
use isthmus_model::limit::{OnError, question};

use super::encode::{EMS, any, duration, u32_value};
use crate::ratelimit::{DESCRIPTOR, DOMAIN};

/// How long EMS may take. It answers within a millisecond; a Redis that hangs it gives up sooner than this.
const TIMEOUT: Duration = Duration::from_millis(500);

/// What a request is told that is refused because nobody answers. So is one that is over a limit: both may come again.
const STATUS: StatusCode = StatusCode::TooManyRequests;

/// Tells the two apart.
fn stage(on_error: OnError) -> u32 {
    match on_error {
        OnError::Allow => 0,
        OnError::Deny => 1,
    }
}

/// Both filters.
pub(super) fn filters() -> [(String, envoy_types::pb::google::protobuf::Any); 2] {
    OnError::ALL.map(|on_error| {
        let filter = RateLimit {
            domain: DOMAIN.to_owned(),
            stage: stage(on_error),
            timeout: duration(TIMEOUT),
            failure_mode_deny: on_error == OnError::Deny,
            status_on_error: Some(HttpStatus {
                code: STATUS.into(),
            }),
            rate_limited_as_resource_exhausted: true,
            disable_x_envoy_ratelimited_header: true,
            rate_limit_service: Some(RateLimitServiceConfig {
                grpc_service: Some(GrpcService {
                    timeout: duration(TIMEOUT),
                    target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(
                        grpc_service::EnvoyGrpc {
                            cluster_name: EMS.to_owned(),
                            ..Default::default()
                        },
                    )),
                    ..Default::default()
                }),
                transport_api_version: ApiVersion::V3.into(),
            }),
            stat_prefix: on_error.as_str().to_owned(),
            ..Default::default()
        };
        (
            format!("isthmus.limits.{}", on_error.as_str()),
            any(&filter),
        )
    })
}

/// What they ask: the question in the header, if it is there.
pub(super) fn descriptors() -> Vec<Descriptors> {
    let header = |on_error| Descriptors {
        stage: u32_value(stage(on_error)),
        actions: vec![Action {
            action_specifier: Some(action::ActionSpecifier::RequestHeaders(
                action::RequestHeaders {
                    header_name: question::header(on_error).to_owned(),
                    descriptor_key: DESCRIPTOR.to_owned(),
                    ..Default::default()
                },
            )),
        }],
        ..Default::default()
    };
    OnError::ALL.map(header).to_vec()
}

/// What is none of the next hop's business.
pub(super) fn headers() -> [String; 2] {
    OnError::ALL.map(|on_error| question::header(on_error).to_owned())
}
