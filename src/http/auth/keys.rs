//! Accounts and API keys in the database, as an operator creates, lists and revokes them.

use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, Utc};
use diesel::dsl::count_star;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::schema::{accounts, api_keys};

/// The bytes of a key's hash that are the key's id.
const KEY_ID_BYTES: usize = 8;

/// An API key's id: 16 hexadecimal digits. Operators, the log and records name a key by its id.
///
/// It is the first 64 bits of the key's hash. They don't reveal the key, and in practice no two keys share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(u64);

impl KeyId {
    pub(super) fn of(hash: &[u8]) -> Self {
        Self(hash.iter().take(KEY_ID_BYTES).fold(0, |id, byte| id << 8 | u64::from(*byte)))
    }
}

impl From<Vec<u8>> for KeyId {
    fn from(hash: Vec<u8>) -> Self {
        Self::of(&hash)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Creates an account with one API key. Returns the account's id and the key. Nobody can read the key again.
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
    add_key(conn, id, key, None)
}

fn add_key(conn: &mut PgConnection, account_id: Uuid, key: &str, name: Option<&str>) -> QueryResult<()> {
    diesel::insert_into(api_keys::table)
        .values((
            api_keys::hash.eq(hash_of(key).as_slice()),
            api_keys::account_id.eq(account_id),
            api_keys::name.eq(name),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok(())
}

/// An account as an operator sees it.
#[derive(Clone, Debug)]
pub struct AccountRow {
    /// The account's value of `account_id`, the first column of every table.
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
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = api_keys, check_for_backend(diesel::pg::Pg))]
pub struct KeyRow {
    /// The key's id.
    #[diesel(column_name = hash, deserialize_as = Vec<u8>)]
    pub id: KeyId,
    /// The key's name, if it has one.
    pub name: Option<String>,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// When a request last came with the key, to the minute. None if none did since uses have been recorded.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The time of revocation, if the key is revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// The keys of an account, oldest first.
pub fn keys(conn: &mut PgConnection, account_id: Uuid) -> QueryResult<Vec<KeyRow>> {
    api_keys::table
        .filter(api_keys::account_id.eq(account_id))
        .select(KeyRow::as_select())
        .order((api_keys::created_at, api_keys::hash))
        .load(conn)
}

/// Creates another key for an account. Returns the key's id and the key. Nobody can read the key again.
///
/// # Errors
/// A database error. If there is no such account, the error is a foreign key violation.
pub fn create_key(conn: &mut PgConnection, account_id: Uuid, name: Option<&str>) -> QueryResult<(KeyId, String)> {
    let key = new_key();
    add_key(conn, account_id, &key, name)?;
    Ok((KeyId::of(&hash_of(&key)), key))
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

/// Revokes a live key. `key` is the key's id, or the key itself. Returns the key's id and its account, or `None` if
/// there is no such live key. A replica may still accept the key for [`BELIEVED_FOR`](super::BELIEVED_FOR).
pub fn revoke(conn: &mut PgConnection, key: &str) -> QueryResult<Option<(KeyId, Uuid)>> {
    let (from, to) = hashes_of(key);
    let revoked: Option<(Vec<u8>, Uuid)> = diesel::update(api_keys::table)
        .filter(api_keys::hash.between(from.as_slice(), to.as_slice()))
        .filter(api_keys::revoked_at.is_null())
        .set(api_keys::revoked_at.eq(diesel::dsl::now))
        .returning((api_keys::hash, api_keys::account_id))
        .get_result(conn)
        .optional()?;
    Ok(revoked.map(|(hash, account_id)| (KeyId::of(&hash), account_id)))
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

pub(super) fn hash_of(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}
