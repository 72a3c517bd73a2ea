//! Canonical protobuf JSON of the schema's messages: one codec for the HTTP API, for files and for the CLI.
//!
//! Unknown fields are errors: a field that is misspelt and passed over would be a policy that nobody applies. Beyond the
//! canonical form, a text may stand for a list of one text, as people write it: `per: caller`.

use isthmus_proto::DESCRIPTORS;
use prost::{Message, Name};
use prost_reflect::{
    DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions,
};
use serde::Deserializer;
use serde_json::Value;

use crate::record::Invalid;

/// Reads a message from JSON text.
///
/// # Errors
/// The path at fault, and why.
pub fn read<M: Message + Name + Default>(text: &[u8]) -> Result<M, Invalid> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let message = match read_from(&mut deserializer) {
        Ok(message) => message,
        // The text first, since its errors name their lines.
        Err(error) => {
            let value = serde_json::from_slice::<Value>(text).map_err(|_| error.clone())?;
            return read_lenient(value).unwrap_or(Err(error));
        }
    };
    deserializer
        .end()
        .map_err(|_| Invalid::one("", "has more text after the message"))?;
    Ok(message)
}

/// Reads a message from a JSON value, in which a text may stand for a list of one.
///
/// # Errors
/// The path at fault, and why.
pub fn read_value<M: Message + Name + Default>(value: Value) -> Result<M, Invalid> {
    match read_lenient(value.clone()) {
        Some(read) => read,
        None => read_from(value),
    }
}

/// Puts texts into lists where lists of texts are due; `None`: there was nothing to do.
fn read_lenient<M: Message + Name + Default>(mut value: Value) -> Option<Result<M, Invalid>> {
    let descriptor = descriptor::<M>().ok()?;
    put_into_lists(&mut value, &descriptor).then(|| read_from(value))
}

fn put_into_lists(value: &mut Value, message: &MessageDescriptor) -> bool {
    let Value::Object(fields) = value else {
        return false;
    };
    let mut changed = false;
    for (name, value) in fields {
        let by_name = || message.get_field_by_name(name);
        let Some(field) = message.get_field_by_json_name(name).or_else(by_name) else {
            continue;
        };
        match (field.kind(), value) {
            (Kind::String, value @ Value::String(_)) if field.is_list() => {
                *value = Value::Array(vec![value.take()]);
                changed = true;
            }
            (Kind::Message(part), Value::Array(values)) if field.is_list() => {
                for value in values {
                    changed |= put_into_lists(value, &part);
                }
            }
            (Kind::Message(part), value) if !field.is_map() => {
                changed |= put_into_lists(value, &part);
            }
            _ => {}
        }
    }
    changed
}

/// Reads a message from any format that serde knows: YAML for one.
///
/// # Errors
/// The path at fault, and why.
pub fn read_from<'de, M: Message + Name + Default>(
    deserializer: impl Deserializer<'de>,
) -> Result<M, Invalid> {
    let descriptor = descriptor::<M>()?;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let read = DynamicMessage::deserialize_with_options(descriptor, tracked, &options);
    let message = read.map_err(|error| {
        let path = track.path().to_string();
        let path = if path == "." { String::new() } else { path };
        Invalid::one(path, error.to_string())
    })?;
    message
        .transcode_to()
        .map_err(|error| Invalid::one("", error.to_string()))
}

/// Writes a message as a JSON value: fields at their defaults are left out.
///
/// # Errors
/// Those of the descriptors, which are compiled in: none, unless the build is broken.
pub fn write<M: Message + Name>(message: &M) -> Result<serde_json::Value, Invalid> {
    let mut dynamic = DynamicMessage::new(descriptor::<M>()?);
    dynamic
        .transcode_from(message)
        .map_err(|error| Invalid::one("", error.to_string()))?;
    to_value(&dynamic)
}

/// Writes a message of any schema as a JSON value.
///
/// # Errors
/// Where an `Any` in it holds a type that is not in the message's pool.
pub fn to_value(message: &DynamicMessage) -> Result<serde_json::Value, Invalid> {
    message
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|error| Invalid::one("", error.to_string()))
}

/// The descriptor of a message.
///
/// # Errors
/// None, unless the build is broken.
pub fn descriptor<M: Name>() -> Result<MessageDescriptor, Invalid> {
    let name = M::full_name();
    DESCRIPTORS
        .get_message_by_name(&name)
        .ok_or_else(|| Invalid::one("", format!("the schema has no {name}")))
}
