//! The document has every route, every schema it refers to, and what the schema's comments say.

use serde_json::Value;

use super::{PAGES, ROUTES, document};

#[test]
fn every_route_is_documented() {
    let document = document();
    for route in &ROUTES {
        let verb = route.method.as_str().to_ascii_lowercase();
        let operation = &document["paths"][route.path][&verb];
        assert_eq!(operation["operationId"], format!("{:?}", route.operation));
        assert!(operation["responses"]["200"].is_object(), "{}", route.path);
        assert_eq!(
            operation["requestBody"].is_object(),
            verb == "put",
            "{}",
            route.path
        );
        let named = operation["parameters"].as_array().unwrap();
        let named = named
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .count();
        assert_eq!(named, route.path.matches('{').count(), "{}", route.path);
    }
    for (path, ..) in PAGES {
        assert!(document["paths"][path]["get"].is_object(), "{path}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let found = document.pointer(reference.trim_start_matches('#'));
        assert!(found.is_some_and(Value::is_object), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                references.push(reference.clone());
            }
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn schemas_say_what_the_messages_are() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for (pointer, expect) in [
        ("/Service/properties/protocol/enum/3", "grpc"),
        (
            "/Service/properties/connectTimeout/description",
            "Default 1s.",
        ),
        ("/Service/properties/hashPolicy/type", "array"),
        (
            "/Service/properties/healthCheck/$ref",
            "#/components/schemas/HealthCheck",
        ),
        (
            "/HealthCheck/properties/tcp/description",
            "Excludes http and grpc.",
        ),
        ("/Endpoint/properties/expiresAt/format", "date-time"),
        ("/Endpoint/properties/port/type", "integer"),
        (
            "/Region/properties/gateways/items/$ref",
            "#/components/schemas/Gateway",
        ),
        (
            "/ServiceList/properties/services/items/$ref",
            "#/components/schemas/Service",
        ),
    ] {
        assert_eq!(
            schemas.pointer(pointer),
            Some(&Value::from(expect)),
            "{pointer}"
        );
    }
    let put = &document["paths"]["/v1/services/{service}"]["put"];
    assert_eq!(put["description"], "Creates or replaces a service.");
    let explain = document["paths"]["/v1/explain"]["get"]["parameters"]
        .as_array()
        .unwrap();
    let names: Vec<_> = explain
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["service", "region", "caller", "header"]);
}
