// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reply as it is stored, and the answer to one request.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde::Serialize;

use crate::schema::idempotency_keys;

/// The largest body that is stored, in bytes. Each key stores a reply for a day, so replies must be small. A quarter of
/// a mebibyte is several times the largest order. A request with a larger reply fails with 500 and rolls back.
pub const MAX_BODY: usize = 256 * 1024;

/// The reply is over [`MAX_BODY`]: a defect of the endpoint that made the reply.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a reply of {0} bytes is over the stored limit of {MAX_BODY}")]
pub struct ReplyTooLarge(pub usize);

/// The first Retry-After of a 202, in seconds. Most outcomes come within a second.
const PROVISIONAL_RETRY_AFTER: u64 = 1;

/// Status, headers and body, as stored and replayed. Only two headers are stored. Other headers (dates, request ids, cookies)
/// belong to one answer.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = idempotency_keys)]
pub struct Reply {
    /// The HTTP status. Only a 202 is provisional.
    #[diesel(deserialize_as = i16)]
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// The body, byte for byte.
    #[diesel(deserialize_as = Vec<u8>)]
    pub body: Bytes,
}

impl Reply {
    /// A JSON reply.
    ///
    /// # Errors
    /// `body` doesn't serialize: a map has keys that aren't strings, or a `Serialize` fails.
    pub fn json<T: Serialize>(status: u16, body: &T) -> Result<Self, serde_json::Error> {
        let body = Bytes::from(serde_json::to_vec(body)?);
        Ok(Self { status, content_type: Some("application/json".to_owned()), location: None, body })
    }

    /// 201, with the `Location` of the new object.
    ///
    /// # Errors
    /// As [`Reply::json`].
    pub fn created<T: Serialize>(location: String, body: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { location: Some(location), ..Self::json(201, body)? })
    }

    /// 200.
    ///
    /// # Errors
    /// As [`Reply::json`].
    pub fn ok<T: Serialize>(body: &T) -> Result<Self, serde_json::Error> {
        Self::json(200, body)
    }

    /// Whether a later reply will replace this one.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.status == 202
    }
}

/// Where an answer comes from, for the header `Idempotency-Replayed`, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This request's own body ran.
    Fresh,
    /// This request's own body ran. The answer to COMMIT was lost, and the reply was read back from the record.
    Recovered,
    /// An earlier or a concurrent request made the reply.
    Replayed,
}

/// The answer to a request: plain data, which [`Answer::into_http`] turns into a response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The stored reply.
    pub reply: Reply,
    /// Where the answer comes from.
    pub origin: Origin,
    /// When the reply expires. None while the reply is provisional.
    pub expires_at: Option<DateTime<Utc>>,
    /// While the reply is provisional: the seconds until the client should send again.
    pub retry_after: u64,
}

impl Answer {
    pub(crate) fn new(reply: Reply, origin: Origin, expires_at: Option<DateTime<Utc>>) -> Self {
        Self { reply, origin, expires_at, retry_after: PROVISIONAL_RETRY_AFTER }
    }
}
