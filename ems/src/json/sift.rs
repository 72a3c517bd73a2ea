//! Parts a JSON value into what fits a message and what does not, so that one attempt shows all that is wrong with it.
//!
//! Beyond the canonical form, a text may stand for a list of one text, as people write it: `per: caller`.
//!
//! Which value fits which field is for the codec of the messages to say: it is asked about each value for itself.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::record::FieldError;

/// How many faults are told at a time.
const MOST: usize = 100;

/// What does not fit, each with its path. What is left in the value fits, but for what no field is to blame for alone.
pub(super) fn sift(value: &mut Value, message: &MessageDescriptor) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if let Value::Object(fields) = value {
        sift_fields(fields, message, "", &mut faults);
    }
    faults.truncate(MOST);
    faults
}

fn sift_fields(
    fields: &mut Map<String, Value>,
    message: &MessageDescriptor,
    path: &str,
    faults: &mut Vec<FieldError>,
) {
    fields.retain(|name, value| {
        if faults.len() >= MOST {
            return false;
        }
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        let field = message
            .get_field_by_json_name(name)
            .or_else(|| message.get_field_by_name(name));
        let Some(field) = field else {
            let known: Vec<_> = message.fields().map(|f| f.json_name().to_owned()).collect();
            faults.push(FieldError {
                field: path,
                detail: format!("is no field: there are {}", known.join(", ")),
            });
            return false;
        };
        if value.is_string() && field.is_list() && field.kind() == Kind::String {
            *value = Value::Array(vec![value.take()]);
        }
        match value {
            Value::Array(items) if field.is_list() => {
                let mut whole = true;
                for (at, item) in items.iter_mut().enumerate() {
                    whole &= sift_value(item, &field, true, format!("{path}[{at}]"), faults);
                }
                // Without one of its items the others would be at other places.
                whole
            }
            value => sift_value(value, &field, false, path, faults),
        }
    });
}

/// Whether the value, or what is left of it, can stay.
fn sift_value(
    value: &mut Value,
    field: &FieldDescriptor,
    item: bool,
    path: String,
    faults: &mut Vec<FieldError>,
) -> bool {
    if let (Value::Object(fields), Kind::Message(message)) = (&mut *value, field.kind())
        && !field.is_map()
        && (item || !field.is_list())
        && !message.full_name().starts_with("google.protobuf.")
    {
        sift_fields(fields, &message, &path, faults);
        return true;
    }
    let alone = match item {
        true => Value::Array(vec![value.clone()]),
        false => value.clone(),
    };
    let alone = Value::Object(Map::from_iter([(field.json_name().to_owned(), alone)]));
    let message = field.parent_message().clone();
    match DynamicMessage::deserialize_with_options(message, alone, &super::options()) {
        Ok(_) => true,
        Err(error) => {
            faults.push(FieldError {
                field: path,
                detail: error.to_string(),
            });
            false
        }
    }
}
