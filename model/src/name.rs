//! Names that cross crates, checked once. A value of one of these types is a valid name; there is no other way to
//! make one.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, de};

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text is longer than the limit, in bytes.
    TooLong {
        /// The most that is allowed.
        limit: usize,
    },
    /// A character (given as a byte) that names do not have, or not at this place.
    BadByte {
        /// The byte at fault.
        byte: u8,
        /// Its offset.
        at: usize,
    },
    /// The name has a meaning of its own.
    Reserved,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { limit } => write!(f, "is longer than {limit} bytes"),
            Self::BadByte { byte, at } => {
                write!(
                    f,
                    "has {:?} at offset {at}, where a name has none",
                    char::from(*byte)
                )
            }
            Self::Reserved => f.write_str("is reserved"),
        }
    }
}

impl std::error::Error for NameError {}

/// The word that asks for the nearest region; never the name of one.
pub const ANY_REGION: &str = "any";

/// Name of a service: 1-253 of `a-z 0-9 . -`, first and last a letter or digit. Made from any case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ServiceName(Box<str>);

/// Name of a region: 1-63 of `a-z 0-9 -`, first and last a letter or digit, not `any`. It has no dot, so the region
/// of a cluster name is what follows its last dot. Made from any case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RegionName(Box<str>);

/// Label of a software version: 1-63 of `A-Z a-z 0-9 . _ -`, first and last a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VersionLabel(Box<str>);

/// Name of a destination's cluster: `<service>.<region>`, or `<service>@<version>.<region>` where a version is
/// pinned. The region may be `any`. This is the only place that makes or reads such a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName {
    /// The service.
    pub service: ServiceName,
    /// The pinned version, if any.
    pub version: Option<VersionLabel>,
    /// The region; `None` stands for `any`.
    pub region: Option<RegionName>,
}

impl ClusterName {
    /// Reads a cluster name back into its parts.
    ///
    /// # Errors
    /// What is wrong with the part at fault.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (head, region) = text.rsplit_once('.').ok_or(NameError::Empty)?;
        let (service, version) = match head.split_once('@') {
            Some((service, version)) => (service, Some(VersionLabel::parse(version.as_bytes())?)),
            None => (head, None),
        };
        let region = match region {
            ANY_REGION => None,
            region => Some(RegionName::parse(region.as_bytes())?),
        };
        Ok(Self {
            service: ServiceName::parse(service.as_bytes())?,
            version,
            region,
        })
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.region.as_ref().map_or(ANY_REGION, RegionName::as_str);
        write_cluster_name(
            f,
            self.service.as_str(),
            self.version.as_ref().map(VersionLabel::as_str),
            region,
        )
    }
}

/// Writes a cluster name from parts that are known to be valid, without making a [`ClusterName`] first: the request
/// path owns no strings.
///
/// # Errors
/// Those of the writer.
pub fn write_cluster_name(
    out: &mut impl fmt::Write,
    service: &str,
    version: Option<&str>,
    region: &str,
) -> fmt::Result {
    out.write_str(service)?;
    if let Some(version) = version {
        out.write_char('@')?;
        out.write_str(version)?;
    }
    out.write_char('.')?;
    out.write_str(region)
}

/// What makes one kind of name differ from another.
struct Rule {
    limit: usize,
    fold_case: bool,
    inner: fn(u8) -> bool,
}

const SERVICE: Rule = Rule {
    limit: LONGEST,
    fold_case: true,
    inner: |b| matches!(b, b'.' | b'-'),
};
const REGION: Rule = Rule {
    limit: 63,
    fold_case: true,
    inner: |b| b == b'-',
};
const VERSION: Rule = Rule {
    limit: 63,
    fold_case: false,
    inner: |b| matches!(b, b'.' | b'_' | b'-'),
};

/// The longest name of any kind.
const LONGEST: usize = 253;

/// A checked name that owns nothing on the heap: it borrows the bytes it was made from or, where their case had to be
/// folded, holds a short copy. The request path lives on these.
#[derive(Clone)]
pub struct Name<'a>(Text<'a>);

#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would put every gRPC service name on the heap, once a request"
)]
enum Text<'a> {
    Borrowed(&'a str),
    Folded { bytes: [u8; LONGEST], len: usize },
}

impl Name<'_> {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Borrowed(text) => text,
            // Only checked ASCII is ever put here, so the fallback is not reached.
            Text::Folded { bytes, len } => bytes
                .get(..*len)
                .and_then(|bytes| str::from_utf8(bytes).ok())
                .unwrap_or_default(),
        }
    }
}

impl Deref for Name<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Name<'_> {}

/// Checks bytes against a rule, and folds their case where the rule says so.
fn check<'a>(bytes: &'a [u8], rule: &Rule) -> Result<Name<'a>, NameError> {
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    if bytes.len() > rule.limit {
        return Err(NameError::TooLong { limit: rule.limit });
    }
    let last = bytes.len() - 1;
    let mut upper = false;
    for (at, &byte) in bytes.iter().enumerate() {
        let edge = at == 0 || at == last;
        if !(byte.is_ascii_alphanumeric() || (!edge && (rule.inner)(byte))) {
            return Err(NameError::BadByte { byte, at });
        }
        upper |= byte.is_ascii_uppercase();
    }
    if upper && rule.fold_case {
        let mut folded = [0; LONGEST];
        for (to, from) in folded.iter_mut().zip(bytes) {
            *to = from.to_ascii_lowercase();
        }
        return Ok(Name(Text::Folded {
            bytes: folded,
            len: bytes.len(),
        }));
    }
    // Only ASCII got this far, so this does not fail.
    let text = str::from_utf8(bytes).map_err(|_| NameError::Empty)?;
    Ok(Name(Text::Borrowed(text)))
}

impl ServiceName {
    /// Checks bytes; borrows them unless their case has to be folded.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn check(bytes: &[u8]) -> Result<Name<'_>, NameError> {
        check(bytes, &SERVICE)
    }
}

impl RegionName {
    /// Checks bytes; borrows them unless their case has to be folded.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn check(bytes: &[u8]) -> Result<Name<'_>, NameError> {
        match check(bytes, &REGION)? {
            name if name.as_str() == ANY_REGION => Err(NameError::Reserved),
            name => Ok(name),
        }
    }
}

impl VersionLabel {
    /// Checks bytes; always borrows them.
    ///
    /// # Errors
    /// What is wrong with the label.
    pub fn check(bytes: &[u8]) -> Result<Name<'_>, NameError> {
        check(bytes, &VERSION)
    }
}

macro_rules! owned_name {
    ($name:ident) => {
        impl $name {
            /// Makes a name from bytes.
            ///
            /// # Errors
            /// What is wrong with the name.
            pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
                Ok(Self(Self::check(bytes)?.as_str().into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as it is passed along the request path.
            #[must_use]
            pub fn as_name(&self) -> Name<'_> {
                Name(Text::Borrowed(&self.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text.as_bytes())
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                Self::parse(text.as_bytes()).map_err(de::Error::custom)
            }
        }
    };
}

owned_name!(ServiceName);
owned_name!(RegionName);
owned_name!(VersionLabel);

#[cfg(test)]
mod tests;
