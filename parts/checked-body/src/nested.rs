// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules for values that have values inside: an object, a list of objects, and a map whose keys are the client's
//! own.

use std::collections::{BTreeMap, HashSet};
use std::marker::PhantomData;

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::faults::Faults;
use crate::object::{Object, read_object};
use crate::rules::{Rule, Text};

/// An object inside the body.
#[must_use]
pub const fn nested<T: Object + ToSchema>() -> impl Rule<Value = T> {
    Nested(PhantomData)
}

struct Nested<T>(PhantomData<T>);

impl<T: Object + ToSchema> Rule for Nested<T> {
    type Value = T;

    fn read(&self, json: &Value, faults: &mut Faults) -> Option<T> {
        read_object(json, faults)
    }

    fn schema(&self) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", T::name())})
    }

    fn referred(&self, schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// A list of `min` to `max` objects. No two have the same `key`: a member's name, and the function that gets its value.
#[must_use]
pub const fn list<T: Object + ToSchema>(
    min: usize,
    max: usize,
    key: (&'static str, fn(&T) -> &str),
) -> impl Rule<Value = Vec<T>> {
    List { min, max, key }
}

struct List<T> {
    min: usize,
    max: usize,
    key: (&'static str, fn(&T) -> &str),
}

impl<T: Object + ToSchema> Rule for List<T> {
    type Value = Vec<T>;

    fn read(&self, json: &Value, faults: &mut Faults) -> Option<Vec<T>> {
        let Value::Array(items) = json else { return faults.refuse("must be an array") };
        if items.len() < self.min {
            faults.add(format!("must have at least {}", counted(self.min)));
        } else if items.len() > self.max {
            faults.add(format!("must have at most {}", counted(self.max)));
        }
        // The items beyond the maximum have their fault already.
        let items = items.iter().take(self.max).enumerate();
        let read = |(index, item)| faults.inside(&usize::to_string(&index), |faults| read_object(item, faults));
        let items: Vec<Option<T>> = items.map(read).collect();
        let (name, key) = self.key;
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            if item.as_ref().is_some_and(|item| !seen.insert(key(item))) {
                faults.inside(&index.to_string(), |faults| faults.inside(name, |faults| faults.add("appears twice")));
            }
        }
        items.into_iter().collect()
    }

    fn schema(&self) -> Value {
        let item = nested::<T>().schema();
        json!({"type": "array", "minItems": self.min, "maxItems": self.max, "items": item})
    }

    fn referred(&self, schemas: &mut Vec<(String, RefOr<Schema>)>) {
        nested::<T>().referred(schemas);
    }
}

fn counted(items: usize) -> String {
    if items == 1 { "1 item".to_owned() } else { format!("{items} items") }
}

/// A map of at most `most` texts. An entry that is null counts as absent.
#[must_use]
pub const fn map(most: usize, key: Text, value: Text) -> Map {
    Map { most, key, value }
}

/// See `map`.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    most: usize,
    key: Text,
    value: Text,
}

impl Rule for Map {
    type Value = BTreeMap<String, String>;

    fn read(&self, json: &Value, faults: &mut Faults) -> Option<Self::Value> {
        let Value::Object(received) = json else { return faults.refuse("must be an object") };
        let entries = || received.iter().filter(|(_, value)| !value.is_null());
        // A fault of a key belongs to the map: a pointer to the key would repeat it, however long it is.
        if entries().count() > self.most {
            faults.add(format!("must have at most {} keys", self.most));
        } else if let Some(fault) = entries().find_map(|(key, _)| self.key.fault(key)) {
            faults.add(format!("every key {fault}"));
        }
        let good = entries().take(self.most).filter(|(key, _)| self.key.fault(key).is_none());
        let mut map = BTreeMap::new();
        for (key, value) in good {
            if !faults.look() {
                return None;
            }
            // An entry that is left out has its fault already.
            if let Some(value) = faults.inside(key, |faults| self.value.read(value, faults)) {
                map.insert(key.clone(), value);
            }
        }
        Some(map)
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "maxProperties": self.most,
            "propertyNames": self.key.schema(),
            "additionalProperties": self.value.schema(),
        })
    }
}
