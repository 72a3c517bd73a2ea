//! Canonical protobuf JSON of the schema's messages: one codec for the HTTP API, for files and for the CLI.
//!
//! Unknown fields are errors: a field that is misspelt and passed over would be a policy that nobody applies. Beyond the
//! canonical form, a text may stand for a list of one text, as people write it: `per: caller`.

mod draft;
mod sift;

use isthmus_proto::DESCRIPTORS;
use prost::{Message, Name};
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Deserializer;
use serde_json::Value;

pub use draft::Draft;

use crate::record::Invalid;

/// Reads a message from JSON text.
///
/// # Errors
/// The paths at fault, and why.
pub fn read<M: Message + Name + Default>(text: &[u8]) -> Result<M, Invalid> {
    Draft::read(text)?.finish()
}

fn read_from<'de, M: Message + Name + Default>(
    deserializer: impl Deserializer<'de>,
) -> Result<M, Invalid> {
    let descriptor = descriptor::<M>()?;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    let read = DynamicMessage::deserialize_with_options(descriptor, tracked, &options());
    let message = read.map_err(|error| {
        let path = track.path().to_string();
        let path = if path == "." { String::new() } else { path };
        Invalid::one(path, error.to_string())
    })?;
    message
        .transcode_to()
        .map_err(|error| Invalid::one("", error.to_string()))
}

fn options() -> DeserializeOptions {
    DeserializeOptions::new().deny_unknown_fields(true)
}

/// Writes a message as a JSON value: fields at their defaults are left out.
///
/// # Errors
/// Those of the descriptors, which are compiled in: none, unless the build is broken.
pub fn write<M: Message + Name>(message: &M) -> Result<Value, Invalid> {
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
pub fn to_value(message: &DynamicMessage) -> Result<Value, Invalid> {
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
