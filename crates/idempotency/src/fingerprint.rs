// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request's content in 32 bytes: a retry has the same fingerprint, and another request has another one.
//!
//! The fingerprint covers the JSON as it was received, in the canonical form of RFC 8785: white space, the order of members and
//! the spelling of numbers don't count. A member that is null counts as absent, since clients differ in which of the two they
//! send. It does not cover the typed body, so a release that adds a member still accepts retries of older requests.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// A body in the canonical form of RFC 8785.
#[derive(Clone, Debug)]
pub(crate) struct Canonical {
    /// Without the members that are null.
    without_nulls: Vec<u8>,
    /// As received, if a member is null.
    with_nulls: Option<Vec<u8>>,
}

impl Canonical {
    /// # Errors
    /// [`Error::MalformedJson`].
    pub fn of(mut json: Value) -> Result<Self, Error> {
        let bytes =
            |json: &Value| serde_json_canonicalizer::to_vec(json).map_err(|e| Error::MalformedJson(e.to_string()));
        let received = bytes(&json)?;
        if remove_nulls(&mut json) {
            Ok(Self { without_nulls: bytes(&json)?, with_nulls: Some(received) })
        } else {
            Ok(Self { without_nulls: received, with_nulls: None })
        }
    }
}

/// Removes the members that are null, at every depth. Returns whether there was one. The elements of arrays are not members.
fn remove_nulls(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let before = members.len();
            members.retain(|_, member| !member.is_null());
            let removed = members.len() < before;
            members.values_mut().fold(removed, |removed, member| remove_nulls(member) | removed)
        }
        Value::Array(items) => items.iter_mut().fold(false, |removed, item| remove_nulls(item) | removed),
        _ => false,
    }
}

/// The content that a fingerprint covers.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    method: &'static str,
    path: String,
    canonical: Canonical,
}

/// The fingerprint of a body without a null member. Release 0.1.0 gave it to every body.
const VERSION_1: i16 = 1;

/// The fingerprint of a body with a null member, which is left out.
const VERSION_2: i16 = 2;

impl Received {
    pub fn new(method: &'static str, path: String, canonical: Canonical) -> Self {
        Self { method, path, canonical }
    }

    /// The version of this request's fingerprint. If the form changes, it gets a new number, and [`Self::matches`] must know the
    /// old versions while their records live.
    pub fn version(&self) -> i16 {
        if self.canonical.with_nulls.is_some() { VERSION_2 } else { VERSION_1 }
    }

    /// The fingerprint, as a new record stores it.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.hash(self.version(), &self.canonical.without_nulls)
    }

    /// Whether a record's fingerprint is the fingerprint of this request. None if a later release made the record, with
    /// a version that this release does not know.
    ///
    /// A record of version 1 may come from release 0.1.0, which kept the nulls. Both releases run during a rollout.
    pub fn matches(&self, version: i16, fingerprint: &[u8]) -> Option<bool> {
        let Canonical { without_nulls, with_nulls } = &self.canonical;
        let is = |canonical: &Vec<u8>| self.hash(version, canonical) == fingerprint;
        match version {
            VERSION_1 => Some(is(without_nulls) || with_nulls.as_ref().is_some_and(is)),
            VERSION_2 => Some(is(without_nulls)),
            _ => None,
        }
    }

    /// SHA-256 over the version, the method, the path and the canonical JSON, each part with its length.
    fn hash(&self, version: i16, canonical: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        // The low byte: since version 1, the hash has had one byte for the version.
        hash.update(&version.to_be_bytes()[1..]);
        for part in [self.method.as_bytes(), self.path.as_bytes(), canonical] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::read_json;

    fn of(json: &str) -> [u8; 32] {
        received("POST", "/v1/orders", json).fingerprint()
    }

    fn received(method: &'static str, path: &str, json: &str) -> Received {
        Received::new(method, path.to_owned(), Canonical::of(read_json(json.as_bytes()).unwrap()).unwrap())
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
        for other in [r#"{"a":2}"#, r#"{"a":"1"}"#, r#"{"A":1}"#, "[1]", "null", "{}"] {
            assert_ne!(one, of(other), "{other}");
        }
        assert_ne!(one, received("PUT", "/v1/orders", r#"{"a":1}"#).fingerprint());
        assert_ne!(one, received("POST", "/v1/charges", r#"{"a":1}"#).fingerprint());
    }

    /// A release compares records that an earlier release made: this value must never change under version 1.
    #[test]
    fn version_1_is_fixed() {
        let received = received("POST", "/v1/orders", r#"{"b":1,"a":"x"}"#);
        // Computed independently, with Python's hashlib: the byte 1, then each part after its length in eight bytes.
        assert_eq!(
            received.fingerprint(),
            [
                0x01, 0x6c, 0x56, 0x04, 0xc1, 0xfb, 0xd1, 0x72, 0xc7, 0x7e, 0xd9, 0x5b, 0x12, 0x29, 0x6d, 0x3c, 0x99,
                0x58, 0xaa, 0x04, 0x5c, 0x2f, 0x7e, 0x27, 0x5f, 0xec, 0x6a, 0x41, 0x2d, 0x2a, 0x98, 0x83
            ]
        );
        assert_eq!(received.matches(3, &received.fingerprint()), None);
    }

    #[test]
    fn a_null_member_counts_as_absent_at_every_depth_and_a_null_element_does_not() {
        let (with, without) = (r#"{"a":{"b":null,"c":[{"d":null}]},"e":null}"#, r#"{"a":{"c":[{}]}}"#);
        let (with, without) = (received("POST", "/", with), received("POST", "/", without));
        assert_eq!((with.version(), without.version()), (2, 1));
        assert_eq!(with.matches(1, &without.fingerprint()), Some(true));
        assert_eq!(without.matches(2, &with.fingerprint()), Some(true));
        assert_ne!(of(r#"{"a":[null]}"#), of(r#"{"a":[]}"#));
        let other = received("POST", "/", r#"{"a":{"c":[{"d":1}]}}"#);
        assert_eq!(
            (other.matches(1, &without.fingerprint()), other.matches(2, &with.fingerprint())),
            (Some(false), Some(false))
        );
    }

    /// Release 0.1.0 kept the nulls, in version 1.
    #[test]
    fn a_record_of_release_0_1_0_with_a_null_is_replayed() {
        let retry = received("POST", "/v1/charges/1/refunds", r#"{"amount":null}"#);
        let old = retry.hash(VERSION_1, br#"{"amount":null}"#);
        assert_eq!(retry.matches(1, &old), Some(true));
        assert_eq!(received("POST", "/v1/charges/1/refunds", r#"{"amount":1}"#).matches(1, &old), Some(false));
    }
}
