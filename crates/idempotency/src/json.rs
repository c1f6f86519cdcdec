// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSON, read strictly: what two parsers could read differently is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::{Error, FieldError};
use crate::traits::Body;

/// The largest integer that every JSON parser reads exactly: 2^53 - 1. Canonical JSON has none larger.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// Reads the JSON and the typed body, and reports all faults at once.
///
/// # Errors
/// [`Error::MalformedJson`], [`Error::InvalidBody`].
pub fn parse_body<T: Body>(bytes: &[u8]) -> Result<(Value, T), Error> {
    let json = read_json(bytes)?;
    let mut errors = unsafe_integers(&json);
    match T::parse(&json) {
        Ok(body) if errors.is_empty() => return Ok((json, body)),
        Ok(_) => {}
        Err(more) => {
            errors.retain(|error| !more.iter().any(|other| other.pointer == error.pointer));
            errors.extend(more);
            errors.truncate(MAX_FAULTS);
        }
    }
    Err(Error::InvalidBody(errors))
}

/// Reads JSON strictly: UTF-8, no lone surrogates, no member twice, no number that an f64 can't hold, no nesting beyond
/// 128 levels. An empty body is `{}`. `1.0` and `1e0` are the integer 1, as they are in canonical JSON.
///
/// # Errors
/// [`Error::MalformedJson`].
pub fn read_json(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let malformed = |e: serde_json::Error| Error::MalformedJson(e.to_string());
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut parser).map_err(malformed)?;
    parser.end().map_err(malformed)?;
    Ok(value)
}

/// The most faults that an answer names. A person fixes a few at a time, and an answer must not grow with a hostile
/// body.
pub const MAX_FAULTS: usize = 20;

/// The longest pointer to an unsafe integer, in bytes. Twenty pointers stay far below the body's own limit.
const MAX_POINTER: usize = 255;

/// Finds the integers beyond 2^53-1, at most [`MAX_FAULTS`] of them: canonical JSON can't hold them.
fn unsafe_integers(value: &Value) -> Vec<FieldError> {
    let mut found = Vec::new();
    find_unsafe_integers(value, &mut String::new(), &mut found);
    found
}

fn find_unsafe_integers(value: &Value, pointer: &mut String, found: &mut Vec<FieldError>) {
    let mut look_below = |token: &str, below: &Value| {
        if found.len() < MAX_FAULTS {
            let length = pointer.len();
            pointer.push('/');
            pointer.push_str(token);
            find_unsafe_integers(below, pointer, found);
            pointer.truncate(length);
        }
    };
    match value {
        Value::Number(number) if is_unsafe_integer(number) => {
            let pointer = shortened(pointer);
            if !found.iter().any(|known| known.pointer == pointer) {
                let detail = "integers must be from -(2^53-1) to 2^53-1".to_owned();
                found.push(FieldError { pointer: pointer.to_owned(), detail });
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| look_below(&index.to_string(), item));
        }
        Value::Object(members) => members.iter().for_each(|(name, member)| look_below(&escape_pointer(name), member)),
        _ => {}
    }
}

/// The pointer, or if it is too long, that of the nearest enclosing value whose pointer is short enough.
fn shortened(pointer: &str) -> &str {
    if pointer.len() <= MAX_POINTER {
        return pointer;
    }
    let end = pointer.as_bytes()[..=MAX_POINTER].iter().rposition(|byte| *byte == b'/');
    &pointer[..end.unwrap_or_default()]
}

fn is_unsafe_integer(number: &Number) -> bool {
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => !(-MAX_SAFE_INTEGER..=MAX_SAFE_INTEGER).contains(&integer),
        // An integer too long for an i64 was read as a float; every float of that size is whole.
        (None, Some(float)) => float.abs() >= 9_007_199_254_740_992.0,
        (None, None) => true,
    }
}

/// A member's name as a reference token of RFC 6901.
#[must_use]
pub fn escape_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Builds a [`Value`] like `serde_json`, but refuses an object that repeats a member: nobody knows which of the two
/// counts.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "whole numbers up to 2^53 - 1")]
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if value.fract() == 0.0 && value.abs() <= MAX_SAFE_INTEGER as f64 {
            return Ok((value as i64).into());
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict)?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the member {name:?} occurs twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_json_is_malformed() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        let vectors = [
            "{",
            "nul",
            "{}x",
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"\u0061":2}}"#,
            r#""\ud800""#,
            "1e400",
            "[1,]",
            "'a'",
            "NaN",
            &deep,
        ];
        for json in vectors {
            assert!(matches!(read_json(json.as_bytes()), Err(Error::MalformedJson(_))), "{json}");
        }
        assert!(matches!(read_json(b"\"\xff\""), Err(Error::MalformedJson(_))));
    }

    #[test]
    fn integers_beyond_2_53_are_named() {
        let json = read_json(br#"{"a/b":[0,9007199254740992],"c":-123456789012345678901234567890}"#).unwrap();
        let pointers: Vec<_> = unsafe_integers(&json).into_iter().map(|error| error.pointer).collect();
        assert_eq!(pointers, ["/a~1b/1", "/c"]);
        assert_eq!(unsafe_integers(&read_json(b"[9007199254740991,-9007199254740991]").unwrap()), []);
    }

    #[test]
    fn twenty_unsafe_integers_are_named_by_short_pointers() {
        let pointers = |json: &str| -> Vec<String> {
            unsafe_integers(&read_json(json.as_bytes()).unwrap()).into_iter().map(|fault| fault.pointer).collect()
        };
        let many = vec!["9007199254740992"; 3800].join(",");
        let first: Vec<_> = (0..20).map(|index| format!("/a/{index}")).collect();
        assert_eq!(pointers(&format!(r#"{{"a":[{many}],"b":{{"c":[{many}]}}}}"#)), first);
        let long = "é".repeat(10_000);
        assert_eq!(pointers(&format!(r#"{{"a":{{"{long}":[{many}]}},"{long}":{{"b":[{many}]}}}}"#)), ["/a", ""]);
        let deep = "[".repeat(120) + &many + &"]".repeat(120);
        assert!(pointers(&deep).len() == 20 && pointers(&deep).iter().all(|pointer| pointer.len() <= MAX_POINTER));
        let fits = "b".repeat(MAX_POINTER - 3);
        assert_eq!(pointers(&format!(r#"{{"{fits}":[9007199254740992]}}"#)), [format!("/{fits}/0")]);
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_spelt() {
        assert_eq!(read_json(b"[1.0,1e0,10e-1,-0.0,1.5,1e20]").unwrap().to_string(), "[1,1,1,0,1.5,1e+20]");
    }
}
