// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `Idempotency-Key` header, and the address of its record.
//!
//! The header follows draft-ietf-httpapi-idempotency-key-header: an RFC 9651 String in quotes, whose parameters are ignored.
//! Most clients send the key bare, without quotes, so that is accepted too: `"abc"` and `abc` are one key.

use std::fmt::Write as _;
use std::hash::Hash;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::Error;
use crate::policy::{Policy, Scope};

/// The longest key, in characters. The draft sets no limit. 255 hold any UUID, ULID or order number, and keep the index small.
pub const MAX_KEY_LENGTH: usize = 255;

/// A client's name for one request: 1 to 255 ASCII characters, without the quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// Reads the value of the header `Idempotency-Key`.
    ///
    /// # Errors
    /// [`Error::KeyInvalid`].
    pub fn parse(value: &[u8]) -> Result<Self, Error> {
        let text = str::from_utf8(value).ok().filter(|text| text.is_ascii());
        let text = text.ok_or(Error::KeyInvalid("only ASCII characters are allowed"))?.trim_matches([' ', '\t']);
        let key = if text.starts_with('"') { quoted(text)? } else { bare(text)? };
        match key.len() {
            0 => Err(Error::KeyInvalid("the key is empty")),
            1..=MAX_KEY_LENGTH => Ok(Self(key)),
            _ => Err(Error::KeyInvalid("the key is longer than 255 characters")),
        }
    }

    /// A key that no client has used.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// The key without quotes and escapes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A bare key: visible characters, except quotes, escapes, and those with which a proxy joins two headers.
fn bare(text: &str) -> Result<String, Error> {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | ',' | ';' | '\\');
    if text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(Error::KeyInvalid("a key with spaces, quotes, commas, semicolons or backslashes must be a quoted string"))
    }
}

/// An RFC 9651 String. Its parameters are ignored, but must be well-formed: other text after the quote may be a second header
/// that a proxy joined to this one.
fn quoted(text: &str) -> Result<String, Error> {
    match sfv::Parser::new(text).parse::<sfv::Item>() {
        Ok(sfv::Item { bare_item: sfv::BareItem::String(key), .. }) => Ok(key.into()),
        _ => Err(Error::KeyInvalid("it begins with a quote, and is not one quoted string of RFC 9651")),
    }
}

/// A record's primary key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The authenticated caller.
    pub account_id: Uuid,
    /// The key space: the [`Scope`] as text.
    pub scope: String,
    /// The client's key.
    pub key: String,
}

impl Address {
    /// The address of a request's record under a policy. `ids` are the path's ids, as the handler parsed them.
    ///
    /// # Errors
    /// [`Error::ResourceNotNamed`], [`Error::NoSuchResource`].
    pub fn new(account_id: Uuid, policy: &Policy, ids: &[String], key: &Key) -> Result<Self, Error> {
        let scope = match policy.scope {
            Scope::Account => "account".to_owned(),
            Scope::Route => policy.route.to_owned(),
            Scope::Resource => format!("{} {}", policy.method(), policy.path(ids)?),
        };
        Ok(Self { account_id, scope, key: key.0.clone() })
    }

    /// The [digest](Self::digest) in hex: a name for this request that may be given to an external system. Nothing in it
    /// is random, so a request keeps its reference even if the database loses the record.
    #[must_use]
    pub fn reference(&self) -> String {
        self.digest().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string can't fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// SHA-256 over the address. Each part goes in with its length, so that two addresses never have the same input.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.account_id.as_bytes());
        for part in [&self.scope, &self.key] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }

    /// The advisory lock of this address. Two addresses share a lock with a probability of 2^-64. Then one request
    /// waits for the other, and nothing worse happens.
    pub(crate) fn lock(&self) -> i64 {
        self.digest().first_chunk().map_or(0, |first| i64::from_be_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &[u8]) -> Result<String, Error> {
        Key::parse(header).map(|key| key.0)
    }

    #[test]
    fn keys_are_read_from_both_forms() {
        let vectors: &[(&str, &str)] = &[
            ("abc", "abc"),
            // Base64 and ULIDs differ in case alone.
            ("aBc", "aBc"),
            ("\"aBc\"", "aBc"),
            ("\"abc\"", "abc"),
            ("  abc\t", "abc"),
            ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ("order:17/retry=2", "order:17/retry=2"),
            ("\"a b\"", "a b"),
            ("\"say \\\"hi\\\" \\\\\"", "say \"hi\" \\"),
            ("\"a,b;c\"", "a,b;c"),
            ("\"abc\";v=1", "abc"),
            ("\"abc\"; v=1;w;x=\"a;b\\\"c\";y=?1;z=:YQ==:", "abc"),
            ("\"abc\";a=%\"f%c3%bc\"", "abc"),
            ("\"abc\";a=%\"\";b=@1659578233;c=-1.5", "abc"),
            ("\" \"", " "),
        ];
        for (header, key) in vectors {
            assert_eq!(parse(header.as_bytes()).as_deref().ok(), Some(*key), "{header}");
        }
    }

    #[test]
    fn what_is_not_one_key_is_refused() {
        let vectors: &[&[u8]] = &[
            b"",
            b"  ",
            b"\"\"",
            b"\"abc",
            b"abc\"",
            b"a b",
            b"a,b",
            b"abc, abc",
            b"\"abc\", \"abc\"",
            b"a;v=1",
            b"a\\b",
            b"\"a\\b\"",
            b"\"a\\",
            b"\"a\"b",
            b"\"a\" b",
            b"\"a\";",
            b"\"a\";=1",
            b"\"a\";V=1",
            b"\"a\";v=",
            b"\"a\";v=\"x",
            b"\"a\";v=%\"x",
            b"\"a\";v=%\"x\"y",
            b"\"a\tb\"",
            "schl\u{fc}ssel".as_bytes(),
            "\"schl\u{fc}ssel\"".as_bytes(),
            b"a\"b",
            b"\"abc\";v=1,x",
        ];
        for header in vectors {
            assert!(parse(header).is_err(), "{:?} was taken for a key", String::from_utf8_lossy(header));
        }
    }

    #[test]
    fn the_length_is_counted_without_quotes_and_escapes() {
        let (fits, long) = ("k".repeat(255), "k".repeat(256));
        assert_eq!(parse(fits.as_bytes()).ok(), Some(fits.clone()));
        assert_eq!(parse(format!("\"{fits}\"").as_bytes()).ok(), Some(fits));
        assert_eq!(parse(format!("\"{}\"", "\\\\".repeat(255)).as_bytes()).ok(), Some("\\".repeat(255)));
        assert!(parse(long.as_bytes()).is_err());
        assert!(parse(format!("\"{long}\"").as_bytes()).is_err());
    }

    #[test]
    fn addresses_differ_by_every_part() {
        let address = |account: u128, scope: &str, key: &str| Address {
            account_id: Uuid::from_u128(account),
            scope: scope.into(),
            key: key.into(),
        };
        let digest = address(1, "account", "k").digest();
        for other in [address(2, "account", "k"), address(1, "accountk", ""), address(1, "account", "kk")] {
            assert_ne!(digest, other.digest());
        }
    }
}
