//! The reply to a request that is turned away, for HTTP and for gRPC callers.

use isthmus_model::{Exceeded, RawHeaders, Refusal};

use crate::pairs;

/// What Envoy is asked to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The HTTP status. For a gRPC caller Envoy makes it 200.
    pub(crate) status: u16,
    /// For a gRPC caller; Envoy then sends trailers only, with the body as `grpc-message`.
    pub(crate) grpc_status: Option<u8>,
    /// JSON for an HTTP caller, plain text for a gRPC caller.
    pub(crate) body: String,
    /// More headers, serialized.
    pub(crate) headers: Vec<u8>,
    /// For Envoy's access log (`%RESPONSE_CODE_DETAILS%`).
    pub(crate) details: String,
}

impl Reply {
    /// The reply for a refusal, with a receipt if there is one. A limit that was exceeded says when to come again.
    pub(crate) fn new(
        names: &RawHeaders,
        refusal: &Refusal,
        is_grpc: bool,
        receipt: Option<&str>,
        exceeded: Option<&Exceeded<'_>>,
    ) -> Self {
        let code = refusal.code();
        let wait = exceeded.map(Exceeded::headers);
        let mut headers = vec![(names.error.as_str(), code.as_str())];
        if !is_grpc {
            headers.push(("content-type", "application/json"));
        }
        let wait = wait.iter().flatten();
        headers.extend(wait.map(|(name, value)| (*name, value.as_str())));
        if let Some(receipt) = receipt {
            headers.push((&names.receipt, receipt));
        }
        Self {
            status: code.http_status(),
            grpc_status: is_grpc.then(|| code.grpc_status()),
            body: refusal.body(is_grpc),
            headers: pairs::write(&headers),
            details: format!("isthmus_{code}"),
        }
    }
}

#[cfg(test)]
mod tests;
