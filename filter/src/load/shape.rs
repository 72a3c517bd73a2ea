//! From a JSON value to a raw config, with everything that is of no use for one.
//!
//! The parser stops at the first thing that it cannot use. So what it stops at is told, something is put in its place
//! that it can use, and it is asked again. Runs only for configs that are at fault. Knows nothing of what makes sense.

use isthmus_model::{ConfigError, RawConfig, config::is_within};
use serde_json::{Value, json};
use serde_path_to_error::Segment;

/// How often the parser is asked, and so how many faults are told at a time.
const MOST: usize = 100;

/// What the parser stopped at.
struct Stop {
    /// Where the value is, or would be, as a JSON pointer.
    pointer: String,
    /// The same for people.
    path: String,
    problem: Problem,
}

#[derive(PartialEq)]
enum Problem {
    Missing,
    Unknown(String),
    Misfit(String),
}

/// What is wrong with the value, each with its path, and the rest of it, where there is a rest that fits: with anything
/// that fits in place of what does not.
pub(super) fn sift(mut value: Value) -> (Vec<ConfigError>, Option<RawConfig>) {
    let mut faults: Vec<ConfigError> = Vec::new();
    for _ in 0..MOST {
        let stop = match read(&value) {
            Ok(raw) => return (faults, Some(raw)),
            Err(stop) => stop,
        };
        // What is in the place of something that does not fit is nobody's fault.
        if !faults
            .iter()
            .any(|fault| is_within(&stop.path, &fault.path))
        {
            faults.push(ConfigError {
                path: stop.path.clone(),
                problem: match &stop.problem {
                    Problem::Missing => "is missing".to_owned(),
                    Problem::Unknown(text) | Problem::Misfit(text) => text.clone(),
                },
            });
        }
        if !mend(&mut value, &stop) {
            break;
        }
    }
    (faults, None)
}

fn read(value: &Value) -> Result<RawConfig, Stop> {
    // From text, for which the filter has a parser already: one for values would make it a quarter larger.
    let text = value.to_string();
    let read = super::parse(&mut serde_json::Deserializer::from_slice(text.as_bytes()));
    read.map_err(|error| {
        let (mut pointer, mut path) = (String::new(), String::new());
        for segment in error.path() {
            let (key, shown) = match segment {
                Segment::Seq { index } => (index.to_string(), format!("[{index}]")),
                Segment::Map { key } if path.is_empty() => (key.clone(), key.clone()),
                Segment::Map { key } => (key.clone(), format!(".{key}")),
                // A word out of several: the field is the last that is a place.
                Segment::Enum { .. } | Segment::Unknown => break,
            };
            push(&mut pointer, &key);
            path += &shown;
        }
        let text = error.inner().to_string();
        // That is a place in the text above, which nobody sees.
        let text = match text.rsplit_once(" at line ") {
            Some((text, _)) => text.to_owned(),
            None => text,
        };
        let missing = text.strip_prefix("missing field `");
        let problem = if let Some(field) = missing.and_then(|rest| rest.strip_suffix('`')) {
            push(&mut pointer, field);
            if !path.is_empty() {
                path.push('.');
            }
            path += field;
            Problem::Missing
        } else if text.starts_with("unknown field ") {
            Problem::Unknown(text)
        } else {
            Problem::Misfit(text)
        };
        Stop {
            pointer,
            path,
            problem,
        }
    })
}

fn push(pointer: &mut String, key: &str) {
    pointer.push('/');
    *pointer += &key.replace('~', "~0").replace('/', "~1");
}

/// Makes the parser go on behind a place. Whether it does.
fn mend(value: &mut Value, stop: &Stop) -> bool {
    let Some((parent, key)) = stop.pointer.rsplit_once('/') else {
        return false;
    };
    let key = key.replace("~1", "/").replace("~0", "~");
    if !matches!(stop.problem, Problem::Unknown(_)) {
        // One of them fits each field that must be there and each item of a list.
        for one in [
            json!(""),
            json!(0),
            json!(false),
            json!([]),
            json!({}),
            json!("second"),
        ] {
            let place = match value.pointer_mut(parent) {
                Some(Value::Object(fields)) => fields.entry(key.as_str()).or_insert(Value::Null),
                Some(Value::Array(items)) => {
                    match key.parse().ok().and_then(|at: usize| items.get_mut(at)) {
                        Some(item) => item,
                        None => return false,
                    }
                }
                _ => return false,
            };
            *place = one;
            if goes_on(value, stop) {
                return true;
            }
        }
    }
    match value.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.remove(&key).is_some() && goes_on(value, stop),
        _ => false,
    }
}

fn goes_on(value: &Value, behind: &Stop) -> bool {
    read(value)
        .err()
        .is_none_or(|stop| stop.pointer != behind.pointer)
}
