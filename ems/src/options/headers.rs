//! Names of the headers of the request contract, where the usual ones do not suit.
//!
//! Which names make sense is for the filter's config to say: this only knows the flags.

use isthmus_model::{ConfigError, Headers, RawHeaders};
use serde::Deserialize;

use crate::record::FieldError;

/// Names as they were said.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[command(next_help_heading = "Header names (the same in all regions of a mesh)")]
pub struct HeaderNames {
    /// Destination service, from callers [default: x-mesh-service]
    #[arg(
        id = "header_service",
        long = "header-service",
        env = "EMS_HEADER_SERVICE",
        value_name = "NAME"
    )]
    pub service: Option<String>,

    /// Destination region, from callers [default: x-mesh-region]
    #[arg(
        id = "header_region",
        long = "header-region",
        env = "EMS_HEADER_REGION",
        value_name = "NAME"
    )]
    pub region: Option<String>,

    /// Pinned version, from callers [default: x-mesh-version]
    #[arg(
        id = "header_version",
        long = "header-version",
        env = "EMS_HEADER_VERSION",
        value_name = "NAME"
    )]
    pub version: Option<String>,

    /// Destination cluster, from the filter [default: x-mesh-destination]
    #[arg(
        id = "header_destination",
        long = "header-destination",
        env = "EMS_HEADER_DESTINATION",
        value_name = "NAME"
    )]
    pub destination: Option<String>,

    /// Who calls, from the filter [default: x-mesh-caller]
    #[arg(
        id = "header_caller",
        long = "header-caller",
        env = "EMS_HEADER_CALLER",
        value_name = "NAME"
    )]
    pub caller: Option<String>,

    /// Gateways passed, from the filter [default: x-mesh-hops]
    #[arg(
        id = "header_hops",
        long = "header-hops",
        env = "EMS_HEADER_HOPS",
        value_name = "NAME"
    )]
    pub hops: Option<String>,

    /// Receipt, on responses [default: x-mesh-receipt]
    #[arg(
        id = "header_receipt",
        long = "header-receipt",
        env = "EMS_HEADER_RECEIPT",
        value_name = "NAME"
    )]
    pub receipt: Option<String>,

    /// Asks for a receipt, from callers [default: x-mesh-debug]
    #[arg(
        id = "header_debug",
        long = "header-debug",
        env = "EMS_HEADER_DEBUG",
        value_name = "NAME"
    )]
    pub debug: Option<String>,

    /// Code of a refusal, on responses [default: x-mesh-error]
    #[arg(
        id = "header_error",
        long = "header-error",
        env = "EMS_HEADER_ERROR",
        value_name = "NAME"
    )]
    pub error: Option<String>,
}

impl HeaderNames {
    /// These, and what they do not say from others.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            service: self.service.or(other.service),
            region: self.region.or(other.region),
            version: self.version.or(other.version),
            destination: self.destination.or(other.destination),
            caller: self.caller.or(other.caller),
            hops: self.hops.or(other.hops),
            receipt: self.receipt.or(other.receipt),
            debug: self.debug.or(other.debug),
            error: self.error.or(other.error),
        }
    }

    /// The complete names; usual ones, and errors, where these make no sense.
    pub(super) fn check(self, errors: &mut Vec<FieldError>) -> Headers {
        let usual = RawHeaders::default();
        let raw = RawHeaders {
            service: self.service.unwrap_or(usual.service),
            region: self.region.unwrap_or(usual.region),
            version: self.version.unwrap_or(usual.version),
            destination: self.destination.unwrap_or(usual.destination),
            caller: self.caller.unwrap_or(usual.caller),
            hops: self.hops.unwrap_or(usual.hops),
            receipt: self.receipt.unwrap_or(usual.receipt),
            debug: self.debug.unwrap_or(usual.debug),
            error: self.error.unwrap_or(usual.error),
        };
        Headers::check(raw).unwrap_or_else(|faults| {
            errors.extend(faults.into_iter().map(by_flag));
            Headers::default()
        })
    }
}

/// The filter's config has the names under `headers`.
fn by_flag(fault: ConfigError) -> FieldError {
    FieldError {
        field: fault.path.replacen("headers.", "--header-", 1),
        detail: fault.problem,
    }
}
