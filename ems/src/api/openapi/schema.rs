//! Messages of the schema as JSON Schema, in the shape of their canonical JSON.

use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
};
use serde_json::{Map, Value, json};

/// The schemas that were referred to, by name.
#[derive(Default)]
pub(super) struct Schemas(Map<String, Value>);

impl Schemas {
    /// A reference to a message's schema, which is made when it is referred to first.
    pub(super) fn reference(&mut self, message: &MessageDescriptor) -> Value {
        let name = short_name(message.full_name(), message.package_name());
        if !self.0.contains_key(&name) {
            // Its place is taken first: a message may hold itself.
            self.0.insert(name.clone(), Value::Null);
            let schema = self.object(message);
            self.0.insert(name.clone(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// All of them, and one more.
    pub(super) fn with(mut self, name: &str, schema: Value) -> Value {
        self.0.insert(name.to_owned(), schema);
        Value::Object(self.0)
    }

    fn object(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        for field in message.fields() {
            let mut schema = self.field(&field);
            let about = about(&field);
            if let (Value::Object(map), false) = (&mut schema, about.is_empty()) {
                map.insert("description".to_owned(), json!(about));
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        json!({
            "type": "object",
            "description": comment(&message.parent_file(), message.path()),
            "properties": properties,
            "additionalProperties": false,
        })
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            let value = self.kind(&entry.map_entry_value_field().kind());
            return json!({ "type": "object", "additionalProperties": value });
        }
        let one = self.kind(&field.kind());
        match field.cardinality() {
            Cardinality::Repeated => json!({ "type": "array", "items": one }),
            _ => one,
        }
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Double | Kind::Float => json!({ "type": "number" }),
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
            }
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer" }),
            // Written as text, since many readers of JSON have no such numbers; read in either form.
            Kind::Uint64 | Kind::Fixed64 | Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": ["string", "integer"], "format": "int64" })
            }
            Kind::Enum(names) => enumeration(names),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Duration" => {
                    json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" })
                }
                "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
                _ => self.reference(message),
            },
        }
    }
}

fn enumeration(names: &EnumDescriptor) -> Value {
    let values: Vec<_> = names
        .values()
        .map(|value| value.name().to_owned())
        .collect();
    json!({ "type": "string", "enum": values })
}

/// What a field's comment says, and what it excludes.
fn about(field: &FieldDescriptor) -> String {
    let mut text = comment(&field.parent_file(), field.path());
    let others = field.containing_oneof();
    let others = others.filter(|_| !field.field_descriptor_proto().proto3_optional());
    if let Some(others) = others {
        let others = others.fields().filter(|other| other != field);
        let names: Vec<_> = others.map(|other| other.json_name().to_owned()).collect();
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&format!("Excludes {}.", names.join(" and ")));
    }
    text
}

/// `Service`, `HealthCheck.Http`.
fn short_name(full: &str, package: &str) -> String {
    let name = full.strip_prefix(package).unwrap_or(full);
    name.trim_start_matches('.').to_owned()
}

/// The comment in front of what is at a path of a file.
pub(super) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let source = file.file_descriptor_proto().source_code_info.as_ref();
    let mut locations = source.iter().flat_map(|source| &source.location);
    let found = locations.find(|location| location.path == path);
    let text = found.map_or("", |location| location.leading_comments());
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}
