//! Checks JSON against its documented schema. All faults are found at once, and described in words of JSON.
//!
//! The schema is the schema of the OpenAPI document, so the document can't promise what the server refuses. The type checks
//! what a schema can't express, for example that an order names a SKU only once.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError, Validator};
use serde_json::{Map, Value, json};

use idempotency::{FieldError, escape_pointer};

/// The schemas' pattern for text without control characters.
const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// The schemas' pattern for a name for machines, for example a SKU.
const SLUG: &str = r"^[A-Za-z0-9._-]{1,64}$";

/// A compiled schema. An error is a defect.
type Compiled = Arc<Result<Validator, String>>;

/// All faults of `json` by the schema of `T`. The schema is compiled once.
pub fn faults<T: 'static>(json: &Value, schema: impl FnOnce() -> Value) -> Vec<FieldError> {
    match &*compiled::<T>(schema) {
        Ok(validator) => {
            let mut faults: Vec<FieldError> = Vec::new();
            for fault in validator.iter_errors(json).flat_map(|error| named(&error)) {
                // One fault for each pointer is enough: an empty name is too short, and its pattern does not match, too.
                if !faults.iter().any(|known| known.pointer == fault.pointer) {
                    faults.push(fault);
                }
            }
            faults
        }
        // If the schema can't be compiled, all JSON is refused.
        Err(cause) => vec![FieldError { pointer: String::new(), detail: format!("can't be checked: {cause}") }],
    }
}

fn compiled<T: 'static>(schema: impl FnOnce() -> Value) -> Compiled {
    static COMPILED: LazyLock<RwLock<HashMap<TypeId, Compiled>>> = LazyLock::new(RwLock::default);
    let of = TypeId::of::<T>();
    if let Some(known) = COMPILED.read().unwrap_or_else(PoisonError::into_inner).get(&of) {
        return Arc::clone(known);
    }
    let mut schema = schema();
    look_past_null(&mut schema);
    let validator = jsonschema::options().should_validate_formats(true).build(&schema);
    let compiled = Arc::new(validator.map_err(|error| error.to_string()));
    COMPILED.write().unwrap_or_else(PoisonError::into_inner).insert(of, Arc::clone(&compiled));
    compiled
}

/// Rewrites "one of null and this" as "this, unless null". So a fault inside gets the pointer of its own member.
fn look_past_null(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Array(choices)) = members.get("oneOf")
                && let [one, other] = choices.as_slice()
            {
                let null = json!({"type": "null"});
                let rest = if *one == null { Some(other) } else { (*other == null).then_some(one) };
                if let Some(rest) = rest.cloned() {
                    members.remove("oneOf");
                    members.extend(Map::from_iter([("if".to_owned(), null), ("else".to_owned(), rest)]));
                }
            }
            members.values_mut().for_each(look_past_null);
        }
        Value::Array(items) => items.iter_mut().for_each(look_past_null),
        _ => {}
    }
}

/// Each fault with its pointer. The pointer of a missing member is the place of the member.
fn named(error: &ValidationError<'_>) -> Vec<FieldError> {
    let at = error.instance_path().as_str();
    let fault = |pointer: String, detail: String| FieldError { pointer, detail };
    let member = |name: &str, detail: &str| fault(format!("{at}/{}", escape_pointer(name)), detail.to_owned());
    match error.kind() {
        Kind::Required { property } => vec![member(property.as_str().unwrap_or_default(), "is missing")],
        Kind::AdditionalProperties { unexpected } => {
            unexpected.iter().map(|name| member(name, "is not known here")).collect()
        }
        _ => vec![fault(at.to_owned(), words(error))],
    }
}

fn words(error: &ValidationError<'_>) -> String {
    match error.kind() {
        Kind::Type { kind } => format!("must be {}", types(kind)),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::MinLength { limit } => format!("must have at least {}", counted(*limit, "character")),
        Kind::MaxLength { limit } => format!("must have at most {}", counted(*limit, "character")),
        Kind::MinItems { limit } => format!("must have at least {}", counted(*limit, "item")),
        Kind::MaxItems { limit } => format!("must have at most {}", counted(*limit, "item")),
        Kind::Pattern { pattern } if pattern == PRINTABLE => "must not have control characters".to_owned(),
        Kind::Pattern { pattern } if pattern == SLUG => {
            "must be 1 to 64 of the characters A-Z a-z 0-9 . _ -".to_owned()
        }
        Kind::Pattern { pattern } => format!("must match {pattern}"),
        Kind::Format { format } if format == "uuid" => "must be a UUID".to_owned(),
        Kind::Format { format } if format == "date-time" => {
            "must be a time in RFC 3339, such as 2027-01-31T12:00:00Z".to_owned()
        }
        Kind::Enum { options } => {
            let options: Vec<_> = options.as_array().into_iter().flatten().map(Value::to_string).collect();
            format!("must be one of {}", options.join(", "))
        }
        _ => error.to_string(),
    }
}

fn counted(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

fn types(kind: &TypeKind) -> String {
    let name = |of: JsonType| match of {
        JsonType::Array => "an array",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "an integer",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "an object",
        JsonType::String => "a string",
    };
    match kind {
        TypeKind::Single(one) => name(*one).to_owned(),
        TypeKind::Multiple(several) => {
            // "an integer or null" reads better than "null or an integer".
            let (null, others): (Vec<_>, Vec<_>) = several.iter().partition(|one| *one == JsonType::Null);
            others.into_iter().chain(null).map(name).collect::<Vec<_>>().join(" or ")
        }
    }
}
