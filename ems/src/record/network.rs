//! Hosts, ports and endpoint ids: how they are read and written.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{Address, EndpointId, Host};

/// Longest DNS name.
const DNS_LIMIT: usize = 253;

impl Host {
    /// Reads an IP address or a DNS name.
    ///
    /// # Errors
    /// What is wrong with it, for a person to read.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            if ip == Ipv4Addr::UNSPECIFIED || ip == Ipv6Addr::UNSPECIFIED || ip.is_multicast() {
                return Err(format!("{ip} is no address that one can connect to"));
            }
            return Ok(Self::Ip(ip));
        }
        if text.is_empty() {
            return Err("is required: an IP address or a DNS name".to_owned());
        }
        if text.len() > DNS_LIMIT {
            return Err(format!("is longer than {DNS_LIMIT} bytes"));
        }
        if text.contains([':', '[', ']']) {
            return Err(
                "is no IP address or DNS name: the port has its own field, and an IPv6 address has no brackets"
                    .to_owned(),
            );
        }
        let last_is_number = text
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
        if last_is_number || !text.split('.').all(is_label) {
            return Err("is no IP address or DNS name".to_owned());
        }
        Ok(Self::Dns(text.to_ascii_lowercase().into()))
    }
}

fn is_label(label: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    label.len() <= 63
        && edge(label.bytes().next())
        && edge(label.bytes().next_back())
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Dns(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl EndpointId {
    /// Checks an id.
    ///
    /// # Errors
    /// What is wrong with it, for a person to read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        if text.is_empty() || text.len() > 128 || !text.bytes().all(allowed) {
            return Err("must be 1 to 128 of A-Z a-z 0-9 . _ : -".to_owned());
        }
        // These mean something else in a URL's path.
        if matches!(text, "." | "..") {
            return Err("must be more than dots".to_owned());
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for EndpointId {
    fn borrow(&self) -> &str {
        &self.0
    }
}
