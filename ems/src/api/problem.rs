//! Errors of the HTTP API as RFC 9457 problem documents.

use axum::{
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::Failure;
use crate::{
    record::{FieldError, Invalid},
    registry::Rejection,
};

/// A problem document. Its `type` is a URN that programs can compare; `detail` is for people and may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// Fields at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Field>,
    /// Version that a write has to exceed. Text, like every 64-bit number in protobuf JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_version: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Field {
    field: String,
    detail: String,
}

impl Problem {
    fn new(
        status: StatusCode,
        r#type: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            r#type,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            stored_version: None,
        }
    }

    pub(super) fn no_such_path(path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "urn:isthmus:no-such-path",
            "No such path",
            format!("there is nothing at {path}: see /openapi.json for what there is"),
        )
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "urn:isthmus:method-not-allowed",
            "Method not allowed",
            "this path has no such method: see /openapi.json for those it has",
        )
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "urn:isthmus:too-large",
            "Request too large",
            format!("the body has more than {limit} bytes"),
        )
    }

    pub(super) fn cross_site() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "urn:isthmus:cross-site",
            "Cross-site request",
            "a page of another site may not write here",
        )
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let detail = failure.to_string();
        match failure {
            Failure::Rejected(Rejection::Invalid(invalid)) => invalid.into(),
            Failure::Rejected(Rejection::Stale { stored, .. }) => Self {
                stored_version: Some(stored.to_string()),
                ..Self::new(
                    StatusCode::CONFLICT,
                    "urn:isthmus:stale-version",
                    "Stale version",
                    detail,
                )
            },
            Failure::Rejected(Rejection::NotFound { .. }) => Self::new(
                StatusCode::NOT_FOUND,
                "urn:isthmus:not-found",
                "Not found",
                detail,
            ),
            Failure::Rejected(Rejection::Home(_)) => Self::new(
                StatusCode::CONFLICT,
                "urn:isthmus:own-region",
                "The server's own region",
                detail,
            ),
            Failure::Rejected(Rejection::Loading) | Failure::Unavailable(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "urn:isthmus:unavailable",
                "Unavailable",
                detail,
            ),
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let fields = invalid.fields().iter().cloned();
        Self {
            errors: fields
                .map(|FieldError { field, detail }| Field { field, detail })
                .collect(),
            ..Self::new(
                StatusCode::BAD_REQUEST,
                "urn:isthmus:invalid",
                "Invalid request",
                invalid.to_string(),
            )
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }
}
