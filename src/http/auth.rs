//! Accounts and their API keys: who the caller is.
//!
//! Guarantees: an API key is shown once, when it is made. The database holds only the SHA-256 of the key.
//!
//! Not guaranteed: that a revoked key stops at once. A process trusts a key that it found for ten seconds, so that
//! authentication does not cost a round trip on each request.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};
use chrono::{DateTime, Utc};
use diesel::dsl::count_star;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::db::{Db, NOBODY};
use crate::http::ApiError;
use crate::http::problems::{INTERNAL, UNAUTHORIZED};
use crate::schema::{accounts, api_keys};

/// How long a process trusts a key that it found, before the process looks the key up again.
pub const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// The most keys that a process remembers, some 100 bytes each. One process serves fewer accounts within ten seconds.
const REMEMBERED_KEYS: usize = 10_000;

/// The bytes of a key's hash that are the key's id. Operators see only the id.
const KEY_ID_BYTES: usize = 8;

/// The authenticated caller.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// The value of the first column of every table.
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

/// The keys that were found within [`BELIEVED_FOR`].
#[derive(Clone, Default)]
pub struct KnownKeys(Arc<Mutex<Found>>);

/// The account of each key's hash, and when it was found.
type Found = HashMap<[u8; 32], (Account, Instant)>;

impl KnownKeys {
    fn get(&self, hash: &[u8; 32]) -> Option<Account> {
        let (account, found_at) = *self.0.lock().unwrap_or_else(PoisonError::into_inner).get(hash)?;
        (found_at.elapsed() < BELIEVED_FOR).then_some(account)
    }

    fn insert(&self, hash: [u8; 32], account: Account) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_KEYS {
            // Rare, and the keys come back with their next requests.
            known.clear();
        }
        known.insert(hash, (account, Instant::now()));
    }
}

/// Middleware of every `/v1` route. It runs after routing, and before the server reads the body.
///
/// # Errors
/// Only those of `next`. A refusal is an answer, not an error.
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
    if let Some(account) = known.get(&hash) {
        return Ok(account);
    }
    let account = db.read(NOBODY, move |conn| find(conn, hash)).await?;
    known.insert(hash, account);
    Ok(account)
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

/// Makes an account with one API key. Returns the account's id and the key. Nobody can read the key again.
pub fn create_account(conn: &mut PgConnection, name: &str) -> QueryResult<(Uuid, String)> {
    let (id, key) = (Uuid::now_v7(), new_key());
    conn.transaction(|conn| add_account(conn, id, name, &key))?;
    Ok((id, key))
}

