//! Who is calling: accounts and their API keys.
//!
//! A key is shown once, when it is made; the database has its SHA-256. A key that was found is believed for
//! ten seconds, so that authentication costs no round trip on each request: a revoked key stops working that late.

use std::future::{Ready, ready};
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::db::{Db, NOBODY};
use crate::error::ApiError;
use crate::problems::{INTERNAL, UNAUTHORIZED};
use crate::schema::{accounts, api_keys};

/// How long a key that was found is believed without looking again.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// Keys remembered at most: some 100 bytes each, and more accounts than one process serves within ten seconds.
const REMEMBERED_KEYS: u64 = 10_000;

/// The authenticated caller.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// The first column of every table.
    pub id: Uuid,
}

impl FromRequest for Account {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    /// What [`authenticate`] found out.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let account = request.extensions().get::<Self>().copied();
        ready(account.ok_or_else(|| ApiError::new(&INTERNAL, "this route is not behind authentication")))
    }
}

/// The keys found lately.
#[derive(Clone)]
pub struct KnownKeys(Cache<[u8; 32], Account>);

impl Default for KnownKeys {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(REMEMBERED_KEYS).time_to_live(BELIEVED_FOR).build())
    }
}

/// Middleware of every `/v1` route. It runs after routing, and before anything of the request is read.
///
/// # Errors
/// None of its own: a refusal is an answer.
pub async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match account_of(&request).await {
        Ok(account) => {
            request.extensions_mut().insert(account);
            Ok(next.call(request).await?.map_into_boxed_body())
        }
        Err(error) => Ok(request.error_response(error)),
    }
}

async fn account_of(request: &ServiceRequest) -> Result<Account, ApiError> {
    let refused = |detail: &str| ApiError::new(&UNAUTHORIZED, detail);
    let header = request.headers().get(AUTHORIZATION).ok_or_else(|| refused("the Authorization header is missing"))?;
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
    let found = known.0.try_get_with(hash, db.read(NOBODY, move |conn| find(conn, hash)));
    found.await.map_err(|error: std::sync::Arc<ApiError>| (*error).clone())
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

/// Makes an account with one API key, and returns both. The key can't be had again.
///
/// # Errors
/// The database's.
pub fn create_account(conn: &mut PgConnection, name: &str) -> QueryResult<(Uuid, String)> {
    // Two random UUIDs hold 244 random bits of the operating system's.
    let key = format!("sk_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let id = Uuid::now_v7();
    conn.transaction(|conn| add_account(conn, id, name, &key))?;
    Ok((id, key))
}

/// Adds an account with a given id and key, unless it is there.
///
/// # Errors
/// The database's.
pub fn add_account(conn: &mut PgConnection, id: Uuid, name: &str, key: &str) -> QueryResult<()> {
    diesel::insert_into(accounts::table)
        .values((accounts::account_id.eq(id), accounts::name.eq(name)))
        .on_conflict_do_nothing()
        .execute(conn)?;
    diesel::insert_into(api_keys::table)
        .values((api_keys::hash.eq(hash_of(key).as_slice()), api_keys::account_id.eq(id)))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok(())
}

fn hash_of(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}
