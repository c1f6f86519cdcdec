//! Maps whose keys are the client's own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::faults::Faults;
use super::rule::{Rule, Text};

/// A map of at most `most` texts. An entry that is null counts as absent.
pub(crate) const fn map(most: usize, key: Text, value: Text) -> Map {
    Map { most, key, value }
}

/// The rule that `map` makes.
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
            // An entry that is left out has its fault.
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
