//! Errors with the path of the field at fault, and the collector that gathers all of them in one pass.

use std::{
    fmt::{self, Display},
    ops::RangeInclusive,
    time::Duration,
};

/// One field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path in JSON names, such as `healthCheck.interval` or `gateways[1].port`; empty: the message as a whole.
    pub field: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.detail)
        } else {
            write!(f, "{}: {}", self.field, self.detail)
        }
    }
}

/// Everything that is wrong with a message; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(Vec<FieldError>);

impl Invalid {
    /// One field at fault.
    pub fn one(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self(vec![FieldError {
            field: field.into(),
            detail: detail.into(),
        }])
    }

    /// Several; `None` of none.
    pub(crate) fn all(errors: Vec<FieldError>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The fields at fault, in the order of the schema.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.0
    }
}

impl Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// Gathers errors while a message is read. Readers return a stand-in where a field is at fault: nobody sees it, since
/// [`Errors::finish`] gives a value only if there was no error.
#[derive(Default)]
pub(crate) struct Errors {
    found: Vec<FieldError>,
    path: Vec<String>,
}

impl Errors {
    /// Reads a part with its name in front of the paths of all errors found in it.
    pub(crate) fn within<T>(
        &mut self,
        name: impl Into<String>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.path.push(name.into());
        let value = read(self);
        self.path.pop();
        value
    }

    /// Adds an error at a field of the part that is being read; an empty field means that part itself.
    pub(crate) fn add(&mut self, field: &str, detail: impl Display) {
        let mut path = self.path.join(".");
        if !path.is_empty() && !field.is_empty() {
            path.push('.');
        }
        path.push_str(field);
        self.found.push(FieldError {
            field: path,
            detail: detail.to_string(),
        });
    }

    /// The value of a result, with its error added.
    pub(crate) fn take<T, E: Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }

    /// A number within a range, or its default where none is given.
    pub(crate) fn number(
        &mut self,
        field: &str,
        given: Option<u32>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> u32 {
        let value = given.unwrap_or(default);
        if !range.contains(&value) {
            let (low, high) = (range.start(), range.end());
            self.add(field, format!("must be {low} to {high}, and is {value}"));
        }
        value
    }

    /// A duration within a range; `None` where none is given.
    pub(crate) fn duration(
        &mut self,
        field: &str,
        given: Option<&prost_types::Duration>,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let (low, high) = (range.start(), range.end());
        match given.map(|raw| Duration::try_from(*raw)) {
            None => None,
            Some(Ok(value)) if range.contains(&value) => Some(value),
            Some(_) => {
                self.add(field, format!("must be a time of {low:?} to {high:?}"));
                None
            }
        }
    }

    /// Checks the length of a list, so that no write is larger than Envoys should carry.
    pub(crate) fn at_most(&mut self, field: &str, length: usize, limit: usize) {
        if length > limit {
            self.add(field, format!("has {length} entries; the limit is {limit}"));
        }
    }

    /// Checks a text: at most `limit` bytes, each of which `allowed` takes.
    pub(crate) fn text(
        &mut self,
        field: &str,
        text: &str,
        limit: usize,
        allowed: impl Fn(u8) -> bool,
    ) {
        if text.len() > limit {
            self.add(field, format!("is longer than {limit} bytes"));
        } else if let Some((at, _)) = text.bytes().enumerate().find(|(_, b)| !allowed(*b)) {
            self.add(
                field,
                format!("has a character at offset {at} that is not allowed here"),
            );
        }
    }

    /// The value, if nothing was at fault.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Invalid> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ if self.found.is_empty() => Err(Invalid::one("", "cannot be read")),
            _ => Err(Invalid(self.found)),
        }
    }
}
