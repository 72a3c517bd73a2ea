//! Who nodes are to one another: SPIFFE ids, and where their certificates come from.
//!
//! [`Identities`] is what the rest of EMS knows. Behind it stands an [`Issuer`]: today the built-in development
//! authority [`DevelopmentCa`], later whatever production has.

mod ca;
#[cfg(test)]
mod tests;
mod wallet;

pub use ca::{CaError, DevelopmentCa, LIFETIME};
pub use wallet::Wallet;

use std::{fmt, sync::Arc, time::SystemTime};

use isthmus_model::{RegionName, ServiceName};

/// A SPIFFE id: `spiffe://<trust domain>/region/<region>/service/<service>`, or `…/region/<region>/gateway`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId(Arc<str>);

impl SpiffeId {
    /// The id of a service's callers.
    #[must_use]
    pub fn service(trust_domain: &str, region: &RegionName, service: &ServiceName) -> Self {
        let prefix = Self::region_prefix(trust_domain, region);
        Self(format!("{prefix}service/{service}").into())
    }

    /// The id of a region's gateways.
    #[must_use]
    pub fn gateway(trust_domain: &str, region: &RegionName) -> Self {
        let prefix = Self::region_prefix(trust_domain, region);
        Self(format!("{prefix}gateway").into())
    }

    /// How every id of a region begins, up to a slash.
    #[must_use]
    pub fn region_prefix(trust_domain: &str, region: &RegionName) -> String {
        format!("spiffe://{trust_domain}/region/{region}/")
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A certificate with its key. The key shows in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, and what stands between it and the root, as PEM.
    pub chain_pem: String,
    /// Its private key, as PEM.
    pub key_pem: String,
    /// From when it counts.
    pub not_before: SystemTime,
    /// Until when it counts.
    pub not_after: SystemTime,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Gives nodes their certificates.
pub trait Identities: Send + Sync + 'static {
    /// The certificate of an id, the same until it is renewed; `None` where it cannot be had.
    fn identity(&self, id: &SpiffeId) -> Option<Arc<Issued>>;
}

/// Makes certificates. What it takes to be given one is its own affair.
pub trait Issuer: Send + Sync + 'static {
    /// The roots behind its certificates, as PEM.
    fn trust_bundle(&self) -> &str;

    /// Makes a certificate that counts from `now`.
    ///
    /// # Errors
    /// Why it will not.
    fn issue(&self, id: &SpiffeId, now: SystemTime) -> Result<Issued, IssueError>;
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate for {id}: {reason}")]
pub struct IssueError {
    /// Whose.
    pub id: SpiffeId,
    /// Why.
    pub reason: String,
}
