//! What tells the budgets of one limit apart: the words of `per`.

use std::fmt;

use super::{
    lease,
    question::{ALLOW_HEADER, DENY_HEADER},
};
use crate::config::RawHeaders;

/// What tells the budgets of one limit apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Who calls, as the mesh knows it.
    Caller,
    /// The region of who calls.
    CallerRegion,
    /// The path without its query.
    Method,
    /// The value of a header, whoever set it.
    Header(String),
}

/// Why a text is no part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartError {
    /// No word that is known.
    Unknown,
    /// No name of a header.
    BadHeader,
    /// A header that has a meaning of its own in the mesh or in HTTP.
    TakenHeader,
}

impl fmt::Display for PartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => {
                "must be service, caller, caller_region, method or header:<name>"
            }
            Self::BadHeader => {
                "names no header: a name has 1 to 64 of a-z 0-9 - _ ."
            }
            Self::TakenHeader => {
                "names a header that is not the caller's to choose: use caller for who calls, method for the path"
            }
        })
    }
}

impl std::error::Error for PartError {}

const LONGEST_HEADER: usize = 64;

impl Part {
    /// Reads a word of `per`. `service` is no part: every limit is one of a service.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Option<Self>, PartError> {
        match text {
            "service" => return Ok(None),
            "caller" => return Ok(Some(Self::Caller)),
            "caller_region" => return Ok(Some(Self::CallerRegion)),
            "method" => return Ok(Some(Self::Method)),
            _ => {}
        }
        let name = text.strip_prefix("header:").ok_or(PartError::Unknown)?;
        let fits = (1..=LONGEST_HEADER).contains(&name.len());
        if !fits
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return Err(PartError::BadHeader);
        }
        let name = name.to_ascii_lowercase();
        let mesh = RawHeaders::default();
        // Set by the mesh, or seen by Envoy under another name.
        let taken = [
            &*mesh.caller,
            &*mesh.destination,
            &*mesh.hops,
            &*mesh.receipt,
            ALLOW_HEADER,
            DENY_HEADER,
            lease::ALLOW_HEADER,
            lease::DENY_HEADER,
            "host",
        ];
        if taken.contains(&&*name) {
            return Err(PartError::TakenHeader);
        }
        Ok(Some(Self::Header(name)))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller => f.write_str("caller"),
            Self::CallerRegion => f.write_str("caller_region"),
            Self::Method => f.write_str("method"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}
