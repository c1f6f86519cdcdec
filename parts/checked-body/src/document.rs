// SPDX-License-Identifier: MIT OR Apache-2.0
//! Documents what is read: the schema of an object, and the parameters of a query.

use serde_json::{Map, Value, json};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{RefOr, Required, Schema};

use crate::members::{Member, plain};
use crate::rules::Rule;

/// The documentation of an object's members.
#[derive(Default)]
pub struct Document {
    pub(crate) members: Vec<Documented>,
    /// The named schemas that the object's schema refers to.
    pub referred: Vec<(String, RefOr<Schema>)>,
}

/// A member, as the OpenAPI document shows it.
pub(crate) struct Documented {
    pub name: &'static str,
    pub description: String,
    pub required: bool,
    /// Without the description.
    pub schema: Value,
}

impl Document {
    /// Documents a member. `lines` are the lines of its comment.
    pub fn member<M: Member<R::Value>, R: Rule>(
        &mut self,
        name: &'static str,
        rule: &R,
        lines: &[&str],
        example: Option<Value>,
    ) {
        let name = plain(name);
        let mut schema = rule.schema();
        if let Some(example) = example {
            schema["example"] = example;
        }
        rule.referred(&mut self.referred);
        self.members.push(Documented { name, description: prose(lines), required: M::REQUIRED, schema });
    }

    /// The schema of the whole object, for utoipa.
    #[must_use]
    pub fn schema(self, lines: &[&str], example: Option<Value>) -> RefOr<Schema> {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for member in self.members {
            let schema = if member.required { member.schema } else { or_null(member.schema) };
            properties.insert(member.name.to_owned(), described(schema, &member.description));
            if member.required {
                required.push(member.name);
            }
        }
        let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if let Some(example) = example {
            schema["example"] = example;
        }
        of_json(described(schema, &prose(lines)))
    }

    /// The members as parameters of a query, for utoipa.
    #[must_use]
    pub fn parameters(self) -> Vec<Parameter> {
        let parameter = |member: Documented| {
            ParameterBuilder::new()
                .name(member.name)
                .parameter_in(ParameterIn::Query)
                .required(if member.required { Required::True } else { Required::False })
                .description(Some(member.description))
                .schema(Some(of_json(member.schema)))
                .build()
        };
        self.members.into_iter().map(parameter).collect()
    }
}

/// JSON Schema in utoipa's type.
fn of_json(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).unwrap_or_default()
}

fn or_null(mut schema: Value) -> Value {
    if schema.get("$ref").is_some() {
        return json!({"oneOf": [{"type": "null"}, schema]});
    }
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

fn described(mut schema: Value, description: &str) -> Value {
    if !description.is_empty() {
        schema["description"] = description.into();
    }
    schema
}

fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}
