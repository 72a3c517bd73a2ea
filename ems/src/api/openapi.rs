//! The OpenAPI 3.1 document of the HTTP API, made from the routes and the schema. Comments of the schema are its
//! descriptions, so there is nothing to keep in step by hand.

mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use axum::http::Method;
use isthmus_proto::DESCRIPTORS;
use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::route::{ROUTES, Route};
use schema::{Schemas, comment};

const SERVICE: &str = "isthmus.v1.Registry";

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let service = DESCRIPTORS.get_service_by_name(SERVICE);
    for route in &ROUTES {
        let name = format!("{:?}", route.operation);
        let mut methods = service.iter().flat_map(|service| service.methods());
        let Some(method) = methods.find(|method| method.name() == name) else {
            continue;
        };
        let verb = route.method.as_str().to_ascii_lowercase();
        let operation = operation(route, &method, &mut schemas);
        paths.entry(route.path).or_default().insert(verb, operation);
    }
    for (path, summary, media) in PAGES {
        let page = json!({
            "summary": summary,
            "operationId": path.trim_start_matches('/').trim_end_matches(".json"),
            "tags": ["operation"],
            "responses": {
                "200": { "description": "As it says.", "content": { media: {} } },
                "default": { "$ref": "#/components/responses/Problem" },
            },
        });
        let item = paths.entry(path).or_default();
        item.insert("get".to_owned(), page);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Isthmus registry",
            "version": env!("CARGO_PKG_VERSION"),
            "description": service.as_ref().map(|service| {
                comment(&service.parent_file(), service.path())
            }),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas.with("Problem", problem()),
            "responses": { "Problem": {
                "description": "Why it was not done (RFC 9457).",
                "content": { "application/problem+json": {
                    "schema": { "$ref": "#/components/schemas/Problem" },
                } },
            } },
        },
    })
}

/// Pages for machines: path, what it is, media type.
const PAGES: [(&str, &str, &str); 4] = [
    (
        "/healthz",
        "Whether the server is alive (always 200), and what it is worried about",
        "application/json",
    ),
    (
        "/readyz",
        "Whether Envoys are let in; 503 until the registry is loaded, and once the server stops",
        "application/json",
    ),
    (
        "/metrics",
        "Metrics for Prometheus",
        "application/openmetrics-text",
    ),
    ("/openapi.json", "This document", "application/json"),
];

fn operation(route: &Route, method: &MethodDescriptor, schemas: &mut Schemas) -> Value {
    let about = comment(&method.parent_service().parent_file(), method.path());
    let input = method.input();
    let mut parameters: Vec<_> = parameters(route.path).map(path_parameter).collect();
    if route.operation.has_query() {
        parameters.extend(query_parameters(&input));
    }
    let answer = json!({
        "description": "The answer.",
        "content": { "application/json": { "schema": schemas.reference(&method.output()) } },
    });
    let mut responses = Map::new();
    responses.insert("200".to_owned(), answer.clone());
    if route.method == Method::PUT {
        let mut created = answer;
        if let Some(description) = created.get_mut("description") {
            *description = json!("It was not there before.");
        }
        responses.insert("201".to_owned(), created);
    }
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    responses.insert("default".to_owned(), problem);
    let mut operation = json!({
        "operationId": method.name(),
        "tags": [tag(route.path)],
        "parameters": parameters,
        "responses": responses,
    });
    if let Value::Object(map) = &mut operation {
        if !about.is_empty() {
            map.insert("description".to_owned(), json!(about));
        }
        if route.operation.has_body() {
            let body = json!({
                "content": { "application/json": { "schema": schemas.reference(&input) } },
            });
            map.insert("requestBody".to_owned(), body);
        }
    }
    operation
}

/// Names in braces.
fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

/// Fields of a request that come in the query. A map is one parameter in the singular, to be repeated.
fn query_parameters(input: &MessageDescriptor) -> Vec<Value> {
    let file = input.parent_file();
    let parameter = |field: prost_reflect::FieldDescriptor| {
        let about = comment(&file, field.path());
        if field.is_map() {
            json!({
                "name": field.json_name().trim_end_matches('s'),
                "in": "query",
                "description": "<name>:<value>; may be given more than once.",
                "schema": { "type": "array", "items": { "type": "string" } },
            })
        } else {
            json!({
                "name": field.json_name(),
                "in": "query",
                "description": about,
                "schema": { "type": match field.kind() { Kind::Bool => "boolean", _ => "string" } },
            })
        }
    };
    input.fields().map(parameter).collect()
}

/// What a path is about: its last word that is no parameter.
fn tag(path: &str) -> &str {
    let mut words = path.split('/').filter(|word| !word.starts_with('{'));
    words.rfind(|word| *word != "drain").unwrap_or(path)
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457). Programs go by type and status; detail is for people.",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "errors": {
                "type": "array",
                "description": "Every field at fault.",
                "items": {
                    "type": "object",
                    "properties": { "field": { "type": "string" }, "detail": { "type": "string" } },
                },
            },
            "storedVersion": {
                "type": "string",
                "description": "With status 409: the version that a write has to exceed.",
            },
        },
    })
}
