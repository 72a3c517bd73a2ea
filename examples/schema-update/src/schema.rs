//! The schema file: SQL that begins with its version, and how a change of it is noticed.

use thiserror::Error;

/// A schema as it is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Greater than 0.
    pub version: u64,
    /// The whole file.
    pub statements: String,
}

/// Why a file is no schema.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SchemaError {
    /// The first line is something else.
    #[error("the first line of the schema must be `-- version: <number>`, found {0:?}")]
    NoVersion(String),
    /// The number is none, or 0.
    #[error("the schema's version must be a number greater than 0, found {0:?}")]
    BadVersion(String),
}

impl Schema {
    /// Reads the text of a schema file.
    ///
    /// # Errors
    /// When it does not begin with a version.
    pub fn parse(text: &str) -> Result<Schema, SchemaError> {
        let first = text.lines().next().unwrap_or_default();
        let version = first
            .strip_prefix("-- version:")
            .ok_or_else(|| SchemaError::NoVersion(first.to_owned()))?
            .trim();
        match version.parse() {
            Ok(number) if number > 0 => Ok(Schema {
                version: number,
                statements: text.to_owned(),
            }),
            _ => Err(SchemaError::BadVersion(version.to_owned())),
        }
    }

    /// Whether there is something to tell to databases that last heard of `applied`.
    pub fn is_newer_than(&self, applied: Option<u64>) -> bool {
        applied.is_none_or(|applied| self.version > applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_begins_with_its_version() {
        let no = |text: &str| Err(SchemaError::NoVersion(text.to_owned()));
        let bad = |text: &str| Err(SchemaError::BadVersion(text.to_owned()));
        for (text, version) in [
            ("-- version: 7\nCREATE TABLE t (id INT);", Ok(7)),
            ("-- version:12", Ok(12)),
            ("", no("")),
            ("CREATE TABLE t (id INT);", no("CREATE TABLE t (id INT);")),
            ("-- version: 0", bad("0")),
            ("-- version: seven", bad("seven")),
        ] {
            let found = Schema::parse(text).map(|schema| schema.version);
            assert_eq!(found, version, "{text}");
        }
    }

    #[test]
    fn only_a_greater_version_is_news() {
        let schema = Schema::parse("-- version: 2").unwrap();
        for (applied, news) in [
            (None, true),
            (Some(1), true),
            (Some(2), false),
            (Some(3), false),
        ] {
            assert_eq!(schema.is_newer_than(applied), news, "{applied:?}");
        }
    }
}
