//! Rate limits of services: what they say, and which requests share a budget.
//!
//! Three steps, so that each can be looked at alone. [`decide`](crate::decide()) says which limits a request meets, from the config and
//! the request only. [`spend`] charges the budgets of those that this Envoy keeps, with the arithmetic of [`gcra`]; where
//! budgets are kept and what time it is, its host knows. What a budget is of, is a key: a hash over the service, what the
//! limit is about, and who asks. For those of the whole region the filter makes a [`Question`], which EMS answers.
//!
//! The key has nothing in it of how much the limit lets pass, nor where in the config it is. So a config that changes a
//! number, or another limit, leaves each budget as it is: it knows only when it will be full again.

pub mod cell;
pub mod gcra;
pub mod lease;
pub mod question;

mod check;
mod exceeded;
mod overlap;
mod part;
mod spend;

use std::{fmt, hash::Hasher};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::{access::Identity, request::Field};

pub use cell::{Cell, CellName, Origin};
pub(crate) use check::check_limits;
pub use check::check_service;
pub use exceeded::{Exceeded, POLICY_HEADER, named_by_policy};
pub use gcra::Rate;
pub use overlap::never_binding;
pub use part::{Part, PartError};
pub use question::Question;
pub use spend::{Budgets, Outcome, Unavailable, spend};

/// In a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// Most limits of one service: each is a few calls into the host for every request that it meets.
pub const MOST_LIMITS: usize = 16;

/// Most leased limits of one service: Envoy's filter for them knows one for a request.
pub const MOST_LEASED: usize = 1;

/// Most requests per unit, and at once.
pub const MOST_REQUESTS: u32 = 1_000_000;

/// A limit as JSON has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimit {
    /// What has a budget of its own: `service`, `caller`, `caller_region`, `header:<name>`, `method`, or several of them.
    #[serde(deserialize_with = "word_or_words")]
    pub per: Vec<String>,
    /// Only requests with this path, which for gRPC is the method: `/bank.v1.Ledger/Apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// How many pass in a unit of time.
    pub requests: u32,
    /// The unit of time.
    pub unit: Unit,
    /// How many pass at once, after a pause. As many as in a unit, unless set. Not with scope region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Who shares a budget: the requests of this Envoy, or those of the whole region.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scope: Scope,
    /// Whether it refuses, or only counts what it would refuse.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: LimitMode,
    /// What becomes of requests whose budget cannot be asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_error: OnError,
}

/// One word may stand for a list of one.
fn word_or_words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Words;

    impl<'de> Visitor<'de> for Words {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a word or a list of words")
        }

        fn visit_str<E: de::Error>(self, word: &str) -> Result<Vec<String>, E> {
            Ok(vec![word.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(words))
        }
    }

    deserializer.deserialize_any(Words)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$one:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$one])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$variant),*];

            /// The word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// A unit of time.
    Unit {
        /// One second.
        #[default]
        Second = "second",
        /// 60 seconds.
        Minute = "minute",
        /// 60 minutes.
        Hour = "hour",
        /// 24 hours.
        Day = "day",
    }
}

words! {
    /// Where a budget is kept, and so whose requests draw on it.
    Scope {
        /// In each Envoy.
        #[default]
        Local = "local",
        /// At EMS, for all Envoys of the region together.
        Region = "region",
        /// In each Envoy, which EMS leases a share of what all of them may let pass together: see [`lease`].
        Lease = "lease",
    }
}

words! {
    /// Whether a limit acts.
    LimitMode {
        /// It refuses what is too much.
        #[default]
        Enforce = "enforce",
        /// It counts what it would refuse, and lets it pass.
        Shadow = "shadow",
    }
}

words! {
    /// What becomes of a request whose budget cannot be asked for.
    OnError {
        /// It passes.
        #[default]
        Allow = "allow",
        /// It is refused.
        Deny = "deny",
    }
}

impl Unit {
    /// Its length.
    #[must_use]
    pub fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }
}

/// A limit that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Sorted, each once.
    per: Vec<Part>,
    method: Option<String>,
    requests: u32,
    unit: Unit,
    burst: u32,
    scope: Scope,
    mode: LimitMode,
    on_error: OnError,
    rate: Rate,
    /// The service and what the limit is about: see the module.
    identity: String,
    /// What the limit is about, as a [`Question`] and metrics have it.
    token: String,
}

impl Limit {
    /// Whether it counts a request with this path.
    #[must_use]
    pub fn meets(&self, method: &[u8]) -> bool {
        self.method
            .as_ref()
            .is_none_or(|only| only.as_bytes() == method)
    }

    /// How many pass in a unit of time.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// The unit of time.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// How many pass at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Where its budgets are kept.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether it refuses.
    #[must_use]
    pub fn mode(&self) -> LimitMode {
        self.mode
    }

