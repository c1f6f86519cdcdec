//! The rules for objects inside a body: one object, and a list of objects.

use std::collections::HashSet;
use std::marker::PhantomData;

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::faults::Faults;
use super::object::{Object, read_object};
use super::rule::Rule;

/// An object inside the body.
pub(crate) const fn nested<T>() -> Nested<T> {
    Nested(PhantomData)
}

/// See `nested`.
#[derive(Clone, Copy, Debug)]
pub struct Nested<T>(PhantomData<T>);

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

/// A list of `min` to `max` objects. No two have the same `key`, a member that is given by its name and by how to get it.
pub(crate) const fn list<T>(min: usize, max: usize, key: (&'static str, fn(&T) -> &str)) -> List<T> {
    List { min, max, key }
}

/// See `list`.
#[derive(Clone, Copy, Debug)]
pub struct List<T> {
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
        // What follows the last allowed item has its fault already.
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
