//! Strings that must have a form: names, ids, times.

use chrono::{DateTime, Datelike, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::faults::Faults;
use super::rule::Rule;

/// A form that a string must have.
#[derive(Clone, Copy, Debug)]
pub struct Form<T> {
    /// Reads the string. None: it has another form.
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

/// A name for machines, such as a SKU or a feature.
pub(crate) const fn slug() -> Form<String> {
    Form {
        parse: |text| is_slug(text).then(|| text.to_owned()),
        fault: "must be 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        schema: || {
            let pattern = format!("^[A-Za-z0-9._-]{{1,{MAX_SLUG}}}$");
            json!({"type": "string", "minLength": 1, "maxLength": MAX_SLUG, "pattern": pattern})
        },
    }
}

/// A constraint of the tables has the same limit.
const MAX_SLUG: usize = 64;

/// Whether `slug` accepts the text.
#[must_use]
pub fn is_slug(text: &str) -> bool {
    (1..=MAX_SLUG).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A UUID as the API writes it, with hyphens.
pub(crate) const fn uuid() -> Form<Uuid> {
    Form {
        parse: |text| if text.len() == 36 { Uuid::try_parse(text).ok() } else { None },
        fault: "must be a UUID",
        schema: || json!({"type": "string", "format": "uuid"}),
    }
}

/// A time in RFC 3339, which has years of four digits only.
pub(crate) const fn time() -> Form<DateTime<Utc>> {
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
