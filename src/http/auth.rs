//! Accounts and their API keys: who the caller is.
//!
//! Guarantees: an API key is shown once, when it is created. The database holds only the SHA-256 of the key.
//!
//! Not guaranteed: that a revoked key stops at once. A process trusts a key that it found for ten seconds, so that
//! authentication does not cost a round trip on each request.

mod keys;
mod known;

use std::future::{Ready, ready};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use idempotency::Credential;
use uuid::Uuid;

use self::keys::hash_of;
pub use self::keys::{
    AccountRow, KeyId, KeyRow, accounts, add_account, create_account, create_key, is_live, keys, revoke,
};
pub use self::known::{BELIEVED_FOR, KnownKeys};
use crate::db::{AUTHENTICATION, Db};
use crate::http::ApiError;
use crate::http::problems::{INTERNAL, UNAUTHORIZED};
use crate::schema::api_keys;

/// The authenticated caller.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// The account's value of `account_id`, the first column of every table.
    pub id: Uuid,
}

impl FromRequest for Account {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    /// The account that [`authenticate`] found.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let account = request.extensions().get::<Self>().copied();
        ready(account.ok_or_else(|| ApiError::new(&INTERNAL, "this route is not behind authentication")))
    }
}

/// Finds the account by the request's API key, and keeps both for the handler, the log and the record.
///
/// # Errors
/// 401. The database's.
pub async fn authenticate(request: &ServiceRequest) -> Result<(), ApiError> {
    let refused = |detail: &str| ApiError::new(&UNAUTHORIZED, detail);
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let header = headers.next().ok_or_else(|| refused("the Authorization header is missing"))?;
    if headers.next().is_some() {
        return Err(refused("the Authorization header was sent more than once"));
    }
    let key = header
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim())
        .ok_or_else(|| refused("the Authorization header must be Bearer with an API key"))?;
    let (Some(db), Some(known)) = (request.app_data::<Data<Db>>(), request.app_data::<Data<KnownKeys>>()) else {
        return Err(ApiError::internal("the application has no database"));
    };
    let hash = hash_of(key);
    let key_id = KeyId::of(&hash);
    // Even if the key is refused: somebody may be looking for the client that still sends a revoked key.
    request.extensions_mut().insert(key_id);
    let account = if let Some(account) = known.get(&hash) {
        account
    } else {
        let account = db.read(AUTHENTICATION, move |conn| find(conn, hash)).await?;
        known.insert(hash, account);
        account
    };
    let mut extensions = request.extensions_mut();
    extensions.insert(account);
    // The record of the request's idempotency key names the API key.
    extensions.insert(Credential(key_id.to_string()));
    Ok(())
}

fn find(conn: &mut PgConnection, hash: [u8; 32]) -> Result<Account, ApiError> {
    let account_id = api_keys::table
        .filter(api_keys::hash.eq(hash.as_slice()))
        .filter(api_keys::revoked_at.is_null())
        .select(api_keys::account_id)
        .first(conn)
        .optional()?;
    account_id.map(|id| Account { id }).ok_or_else(|| ApiError::new(&UNAUTHORIZED, "the API key is unknown or revoked"))
}
