//! What the filter asks EMS about the limits of the whole region that a request meets, packed into one text that a header
//! can carry: Envoy hands it on as it is, and knows nothing of it.
//!
//! ```text
//! 1h;payments;caller,,second,enforce|us/orders;header:x-tenant+caller,/charge,minute,enforce|us/orders,=acme%20inc
//! ││ │        │                      │
//! ││ service  what the limit is      whose budget, in the order of the limit's words
//! │the form of a refusal: h HTTP, g gRPC
//! the version of this format
//! ```
//!
//! A limit is named by what it is about and not by its numbers, so EMS applies those that it has, and a limit that it does
//! not have any more counts no longer. Whatever callers wrote is percent-encoded, so no value can look like two, or like
//! another part of the text: equal texts mean equal budgets, and different texts different ones.

use std::fmt::Write;

use super::{Limit, MOST_LIMITS, OnError, Part, RawLimit, Scope};
use crate::{decide::Route, request::Field};

/// The header with the question of a request that passes when nobody answers.
pub const ALLOW_HEADER: &str = "x-mesh-limit-allow";

/// The header with the question of a request that is refused when nobody answers.
pub const DENY_HEADER: &str = "x-mesh-limit-deny";

/// The header that carries a question.
#[must_use]
pub fn header(on_error: OnError) -> &'static str {
    match on_error {
        OnError::Allow => ALLOW_HEADER,
        OnError::Deny => DENY_HEADER,
    }
}

const VERSION: &str = "1";

/// Most bytes of one value, before they are encoded. Longer ones share one budget, so that length is no way out.
pub const LONGEST_VALUE: usize = 256;

/// Most bytes of a text: more than any that [`write()`] makes of checked limits.
pub const LONGEST: usize = 128 * 1024;

const ABSENT: &str = "-";
const REPEATED: &str = "+";
const TOO_LONG: &str = "~";
const GIVEN: char = '=';

/// Writes the question of a request, and says what becomes of the request when nobody answers: it passes only if all of
/// its limits would let it. `None`: it meets no limit of the region, and nothing is written.
pub fn write<'h>(
    out: &mut String,
    route: &Route<'_>,
    is_grpc: bool,
    headers: impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
) -> Option<OnError> {
    let mut on_error = None;
    for limit in route.limits.of_scope(Scope::Region) {
        if on_error.is_none() {
            out.push_str(VERSION);
            out.push(if is_grpc { 'g' } else { 'h' });
            out.push(';');
            out.push_str(route.service);
        }
        out.push(';');
        out.push_str(&limit.token);
        out.push('|');
        write_values(out, limit, route, headers.clone());
        on_error = match (on_error, limit.on_error) {
            (Some(OnError::Deny), _) | (_, OnError::Deny) => Some(OnError::Deny),
            _ => Some(OnError::Allow),
        };
    }
    on_error
}

pub(super) fn write_values<'h>(
    out: &mut String,
    limit: &Limit,
    route: &Route<'_>,
    headers: impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
) {
    let caller = route.caller.as_ref();
    for (at, part) in limit.per.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match part {
            // Names have nothing in them that had to be encoded. Nobody is the empty one.
            Part::Caller => {
                if let Some(caller) = caller {
                    out.push_str(caller.region());
                    out.push('/');
                    out.push_str(caller.service());
                }
            }
            Part::CallerRegion => out.push_str(caller.map_or("", |caller| caller.region())),
            Part::Method => write_value(out, route.limits.method),
            Part::Header(name) => match Field::find(headers.clone(), name) {
                Field::Absent => out.push_str(ABSENT),
                Field::Repeated => out.push_str(REPEATED),
                Field::Once(value) => write_value(out, value),
            },
        }
    }
}

fn write_value(out: &mut String, value: &[u8]) {
    if value.len() > LONGEST_VALUE {
        out.push_str(TOO_LONG);
        return;
    }
    out.push(GIVEN);
    encode(out, value);
}

fn encode(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// What a limit is about, without its numbers.
pub(super) fn token(per: &[Part], raw: &RawLimit) -> String {
    let mut text = String::new();
    if per.is_empty() {
        text.push_str("service");
    }
    for (at, part) in per.iter().enumerate() {
        if at > 0 {
            text.push('+');
        }
        encode(&mut text, part.to_string().as_bytes());
    }
    text.push(',');
    encode(
        &mut text,
        raw.method.as_deref().unwrap_or_default().as_bytes(),
    );
    for word in [raw.unit.as_str(), raw.mode.as_str()] {
        text.push(',');
        text.push_str(word);
    }
    // So that a service's tokens differ even if it leases what it also counts.
    if raw.scope == Scope::Lease {
        text.push(',');
        text.push_str(raw.scope.as_str());
    }
    text
}

/// A question that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Whether the caller speaks gRPC, and so in which form it has to be refused.
    pub is_grpc: bool,
    /// The service.
    pub service: &'a str,
    asks: &'a str,
}

/// One limit, and whose budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The limit, as [`Limit::token`] has it.
    pub token: &'a str,
    /// Whose budget of it.
    pub values: &'a str,
    /// Both together: the budget's name among those of the service.
    pub key: &'a str,
}

impl<'a> Question<'a> {
    /// Reads a text. `None`: it is none that [`write()`] made.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let (form, rest) = text.strip_prefix(VERSION)?.split_once(';')?;
        let is_grpc = match form {
            "g" => true,
            "h" => false,
            _ => return None,
        };
        let (service, asks) = rest.split_once(';')?;
        let question = Self {
            is_grpc,
            service,
            asks,
        };
        let readable = asks.split(';').all(|ask| Ask::parse(ask).is_some());
        (readable && question.asks().count() <= MOST_LIMITS).then_some(question)
    }

    /// The limits that are asked about: one or more.
    pub fn asks(&self) -> impl Iterator<Item = Ask<'a>> + use<'a> {
        self.asks.split(';').filter_map(Ask::parse)
    }
}

impl<'a> Ask<'a> {
    /// Reads the name of a budget. `None`: it is none.
    #[must_use]
    pub fn parse(key: &'a str) -> Option<Self> {
        let (token, values) = key.split_once('|')?;
        (!token.is_empty() && !values.contains('|')).then_some(Self { token, values, key })
    }

    /// Whose budget it is, for people: `us/orders, acme%20inc`. What callers wrote stays encoded, so that it cannot look
    /// like anything else, nor do anything to a terminal.
    #[must_use]
    pub fn whose(&self) -> String {
        if self.values.is_empty() && self.token.starts_with("service,") {
            return String::new();
        }
        let word = |value: &'a str| match value {
            "" => "(nobody)",
            ABSENT => "(absent)",
            REPEATED => "(several)",
            TOO_LONG => "(too long)",
            text => text.strip_prefix(GIVEN).unwrap_or(text),
        };
        let words: Vec<_> = self.values.split(',').map(word).collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests;
