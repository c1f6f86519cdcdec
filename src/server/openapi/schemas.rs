//! The schemas of the document: those of the types, and what the macros can't express.

use serde_json::{Map, Value, json};

use super::problem::{problem_schema, retry_schema};
use crate::http::endpoint::Api;
use crate::shop::events::EVENT_TYPES;

/// The outcome of a charge or a refund may take time. Their 202 has a schema with this prefix, so that a generated
/// client can tell it from the 201.
const PROCESSING: &str = "Processing";

/// The schema of the 202 beside this schema of the 201.
pub(super) fn processing(schema: &Value) -> Value {
    let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    reference(&format!("{PROCESSING}{name}"))
}

pub(super) fn schemas(api: &Api) -> Value {
    let described = api.endpoints.iter().filter_map(|endpoint| endpoint.described.as_ref());
    let described = described.flat_map(|described| &described.schemas);
    let mut schemas: Map<String, Value> = described.map(|(name, schema)| (name.clone(), json!(schema))).collect();
    for (name, schema) in &mut schemas {
        // The macros repeat the schema of the items in each generic page.
        if let Some(item) = name.strip_prefix("Page_") {
            schema["properties"]["data"]["items"] = reference(item);
        }
    }
    for name in ["Charge", "Refund"] {
        let mut schema = schemas[name].clone();
        schema["description"] = json!(format!("A {} whose outcome is not known yet.", name.to_lowercase()));
        schema["properties"]["status"] =
            json!({"type": "string", "enum": ["processing"], "description": "The outcome is not known yet."});
        schema["properties"]["processing"] = reference("Progress");
        schemas.insert(format!("{PROCESSING}{name}"), schema);
    }
    if let Some(event) = schemas.get_mut("Event") {
        complete_event(event);
    }
    schemas.insert("Problem".to_owned(), problem_schema());
    schemas.insert("Retry".to_owned(), retry_schema());
    Value::Object(schemas)
}

/// An event's type is an open enum, to which later releases add. So its schema is a string, and the description has the
/// list.
fn complete_event(event: &mut Value) {
    let lines: Vec<_> =
        EVENT_TYPES.iter().map(|(name, object)| format!("- `{name}`: `data` is a `{object}`")).collect();
    let names: Vec<_> = EVENT_TYPES.iter().map(|(name, _)| name).collect();
    event["properties"]["type"] = json!({
        "type": "string",
        "description": format!("What happened. Ignore types that you don't know: later releases add some.\n\n{}", lines.join("\n")),
        "examples": names,
    });
    let mut objects: Vec<_> = EVENT_TYPES.iter().map(|(_, object)| *object).collect();
    objects.sort_unstable();
    objects.dedup();
    let objects: Vec<_> = objects.into_iter().map(reference).collect();
    event["properties"]["data"] = json!({"description": "The object after the change.", "anyOf": objects});
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}
