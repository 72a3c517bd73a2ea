//! Why a request is turned away, in the words that callers see: one stable code each, with its HTTP and gRPC status.
//!
//! Some codes are said by Envoy and not by the filter ([`Code::UnknownService`], [`Code::NoHealthyEndpoint`],
//! [`Code::EndpointFailed`], [`Code::Unresolved`]): they are here because what writes Envoy's `local_reply_config` takes codes and statuses from
//! this table too.

use std::{borrow::Cow, fmt};

/// The stable name of a refusal, sent as `x-mesh-error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The request names no service.
    MissingService,
    /// The service name is malformed or given twice.
    BadService,
    /// The region name is malformed or given twice.
    BadRegion,
    /// The version label is malformed, given twice, or the service allows no pins.
    BadVersion,
    /// The region is not in the config.
    UnknownRegion,
    /// No such service there (said by Envoy when it finds no cluster).
    UnknownService,
    /// The service is known, but nobody can take the request (said by Envoy).
    NoHealthyEndpoint,
    /// An endpoint had the request and gave no answer that is one (said by Envoy).
    EndpointFailed,
    /// The control plane does not say where the service is: out of reach, or asked for too many names (said by Envoy).
    Unresolved,
    /// The service's access rule does not allow the caller.
    Denied,
    /// Over a rate limit.
    RateLimited,
    /// The request passed a gateway already, or would leave a region through its entrance.
    Loop,
    /// The filter itself failed; a bug.
    Internal,
}

impl Code {
    /// Every code, in the order of the table in the docs.
    pub const ALL: [Self; 13] = [
        Self::MissingService,
        Self::BadService,
        Self::BadRegion,
        Self::BadVersion,
        Self::UnknownRegion,
        Self::UnknownService,
        Self::NoHealthyEndpoint,
        Self::EndpointFailed,
        Self::Unresolved,
        Self::Denied,
        Self::RateLimited,
        Self::Loop,
        Self::Internal,
    ];

    /// The code as callers see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingService => "missing_service",
            Self::BadService => "bad_service",
            Self::BadRegion => "bad_region",
            Self::BadVersion => "bad_version",
            Self::UnknownRegion => "unknown_region",
            Self::UnknownService => "unknown_service",
            Self::NoHealthyEndpoint => "no_healthy_endpoint",
            Self::EndpointFailed => "endpoint_failed",
            Self::Unresolved => "unresolved",
            Self::Denied => "denied",
            Self::RateLimited => "rate_limited",
            Self::Loop => "loop",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::MissingService | Self::BadService | Self::BadRegion | Self::BadVersion => 400,
            Self::Denied => 403,
            Self::UnknownRegion | Self::UnknownService => 404,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::EndpointFailed => 502,
            Self::NoHealthyEndpoint | Self::Unresolved => 503,
            Self::Loop => 508,
        }
    }

    /// The gRPC status.
    #[must_use]
    pub fn grpc_status(self) -> u8 {
        match self {
            // INVALID_ARGUMENT
            Self::MissingService | Self::BadService | Self::BadRegion | Self::BadVersion => 3,
            // NOT_FOUND
            Self::UnknownRegion | Self::UnknownService => 5,
            // PERMISSION_DENIED
            Self::Denied => 7,
            // RESOURCE_EXHAUSTED
            Self::RateLimited => 8,
            // FAILED_PRECONDITION
            Self::Loop => 9,
            // INTERNAL
            Self::Internal => 13,
            // UNAVAILABLE
            Self::NoHealthyEndpoint | Self::EndpointFailed | Self::Unresolved => 14,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: the code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: Code,
    message: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with its sentence: what was wrong and what to do.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body, in the caller's form: what Envoy makes `grpc-message` of, or JSON.
    #[must_use]
    pub fn body(&self, is_grpc: bool) -> String {
        if is_grpc {
            self.message.clone().into_owned()
        } else {
            self.json_body()
        }
    }

    /// The body for an HTTP caller: one line of JSON, ending in a line feed.
    #[must_use]
    pub fn json_body(&self) -> String {
        let mut body = String::with_capacity(64 + self.message.len());
        body.push_str("{\"error\":\"");
        body.push_str(self.code.as_str());
        body.push_str("\",\"message\":\"");
        for c in self.message.chars() {
            match c {
                '"' => body.push_str("\\\""),
                '\\' => body.push_str("\\\\"),
                // The sentences hold no control characters of their own; nothing is lost by dropping strange ones.
                c if c.is_control() => body.push(' '),
                c => body.push(c),
            }
        }
        body.push_str("\"}\n");
        body
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests;