/// Two random UUIDs: 244 random bits from the operating system.
fn new_key() -> String {
    format!("sk_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// Adds an account with this id, and this key for it. An account or a key that exists stays as it is.
pub fn add_account(conn: &mut PgConnection, id: Uuid, name: &str, key: &str) -> QueryResult<()> {
    diesel::insert_into(accounts::table)
        .values((accounts::account_id.eq(id), accounts::name.eq(name)))
        .on_conflict_do_nothing()
        .execute(conn)?;
    add_key(conn, id, key)
}

fn add_key(conn: &mut PgConnection, account_id: Uuid, key: &str) -> QueryResult<()> {
    diesel::insert_into(api_keys::table)
        .values((api_keys::hash.eq(hash_of(key).as_slice()), api_keys::account_id.eq(account_id)))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok(())
}

/// An account as an operator sees it.
#[derive(Clone, Debug)]
pub struct AccountRow {
    /// The value of the first column of every table.
    pub id: Uuid,
    /// The account's name.
    pub name: String,
    /// The number of keys that are not revoked.
    pub live_keys: i64,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
}

/// All accounts, oldest first.
pub fn accounts(conn: &mut PgConnection) -> QueryResult<Vec<AccountRow>> {
    let rows: Vec<(Uuid, String, DateTime<Utc>)> = accounts::table
        .select((accounts::account_id, accounts::name, accounts::created_at))
        .order((accounts::created_at, accounts::account_id))
        .load(conn)?;
    let live: HashMap<Uuid, i64> = api_keys::table
        .filter(api_keys::revoked_at.is_null())
        .group_by(api_keys::account_id)
        .select((api_keys::account_id, count_star()))
        .load::<(Uuid, i64)>(conn)?
        .into_iter()
        .collect();
    let row =
        |(id, name, created_at)| AccountRow { id, name, live_keys: live.get(&id).copied().unwrap_or(0), created_at };
    Ok(rows.into_iter().map(row).collect())
}

/// An API key as an operator sees it. The key itself is not stored.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// 16 hexadecimal digits, the first of the key's hash.
    pub id: String,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The time of revocation, if the key is revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// The keys of an account, oldest first.
pub fn keys(conn: &mut PgConnection, account_id: Uuid) -> QueryResult<Vec<KeyRow>> {
    let rows = api_keys::table
        .filter(api_keys::account_id.eq(account_id))
        .select((api_keys::hash, api_keys::created_at, api_keys::revoked_at))
        .order((api_keys::created_at, api_keys::hash));
    let row = |(hash, created_at, revoked_at): (Vec<u8>, _, _)| KeyRow { id: key_id(&hash), created_at, revoked_at };
    Ok(rows.load(conn)?.into_iter().map(row).collect())
}

/// Makes one more key for an account. Returns the key's id and the key. Nobody can read the key again.
///
/// # Errors
/// A database error. If there is no such account, the error is a foreign key violation.
pub fn create_key(conn: &mut PgConnection, account_id: Uuid) -> QueryResult<(String, String)> {
    let key = new_key();
    add_key(conn, account_id, &key)?;
    Ok((key_id(&hash_of(&key)), key))
}

/// Whether a key exists and is not revoked.
///
/// # Errors
/// A database error.
pub fn is_live(conn: &mut PgConnection, key: &str) -> QueryResult<bool> {
    let hash = hash_of(key);
    let live = api_keys::table.find(hash.as_slice()).filter(api_keys::revoked_at.is_null());
    diesel::select(diesel::dsl::exists(live)).get_result(conn)
}

/// Revokes a live key. `key` is the key's id, or the key itself. Returns the key's id and its account, or `None` if there is no
/// such live key. A replica may still accept the key for [`BELIEVED_FOR`].
pub fn revoke(conn: &mut PgConnection, key: &str) -> QueryResult<Option<(String, Uuid)>> {
    let (from, to) = hashes_of(key);
    let revoked: Option<(Vec<u8>, Uuid)> = diesel::update(api_keys::table)
        .filter(api_keys::hash.between(from.as_slice(), to.as_slice()))
        .filter(api_keys::revoked_at.is_null())
        .set(api_keys::revoked_at.eq(diesel::dsl::now))
        .returning((api_keys::hash, api_keys::account_id))
        .get_result(conn)
        .optional()?;
    Ok(revoked.map(|(hash, account_id)| (key_id(&hash), account_id)))
}

/// The first 64 bits of the hash, in hexadecimal. They don't reveal the key, and in practice no two keys share them.
fn key_id(hash: &[u8]) -> String {
    let first = hash.iter().take(KEY_ID_BYTES).fold(0, |id: u64, byte| id << 8 | u64::from(*byte));
    format!("{first:016x}")
}

/// The lowest and the highest hash that a key or a key's id can mean.
fn hashes_of(key: &str) -> ([u8; 32], [u8; 32]) {
    match u64::from_str_radix(key, 16) {
        Ok(id) if key.len() == 2 * KEY_ID_BYTES => {
            let (mut from, mut to) = ([0; 32], [u8::MAX; 32]);
            from[..KEY_ID_BYTES].copy_from_slice(&id.to_be_bytes());
            to[..KEY_ID_BYTES].copy_from_slice(&id.to_be_bytes());
            (from, to)
        }
        _ => (hash_of(key), hash_of(key)),
    }
}

fn hash_of(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}
