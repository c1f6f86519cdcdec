//! A request's content in 32 bytes: a retry has the same fingerprint, and another request has another fingerprint.
//!
//! The fingerprint covers the JSON as it was received, in the canonical form of RFC 8785: white space, the order of members and
//! the spelling of numbers don't count. On purpose: the fingerprint does not cover the typed body, so that a release with a new
//! member still accepts the retries of older requests.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use super::{Error, FieldError};

/// The largest integer that every JSON parser reads exactly: 2^53 - 1. Canonical JSON knows no larger one.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// The version of new fingerprints. If the form changes, it gets a new number, and [`Received::matches`] must know the old
/// versions while their records live.
pub const FINGERPRINT_VERSION: u8 = 1;

/// The content that a fingerprint covers.
#[derive(Clone, Debug)]
pub struct Received {
    method: String,
    path: String,
    canonical: Vec<u8>,
}

impl Received {
    pub(super) fn new(method: &str, path: String, canonical: Vec<u8>) -> Self {
        Self { method: method.to_owned(), path, canonical }
    }

    /// SHA-256 over the version, the method, the path and the canonical JSON, each part with its length.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([FINGERPRINT_VERSION]);
        for part in [self.method.as_bytes(), self.path.as_bytes(), &self.canonical] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Whether a record's fingerprint is the fingerprint of this request. None: a later release made the record, and this
    /// release does not know its version.
    #[must_use]
    pub fn matches(&self, version: u8, fingerprint: &[u8]) -> Option<bool> {
        (version == FINGERPRINT_VERSION).then(|| self.fingerprint() == fingerprint)
    }
}

/// JSON in the canonical form of RFC 8785.
pub(super) fn canonical(json: &Value) -> Result<Vec<u8>, Error> {
    serde_json_canonicalizer::to_vec(json).map_err(|e| Error::MalformedJson(e.to_string()))
}

/// Reads JSON strictly: UTF-8, no lone surrogates, no member twice, no number that an f64 can't hold, no nesting beyond
/// 128 levels. No bytes at all are `{}`. `1.0` and `1e0` are the integer 1, as they are in canonical JSON.
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

/// The most faults that an answer names. A person mends a few at a time, and an answer must not grow with a hostile body.
pub const MAX_FAULTS: usize = 20;

/// The longest pointer to an unsafe integer, in bytes. Twenty pointers stay far below the body's own limit.
const MAX_POINTER: usize = 255;

/// Finds the integers beyond 2^53-1, at most [`MAX_FAULTS`] of them: canonical JSON can't hold them.
pub(super) fn unsafe_integers(value: &Value) -> Vec<FieldError> {
    let mut found = Vec::new();
    find_unsafe_integers(value, &mut String::new(), &mut found);
    found
}

fn find_unsafe_integers(value: &Value, pointer: &mut String, found: &mut Vec<FieldError>) {
    let length = pointer.len();
    match value {
        Value::Number(number) if is_unsafe_integer(number) => {
            let pointer = shortened(pointer);
            if !found.iter().any(|known| known.pointer == pointer) {
                let detail = "integers must be from -(2^53-1) to 2^53-1".to_owned();
                found.push(FieldError { pointer: pointer.to_owned(), detail });
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if found.len() >= MAX_FAULTS {
                    return;
                }
                pointer.push('/');
                pointer.push_str(&index.to_string());
                find_unsafe_integers(item, pointer, found);
                pointer.truncate(length);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                if found.len() >= MAX_FAULTS {
                    return;
                }
                pointer.push('/');
                pointer.push_str(&escape_pointer(name));
                find_unsafe_integers(member, pointer, found);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// The pointer, or if it is too long, the pointer of the nearest value around it whose pointer is not.
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

/// Builds a [`Value`] like `serde_json`, but refuses an object with a member twice: nobody knows which of the two counts.
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

    fn of(json: &str) -> [u8; 32] {
        received("POST", "/v1/orders", json).fingerprint()
    }

    fn received(method: &str, path: &str, json: &str) -> Received {
        Received::new(method, path.to_owned(), canonical(&read_json(json.as_bytes()).unwrap()).unwrap())
    }

    #[test]
    fn spelling_does_not_count() {
        let one = of(r#"{"a":1,"b":[true,null,"\u00e9"],"c":1.50}"#);
        assert_eq!(one, of(" { \"c\" : 15e-1, \"b\":[true , null,\"é\"], \"a\":1.0 }\n"));
        assert_eq!(of(""), of("{}"));
    }

    #[test]
    fn content_counts() {
        let one = of(r#"{"a":1}"#);
        for other in [r#"{"a":2}"#, r#"{"a":"1"}"#, r#"{"a":1,"b":null}"#, r#"{"A":1}"#, "[1]", "null", "{}"] {
            assert_ne!(one, of(other), "{other}");
        }
        assert_ne!(one, received("PUT", "/v1/orders", r#"{"a":1}"#).fingerprint());
        assert_ne!(one, received("POST", "/v1/charges", r#"{"a":1}"#).fingerprint());
    }

    /// Records made by one release are compared by the next: this value may never change under version 1.
    #[test]
    fn version_1_is_fixed() {
        let received = received("POST", "/v1/orders", r#"{"b":1,"a":"x"}"#);
        // Computed apart, with Python's hashlib: the byte 1, then each part behind its length as eight bytes.
        assert_eq!(
            received.fingerprint(),
            [
                0x01, 0x6c, 0x56, 0x04, 0xc1, 0xfb, 0xd1, 0x72, 0xc7, 0x7e, 0xd9, 0x5b, 0x12, 0x29, 0x6d, 0x3c, 0x99,
                0x58, 0xaa, 0x04, 0x5c, 0x2f, 0x7e, 0x27, 0x5f, 0xec, 0x6a, 0x41, 0x2d, 0x2a, 0x98, 0x83
            ]
        );
        assert_eq!(received.matches(2, &received.fingerprint()), None);
    }

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
