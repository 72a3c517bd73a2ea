//! Options as a YAML file has them, read with every error.
//!
//! The parser stops at the first field that it cannot use. Where there is one, it is asked about each field for itself.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::RawOptions;
use crate::record::FieldError;

/// What a file says, and the fields that are at fault: unknown ones and wrong values.
///
/// # Errors
/// What is wrong with the text as a whole.
pub(super) fn parse(text: &str) -> Result<(RawOptions, Vec<FieldError>), String> {
    let first = match options(text) {
        Ok(raw) => return Ok((raw, Vec::new())),
        Err(error) => error,
    };
    // Whether `no` is a word or false depends on the field. Here it is a word.
    let strict = serde_saphyr::options! { strict_booleans: true };
    let Ok(Value::Object(fields)) = serde_saphyr::from_str_with_options(text, strict) else {
        return Err(first);
    };
    let (raw, faults) = sift(fields);
    match faults.is_empty() {
        // It is none of the fields for itself.
        true => Err(first),
        false => Ok((raw, faults)),
    }
}

/// An empty file, or one of comments, says nothing; for YAML it is null.
fn options(text: &str) -> Result<RawOptions, String> {
    let raw: Option<RawOptions> =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    Ok(raw.unwrap_or_default())
}

fn sift(fields: Map<String, Value>) -> (RawOptions, Vec<FieldError>) {
    let mut raw = RawOptions::default();
    let mut faults = Vec::new();
    let mut take = |field: String, value: Value| match alone(&value) {
        Ok(part) => {
            raw = std::mem::take(&mut raw).or(part);
            true
        }
        Err(detail) => {
            faults.push(FieldError { field, detail });
            false
        }
    };
    for (key, value) in fields {
        let of = |value: Value| Value::Object(Map::from_iter([(key.clone(), value)]));
        match value {
            Value::Object(inner) => {
                if take(key.clone(), of(Value::Object(Map::new()))) {
                    for (name, value) in inner {
                        let path = format!("{key}.{name}");
                        take(path, of(Value::Object(Map::from_iter([(name, value)]))));
                    }
                }
            }
            value => {
                take(key.clone(), of(value));
            }
        }
    }
    (raw, faults)
}

fn alone(field: &Value) -> Result<RawOptions, String> {
    let text = serde_saphyr::to_string(field).map_err(|error| error.to_string())?;
    // The same without quotes: a word that may be a boolean is one where the field is.
    let bare = text.replace(['"', '\''], "");
    options(&text).or_else(|error| {
        // What YAML says of it has the place in this text, not in the file.
        options(&bare).map_err(|_| {
            RawOptions::deserialize(field)
                .err()
                .map_or(error, |e| e.to_string())
        })
    })
}
