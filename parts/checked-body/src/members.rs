// SPDX-License-Identifier: MIT OR Apache-2.0
//! The members of an object that a client sent, or the parameters of a query.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::faults::Faults;
use crate::rules::Rule;

/// The longest name of an unknown member that a pointer repeats. No known member has a longer one, so a longer name is
/// not a misspelling of one, and the answer stays short.
const MAX_NAME: usize = 40;

/// The members of a received object, or the parameters of a query.
pub struct Members<'a> {
    received: &'a Map<String, Value>,
    /// For a query: the names of the parameters that appear more than once.
    query: Option<&'a HashSet<String>>,
    known: Vec<&'static str>,
    faults: &'a mut Faults,
}

impl<'a> Members<'a> {
    /// `query` is for a query: the names of the parameters that appear more than once.
    pub(crate) fn new(
        received: &'a Map<String, Value>,
        query: Option<&'a HashSet<String>>,
        faults: &'a mut Faults,
    ) -> Self {
        Self { received, query, known: Vec::new(), faults }
    }

    /// Reads a member by its rule. A member that is null counts as absent.
    pub fn read<M: Member<R::Value>, R: Rule>(&mut self, name: &'static str, rule: &R) -> Option<M> {
        let name = plain(name);
        self.known.push(name);
        if !self.faults.look() {
            return None;
        }
        let value = self.received.get(name).filter(|value| !value.is_null());
        let query = self.query;
        self.faults.inside(name, |faults| {
            let Some(value) = value else {
                return M::of(None).or_else(|| faults.refuse("is missing"));
            };
            let value = match query {
                None => rule.read(value, faults),
                Some(repeated) if repeated.contains(name) => faults.refuse("appears twice"),
                Some(_) => rule.read(&of_query(value.as_str().unwrap_or_default(), rule), faults),
            };
            M::of(Some(value?))
        })
    }

    /// Refuses what no call of [`Self::read`] named: a client that sends it expects an effect.
    pub(crate) fn refuse_unknown(&mut self) {
        let detail = if self.query.is_some() { "unknown parameter" } else { "unknown member" };
        let mut too_long = false;
        for (name, value) in self.received {
            if !self.faults.look() {
                return;
            }
            if value.is_null() || self.known.contains(&name.as_str()) {
                continue;
            }
            if name.len() > MAX_NAME {
                too_long = true;
            } else {
                self.faults.inside(name, |faults| faults.add(detail));
            }
        }
        if too_long {
            self.faults.add(format!("{detail} with a name of more than {MAX_NAME} bytes"));
        }
    }
}

/// The JSON that a parameter of a query stands for.
fn of_query(text: &str, rule: &impl Rule) -> Value {
    match rule.schema()["type"].as_str() {
        Some("integer") => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        Some("boolean") => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}

/// A member's name without the `r#` of a raw identifier, such as `r#type`.
pub(crate) fn plain(name: &'static str) -> &'static str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// How a struct holds a member: itself if the member is required, in an `Option` if not.
pub trait Member<V>: Sized {
    /// Whether the member must be there.
    const REQUIRED: bool;

    /// The member with this value, or without one. None if it is required and absent.
    fn of(value: Option<V>) -> Option<Self>;
}

impl<V> Member<V> for V {
    const REQUIRED: bool = true;

    fn of(value: Option<V>) -> Option<Self> {
        value
    }
}

impl<V> Member<V> for Option<V> {
    const REQUIRED: bool = false;

    fn of(value: Option<V>) -> Option<Self> {
        Some(value)
    }
}
