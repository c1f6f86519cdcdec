// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules for the values that clients send. A rule states a limit once: it checks the value and documents the limit.

use chrono::{DateTime, Datelike, Utc};
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

use crate::faults::Faults;

/// What a value must be.
pub trait Rule {
    /// The value in Rust.
    type Value;

    /// Reads the value. Adds one fault and returns None if the value breaks the rule.
    fn read(&self, json: &Value, faults: &mut Faults) -> Option<Self::Value>;

    /// The rule as JSON Schema.
    fn schema(&self) -> Value;

    /// Adds the named schemas that [`Self::schema`] refers to.
    fn referred(&self, _schemas: &mut Vec<(String, RefOr<Schema>)>) {}
}

/// A text of 1 to `max` characters. It has no control characters: one of them is NUL, which PostgreSQL's text can't
/// hold.
#[must_use]
pub const fn text(max: usize) -> Text {
    Text { max }
}

/// See `text`.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    max: usize,
}

impl Text {
    /// What is wrong with the text.
    pub(crate) fn fault(self, text: &str) -> Option<String> {
        if text.is_empty() {
            Some("must have at least 1 character".to_owned())
        } else if text.chars().nth(self.max).is_some() {
            Some(format!("must have at most {} characters", self.max))
        } else if text.chars().any(char::is_control) {
            Some("must not have control characters".to_owned())
        } else {
            None
        }
    }
}

impl Rule for Text {
    type Value = String;

    fn read(&self, json: &Value, faults: &mut Faults) -> Option<String> {
        let Value::String(text) = json else { return faults.refuse("must be a string") };
        match self.fault(text) {
            None => Some(text.clone()),
            Some(fault) => faults.refuse(fault),
        }
    }

    fn schema(&self) -> Value {
        let printable = r"^[^\u0000-\u001f\u007f-\u009f]*$";
        json!({"type": "string", "minLength": 1, "maxLength": self.max, "pattern": printable})
    }
}

/// An integer from `min` to `max`.
#[must_use]
pub const fn int<T>(min: T, max: T) -> Int<T> {
    Int { min, max }
}

/// See `int`.
#[derive(Clone, Copy, Debug)]
pub struct Int<T> {
    min: T,
    max: T,
}

impl<T: Copy + Into<i64> + TryFrom<i64>> Rule for Int<T> {
    type Value = T;

    fn read(&self, json: &Value, faults: &mut Faults) -> Option<T> {
        let (min, max) = (self.min.into(), self.max.into());
        match whole(json) {
            None => faults.refuse("must be an integer"),
            Some(number) if number < min => faults.refuse(format!("must be at least {min}")),
            Some(number) if number > max => faults.refuse(format!("must be at most {max}")),
            Some(number) => T::try_from(number).ok(),
        }
    }

    fn schema(&self) -> Value {
        let format = format!("int{}", 8 * size_of::<T>());
        json!({"type": "integer", "format": format, "minimum": self.min.into(), "maximum": self.max.into()})
    }
}

/// The integer. One that an i64 can't hold becomes the nearest i64: no limit lies beyond.
#[expect(clippy::cast_possible_truncation, reason = "a float that is too large becomes the nearest i64")]
fn whole(json: &Value) -> Option<i64> {
    let number = json.as_number()?;
    number.as_i64().or_else(|| number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i64))
}

/// True or false.
#[must_use]
pub const fn boolean() -> impl Rule<Value = bool> {
    Boolean
}

struct Boolean;

impl Rule for Boolean {
    type Value = bool;

    fn read(&self, json: &Value, faults: &mut Faults) -> Option<bool> {
        json.as_bool().or_else(|| faults.refuse("must be true or false"))
    }

    fn schema(&self) -> Value {
        json!({"type": "boolean"})
    }
}

/// One of these words. `word` says how a value is written.
#[must_use]
pub const fn one_of<T: Copy>(all: &'static [T], word: fn(T) -> &'static str) -> impl Rule<Value = T> {
    OneOf { all, word }
}

struct OneOf<T: 'static> {
    all: &'static [T],
    word: fn(T) -> &'static str,
}

impl<T: Copy> OneOf<T> {
    fn words(&self) -> Vec<&'static str> {
        self.all.iter().map(|value| (self.word)(*value)).collect()
    }
}

impl<T: Copy> Rule for OneOf<T> {
    type Value = T;

    fn read(&self, json: &Value, faults: &mut Faults) -> Option<T> {
        let known = json.as_str().and_then(|text| self.all.iter().find(|value| (self.word)(**value) == text));
        known.copied().or_else(|| faults.refuse(format!("must be one of {}", self.words().join(", "))))
    }

    fn schema(&self) -> Value {
        json!({"type": "string", "enum": self.words()})
    }
}

/// A form that a string must have.
#[derive(Clone, Copy, Debug)]
pub struct Form<T> {
    /// Reads the string. None if it has another form.
    pub parse: fn(&str) -> Option<T>,
    /// The fault of any other value.
    pub fault: &'static str,
    /// The form as JSON Schema.
    pub schema: fn() -> Value,
}

impl<T> Rule for Form<T> {
    type Value = T;

    fn read(&self, json: &Value, faults: &mut Faults) -> Option<T> {
        json.as_str().and_then(self.parse).or_else(|| faults.refuse(self.fault))
    }

    fn schema(&self) -> Value {
        (self.schema)()
    }
}

/// A UUID, written with hyphens.
#[must_use]
pub const fn uuid() -> Form<Uuid> {
    Form {
        parse: |text| if text.len() == 36 { Uuid::try_parse(text).ok() } else { None },
        fault: "must be a UUID",
        schema: || json!({"type": "string", "format": "uuid"}),
    }
}

/// A time in RFC 3339, which has years of four digits only.
#[must_use]
pub const fn time() -> Form<DateTime<Utc>> {
    Form {
        parse: |text| {
            // chrono accepts a space for the `T`. Other servers and most clients don't.
            let time = DateTime::parse_from_rfc3339(text).ok().filter(|_| !text.contains(' '))?.to_utc();
            (0..=9999).contains(&time.year()).then_some(time)
        },
        fault: "must be a time in RFC 3339, such as 2027-01-31T12:00:00Z",
        schema: || json!({"type": "string", "format": "date-time"}),
    }
}
