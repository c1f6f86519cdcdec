// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a retry does: one constant for each endpoint.

use std::fmt::Write as _;
use std::time::Duration;

use diesel::pg::data_types::PgInterval;
use serde::{Serialize, Serializer};

use crate::error::Error;

/// The longest scope, in characters, that the table's column holds. A path with ten UUIDs fits.
pub const MAX_SCOPE: usize = 512;

/// An endpoint's promise to clients that retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Policy {
    /// Method and path template, such as `POST /v1/orders`.
    pub route: &'static str,
    /// Where a key is unique.
    pub scope: Scope,
    /// What happens to a final failure of the body.
    pub failures: Failures,
    /// How long a success is replayed, from when it became final.
    #[serde(rename = "success_ttl_seconds", serialize_with = "in_seconds")]
    #[cfg_attr(feature = "utoipa", schema(value_type = u64))]
    pub success_ttl: Duration,
    /// How long a duplicate waits for the request in flight, or for a provisional reply to be finalized. Then the
    /// answer is 409 with Retry-After, or the 202 again. Five seconds outlast nearly every request, and clients wait
    /// for about ten, which is the most that counts.
    #[serde(rename = "wait_seconds", serialize_with = "in_seconds")]
    #[cfg_attr(feature = "utoipa", schema(value_type = u64))]
    pub wait: Duration,
}

/// Where a key is unique: the same key in two scopes names two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Scope {
    /// All routes with this scope share one key space: a key used on one route can't be used on another.
    Account,
    /// Each route has a key space.
    Route,
    /// Each route with its path ids has a key space.
    Resource,
}

/// What happens to a *final* failure of the body. A success is always stored. A transient failure and a 5xx never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Failures {
    /// A failure leaves nothing, and the key is free. A retry runs the body again.
    SuccessOnly,
    /// A failure leaves no business writes. Its reply is stored, and replayed for `failure_ttl`.
    CacheFailures {
        /// How long a failure is replayed, from when it became final.
        #[serde(rename = "failure_ttl_seconds", serialize_with = "in_seconds")]
        #[cfg_attr(feature = "utoipa", schema(value_type = u64))]
        failure_ttl: Duration,
    },
}

fn in_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

impl Scope {
    /// The scope in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Route => "route",
            Self::Resource => "resource",
        }
    }
}

impl Policy {
    /// `POST` of `POST /v1/orders`.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.route.split_once(' ').map_or(self.route, |(method, _)| method)
    }

    /// The path, with these ids in place of its `{..}`, in order, so that each resource has one spelling, whatever the
    /// client wrote. In an id, everything but letters, digits and `-._~` is percent-encoded, so that two lists of ids
    /// never make one path.
    ///
    /// # Errors
    /// [`Error::ResourceNotNamed`]: the path has more places than ids, or fewer. [`Error::NoSuchResource`]: an id contains NUL, or
    /// the method and the path together are over [`MAX_SCOPE`].
    pub fn path(&self, ids: &[String]) -> Result<String, Error> {
        let mut rest = self.route.split_once(' ').map_or("", |(_, path)| path);
        let mut path = String::with_capacity(rest.len() + 36 * ids.len());
        let mut ids = ids.iter();
        while let Some((before, after)) = rest.split_once('{') {
            path.push_str(before);
            let id = ids.next().ok_or(Error::ResourceNotNamed(self.route))?;
            if id.contains('\0') {
                return Err(Error::NoSuchResource);
            }
            push_encoded(&mut path, id);
            rest = after.split_once('}').map_or("", |(_, behind)| behind);
        }
        path.push_str(rest);
        if ids.next().is_some() {
            return Err(Error::ResourceNotNamed(self.route));
        }
        if self.method().len() + 1 + path.len() > MAX_SCOPE { Err(Error::NoSuchResource) } else { Ok(path) }
    }

    /// How long a reply of this status is replayed, from when it became final.
    #[must_use]
    pub const fn ttl(&self, status: u16) -> Duration {
        match self.failures {
            Failures::CacheFailures { failure_ttl } if status >= 400 => failure_ttl,
            _ => self.success_ttl,
        }
    }
}

/// Adds an id as a path segment (RFC 3986).
fn push_encoded(path: &mut String, id: &str) {
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

/// `n` seconds.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` hours.
#[must_use]
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 60 * 60)
}

/// The longest interval, a thousand years: longer ones would leave the range of PostgreSQL's times.
const LONGEST: Duration = hours(1000 * 365 * 24);

/// A duration for PostgreSQL, cut to a thousand years.
#[must_use]
pub fn interval(duration: Duration) -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(duration.min(LONGEST).as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_slashes_never_make_the_path_of_another_resource() {
        let policy = Policy {
            route: "POST /shelves/{shelf}/toys/{toy}",
            scope: Scope::Resource,
            failures: Failures::SuccessOnly,
            success_ttl: hours(1),
            wait: seconds(1),
        };
        let path = |shelf: &str, toy: &str| policy.path(&[shelf.to_owned(), toy.to_owned()]).unwrap();
        assert_ne!(path("a/toys/b", "c"), path("a", "b/toys/c"));
        assert_eq!(path("a/b", "%2F ü"), "/shelves/a%2Fb/toys/%252F%20%C3%BC");
        let id = "0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b";
        assert_eq!(path(id, "17"), format!("/shelves/{id}/toys/17"));
    }

    #[test]
    fn an_id_that_no_row_can_have_is_no_resource() {
        let policy = Policy {
            route: "POST /toys/{id}/paint",
            scope: Scope::Resource,
            failures: Failures::SuccessOnly,
            success_ttl: hours(1),
            wait: seconds(1),
        };
        let fits = "x".repeat(MAX_SCOPE - "POST /toys//paint".len());
        assert!(policy.path(std::slice::from_ref(&fits)).is_ok());
        for id in [fits + "x", "é".repeat(90), "a\0b".to_owned()] {
            assert!(matches!(policy.path(std::slice::from_ref(&id)), Err(Error::NoSuchResource)), "{id:?}");
        }
    }

    /// PostgreSQL's times begin in 4713 BC and end in 294276.
    #[test]
    fn the_longest_interval_stays_within_postgresqls_times() {
        let a_thousand_years = 1000 * 365 * 24 * 60 * 60 * 1_000_000;
        assert_eq!(interval(Duration::MAX).microseconds, a_thousand_years);
    }
}
