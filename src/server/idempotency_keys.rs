//! `GET /v1/idempotency-keys`: the answer to "what happened to my request?". A record names the resource that the key made
//! (`location`), the request that used the key first (`request_id`), and what a retry gets (`on_retry`).

use actix_web::HttpResponse;
use actix_web::web::Data;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::db::Db;
use crate::http::ApiError;
use crate::http::auth::Account;
use crate::http::rules::text;
use crate::http::{Page, Paging, object};
use idempotency::{self, Listed};

object! {
    /// The filter of the list of records.
    pub struct Filter {
        /// Only the records of this key, in all key spaces. The key is written without quotes.
        key: Option<String> = text(255),
    }
}

/// An idempotency record without its reply. Whoever asks for records may not be allowed to see replies.
#[derive(Debug, Serialize, ToSchema)]
pub struct Record {
    /// UUIDv7.
    id: Uuid,
    /// The client's key, without quotes.
    key: String,
    /// The key space: `account`, a route, or a route with its ids.
    scope: String,
    /// The route of the request that used the key first.
    route: String,
    /// The state of the record.
    state: State,
    /// The HTTP status of the reply.
    status: i16,
    /// The resource that the request made: the reply's `Location`. Null if the reply has no `Location`.
    #[schema(required)]
    location: Option<String>,
    /// The `X-Request-Id` of the request that used the key first. The log has a line with this id.
    request_id: Uuid,
    /// What a request with this key gets now.
    on_retry: OnRetry,
    /// The time of the request that used the key first.
    created_at: DateTime<Utc>,
    /// The time until which the reply is replayed. Null while the reply is provisional.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
}

/// The state of the record.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The reply is a 202 until the outcome is known.
    Provisional,
    /// The reply is replayed.
    Final,
    /// The key is free again, and the record is about to be deleted.
    Expired,
}

/// What a request with a key gets now.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnRetry {
    /// The same request gets the reply again. Another request is refused.
    Replays,
    /// The same request gets 202 until the outcome is known, and then the outcome.
    Waits,
    /// The key is free, and a request runs. At charges and refunds the request is refused, because the key made a charge or a
    /// refund.
    Runs,
}

impl From<State> for OnRetry {
    fn from(state: State) -> Self {
        match state {
            State::Provisional => Self::Waits,
            State::Final => Self::Replays,
            State::Expired => Self::Runs,
        }
    }
}

impl From<Listed> for Record {
    fn from(listed: Listed) -> Self {
        let state = match listed.expired {
            None => State::Provisional,
            Some(false) => State::Final,
            Some(true) => State::Expired,
        };
        Self {
            id: listed.id,
            key: listed.key,
            scope: listed.scope,
            route: listed.route,
            state,
            status: listed.status,
            location: listed.location,
            request_id: listed.request_id,
            on_retry: state.into(),
            created_at: listed.created_at,
            expires_at: listed.expires_at,
        }
    }
}

/// `GET /v1/idempotency-keys`
///
/// # Errors
/// 422 for a bad page or key.
#[utoipa::path(get, path = "/v1/idempotency-keys", operation_id = "listIdempotencyKeys", tag = "Idempotency", summary = "What became of a key",
    description = "Newest first, of this account, in every key space.",
    params(Paging<Uuid, Filter>),
    responses((status = 200, body = Page<Record>, description = "A page")))]
pub async fn list(account: Account, paging: Paging<Uuid, Filter>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(account.id, move |conn| {
            let key = paging.filter.key.as_deref();
            let records = idempotency::list(conn, account.id, key, paging.after, paging.rows())?;
            Ok(paging.page(records.into_iter().map(Record::from).collect()))
        })
        .await?;
    Ok(HttpResponse::Ok().json(page))
}