    /// What becomes of requests whose budget cannot be asked for.
    #[must_use]
    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// What tells the limit from the others of its service, without its numbers: visible ASCII, and as metrics show it.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What tells the limit from all others whose budgets are kept there, whatever the service, without its numbers. One
    /// line, for looking it up: to show it there is the token.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The limit as the config has it.
    #[must_use]
    pub fn to_raw(&self) -> RawLimit {
        RawLimit {
            per: match self.per.as_slice() {
                [] => vec!["service".to_owned()],
                parts => parts.iter().map(ToString::to_string).collect(),
            },
            method: self.method.clone(),
            requests: self.requests,
            unit: self.unit,
            burst: (self.burst != self.requests).then_some(self.burst),
            scope: self.scope,
            mode: self.mode,
            on_error: self.on_error,
        }
    }

    /// Takes the header in which the mesh says who calls for what it means, should it be called otherwise than usual: what
    /// a caller wrote there counts for nothing.
    pub(crate) fn trust_no_header(&mut self, caller: &str) {
        for part in &mut self.per {
            if matches!(part, Part::Header(name) if name == caller) {
                *part = Part::Caller;
            }
        }
    }

    /// Who could make up a key of it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let made_up = |part: &Part| matches!(part, Part::Header(_) | Part::Method);
        match self.per.as_slice() {
            [] => Origin::Limit,
            parts if parts.iter().any(made_up) => Origin::Caller,
            _ => Origin::Identity,
        }
    }

    /// Which budget a request is charged to. The hasher should be one whose results callers cannot guess, or else they
    /// could look for header values that share a cell with somebody else's.
    fn key<'h>(
        &self,
        mut hasher: impl Hasher,
        caller: Option<&Identity<'_>>,
        method: &[u8],
        headers: impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    ) -> u64 {
        let mut put = |bytes: &[u8]| {
            // Lengths go first, so that no two lists of texts read the same.
            hasher.write_u64(bytes.len() as u64);
            hasher.write(bytes);
        };
        put(self.identity.as_bytes());
        for part in &self.per {
            match part {
                Part::Caller => {
                    put(caller.map_or("", Identity::region).as_bytes());
                    put(caller.map_or("", Identity::service).as_bytes());
                }
                Part::CallerRegion => put(caller.map_or("", Identity::region).as_bytes()),
                Part::Method => put(method),
                // Whoever leaves the header out, or gives several, shares one budget with all that do.
                Part::Header(name) => match Field::find(headers.clone(), name) {
                    Field::Absent => put(b"-"),
                    Field::Repeated => put(b"+"),
                    Field::Once(value) => {
                        put(b"=");
                        put(value);
                    }
                },
            }
        }
        hasher.finish()
    }
}

/// `caller+header:x-tenant /bank.v1.Ledger/Apply 5/minute`: what receipts and headers call it. Visible ASCII and blanks,
/// without quotes and backslashes.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.per.is_empty() {
            f.write_str("service")?;
        }
        for (at, part) in self.per.iter().enumerate() {
            if at > 0 {
                f.write_str("+")?;
            }
            part.fmt(f)?;
        }
        if let Some(method) = &self.method {
            write!(f, " {method}")?;
        }
        write!(f, " {}/{}", self.requests, self.unit.as_str())?;
        match self.scope {
            Scope::Local => {}
            Scope::Region => f.write_str(" region")?,
            Scope::Lease => f.write_str(" leased")?,
        }
        match self.mode {
            LimitMode::Enforce => Ok(()),
            LimitMode::Shadow => f.write_str(" shadow"),
        }
    }
}

/// The limits that a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits<'a> {
    all: &'a [Limit],
    method: &'a [u8],
}

impl<'a> Limits<'a> {
    /// None at all.
    pub const NONE: Limits<'static> = Limits {
        all: &[],
        method: b"",
    };

    pub(crate) fn of(all: &'a [Limit], method: &'a [u8]) -> Self {
        if all.iter().any(|limit| limit.meets(method)) {
            Self { all, method }
        } else {
            Self::NONE
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &'a Limit> + use<'a> {
        let method = self.method;
        self.all.iter().filter(move |limit| limit.meets(method))
    }

    /// Those that it would meet by another path.
    pub fn unmet(&self) -> impl Iterator<Item = &'a Limit> + use<'a> {
        let method = self.method;
        self.all.iter().filter(move |limit| !limit.meets(method))
    }

    /// Those whose budgets are kept there.
    pub fn of_scope(&self, scope: Scope) -> impl Iterator<Item = &'a Limit> + use<'a> {
        self.iter().filter(move |limit| limit.scope == scope)
    }
}

/// The limits, with commas between them.
impl fmt::Display for Limits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, limit) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            limit.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
