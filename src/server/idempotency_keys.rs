//! `GET /v1/idempotency-keys`: the answer to "what happened to my request?". A record names the resource that the request
//! created (`location`), the request that used the key first (`request_id`), and what a retry gets (`on_retry`).

use actix_web::web::{Data, Json};
use diesel::pg::PgConnection;
use uuid::Uuid;

use crate::db::Db;
use crate::http::ApiError;
use crate::http::auth::Account;
use crate::http::endpoint::{Endpoint, endpoint};
use crate::http::{Page, Paging};
use checked_body::{object, text};
use idempotency::Listed;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_list, list)]
}

object! {
    /// The filter of the list of records.
    pub struct Filter {
        /// Only the records of this key, in all key spaces. Write the key without quotes.
        key: Option<String> = text(255),
    }
}

/// `GET /v1/idempotency-keys`
///
/// # Errors
/// 422 for a bad page or key.
#[utoipa::path(get, path = "/v1/idempotency-keys", operation_id = "listIdempotencyKeys", tag = "Idempotency",
    summary = "List idempotency keys",
    description = "Returns what became of your idempotency keys, newest first. Pass `key` to look up one key in every key space.",
    params(Paging<Uuid, Filter>),
    responses((status = 200, body = Page<Listed>, description = "A page of records")))]
pub async fn list(
    account: Account,
    paging: Paging<Uuid, Filter>,
    db: Data<Db>,
) -> Result<Json<Page<Listed>>, ApiError> {
    let page = move |conn: &mut PgConnection| {
        let key = paging.filter.key.as_deref();
        Ok(paging.page(idempotency::list(conn, account.id, key, paging.after, paging.rows())?))
    };
    db.read(account.id, page).await.map(Json)
}
