//! The statements on the one table: claim, record, find, guard. (The one that settles is in `settle.rs`.) Each runs inside the caller's transaction.
//!
//! The statements of the hot path are query fragments with a static id, so that PostgreSQL plans them once a connection;
//! Diesel would send an UPDATE unprepared each time.

use std::time::Duration;

use actix_web::web::Bytes;
use chrono::{DateTime, Utc};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{BigInt, Binary, Bool, Double, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::fingerprint::FINGERPRINT_VERSION;
use super::key::Address;
use super::reply::{MAX_BODY, Reply};
use super::schema::idempotency_keys;
use super::statement::Statement;

const CURRENT_VERSION: i16 = FINGERPRINT_VERSION as i16;

/// A record as it stands in the table, with a reply: none commits without one.
#[derive(Clone, Debug)]
pub struct Record {
    /// Names the record in lists. Made by the request that claimed, so it also tells a request its own record.
    pub id: Uuid,
    /// What the stored fingerprint was computed under.
    pub fingerprint_version: u8,
    /// Of the request that claimed.
    pub fingerprint: Vec<u8>,
    /// The reply, final or provisional.
    pub reply: Reply,
    /// None while the reply is provisional.
    pub expires_at: Option<DateTime<Utc>>,
    /// By the database's clock, as the transaction saw it.
    pub expired: bool,
}

/// What a request claims its key with.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub address: Address,
    pub lock: i64,
    pub id: Uuid,
    pub route: &'static str,
    pub fingerprint: [u8; 32],
}

/// What the claim found.
pub(super) enum Claimed {
    /// The key is this transaction's, and there is no record.
    Free,
    /// A record stands, live or expired.
    Stands(Record),
    /// Another transaction holds the key.
    InFlight,
}

/// The reply is over [`MAX_BODY`]: a defect of the endpoint that made it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a reply of {0} bytes is over the stored limit of {MAX_BODY}")]
pub struct ReplyTooLarge(pub usize);

type RecordColumns = (
    Nullable<SqlUuid>,
    Nullable<SmallInt>,
    Nullable<Binary>,
    Nullable<SmallInt>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Binary>,
    Nullable<Timestamptz>,
    Nullable<Bool>,
);

type RecordRow = (
    Option<Uuid>,
    Option<i16>,
    Option<Vec<u8>>,
    Option<i16>,
    Option<String>,
    Option<String>,
    Option<Vec<u8>>,
    Option<DateTime<Utc>>,
    Option<bool>,
);

fn record_of(row: RecordRow) -> Option<Record> {
    let (id, version, fingerprint, status, content_type, location, body, expires_at, expired) = row;
    Some(Record {
        id: id?,
        fingerprint_version: u8::try_from(version?).ok()?,
        fingerprint: fingerprint?,
        reply: Reply { status: u16::try_from(status?).ok()?, content_type, location, body: Bytes::from(body?) },
        expires_at,
        expired: expired.unwrap_or(false),
    })
}

/// Claims the key until the transaction ends, or tells who has it, in one statement that waits for nobody.
///
/// The claim is an advisory lock that is only tried: it keeps duplicates from running, and from waiting inside the
/// database. It is the unique key that makes it right, see [`record`].
pub(super) fn claim(conn: &mut PgConnection, claim: &Claim) -> QueryResult<Claimed> {
    let (got, record): (bool, RecordRow) = ClaimStatement(claim).get_result(conn)?;
    Ok(match (got, record_of(record)) {
        (true, None) => Claimed::Free,
        // An expired record whose lock is taken is being taken over: whoever went on to the guard would wait in the database.
        (false, Some(record)) if record.expired => Claimed::InFlight,
        (_, Some(record)) => Claimed::Stands(record),
        (false, None) => Claimed::InFlight,
    })
}

struct ClaimStatement<'a>(&'a Claim);

impl QueryId for ClaimStatement<'_> {
    type QueryId = ClaimStatement<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for ClaimStatement<'_> {
    type SqlType = (Bool, RecordColumns);
}

impl RunQueryDsl<PgConnection> for ClaimStatement<'_> {}

impl QueryFragment<Pg> for ClaimStatement<'_> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let Claim { address, lock, .. } = self.0;
        let mut sql = Statement::new(
            out,
            "WITH claim AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(?) AS got)
             SELECT claim.got,
               record.id, record.fingerprint_version, record.fingerprint, record.status, record.content_type,
               record.location, record.body, record.expires_at, record.expires_at <= now()
             FROM claim
             LEFT JOIN idempotency_keys record ON record.account_id = ? AND record.scope = ? AND record.key = ?",
        );
        sql.bind::<BigInt, _>(lock)?;
        sql.bind::<SqlUuid, _>(&address.account_id)?;
        sql.bind::<Text, _>(&address.scope)?;
        sql.bind::<Text, _>(&address.key)?;
        sql.end();
        Ok(())
    }
}

/// Writes the record with its reply, as a new one or in the place of an expired one, and returns when it expires.
///
/// `last_write` is what the body left to this statement.
///
/// The unique key decides. It is an error, after which the whole transaction runs again, when a live record is in the way:
/// a transaction of this key committed after the claim looked and before it had the lock. The next claim finds its record.
pub(super) fn record(
    conn: &mut PgConnection,
    claim: &Claim,
    reply: &Reply,
    ttl: Duration,
    last_write: &(impl QueryFragment<Pg> + QueryId),
) -> QueryResult<Option<DateTime<Utc>>> {
    let status = status_column(reply)?;
    let written = RecordStatement { claim, status, reply, ttl: ttl.as_secs_f64(), last_write }.get_result(conn);
    written.map_err(|error| if error == DieselError::NotFound { overtaken() } else { error })
}

fn overtaken() -> DieselError {
    let what = "another transaction recorded this key first".to_owned();
    DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, Box::new(what))
}

pub(super) fn status_column(reply: &Reply) -> QueryResult<i16> {
    i16::try_from(reply.status).map_err(|e| DieselError::SerializationError(e.into()))
}

struct RecordStatement<'a, W> {
    claim: &'a Claim,
    status: i16,
    reply: &'a Reply,
    /// In seconds.
    ttl: f64,
    last_write: &'a W,
}

impl<W: QueryId> QueryId for RecordStatement<'_, W> {
    type QueryId = RecordStatement<'static, W::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = W::HAS_STATIC_QUERY_ID;
}

impl<W> Query for RecordStatement<'_, W> {
    type SqlType = Nullable<Timestamptz>;
}

impl<W> RunQueryDsl<PgConnection> for RecordStatement<'_, W> {}

impl<W: QueryFragment<Pg>> QueryFragment<Pg> for RecordStatement<'_, W> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.last_write.walk_ast(out.reborrow())?;
        let Claim { address, id, route, fingerprint, .. } = self.claim;
        let mut sql = Statement::new(
            out,
            " INSERT INTO idempotency_keys AS record
               (account_id, scope, key, id, route, fingerprint_version, fingerprint, status, content_type, location, body,
                expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CASE WHEN ? <> 202 THEN now() + make_interval(secs => ?) END)
             ON CONFLICT (account_id, scope, key) DO UPDATE SET
               id = excluded.id, route = excluded.route, fingerprint_version = excluded.fingerprint_version,
               fingerprint = excluded.fingerprint, status = excluded.status, content_type = excluded.content_type,
               location = excluded.location, body = excluded.body, created_at = excluded.created_at,
               expires_at = excluded.expires_at
             WHERE record.expires_at <= now()
             RETURNING expires_at",
        );
        sql.bind::<SqlUuid, _>(&address.account_id)?;
        sql.bind::<Text, _>(&address.scope)?;
        sql.bind::<Text, _>(&address.key)?;
        sql.bind::<SqlUuid, _>(id)?;
        sql.bind::<Text, _>(*route)?;
        sql.bind::<SmallInt, _>(&CURRENT_VERSION)?;
        sql.bind::<Binary, _>(fingerprint)?;
        sql.bind::<SmallInt, _>(&self.status)?;
        sql.bind::<Nullable<Text>, _>(&self.reply.content_type)?;
        sql.bind::<Nullable<Text>, _>(&self.reply.location)?;
        sql.bind::<Binary, _>(&*self.reply.body)?;
        sql.bind::<SmallInt, _>(&self.status)?;
        sql.bind::<Double, _>(&self.ttl)?;
        sql.end();
        Ok(())
    }
}

/// The record at an address, as a query: its type is too long to write.
macro_rules! record_at {
    ($address:expr) => {
        idempotency_keys::table
            .filter(idempotency_keys::account_id.eq($address.account_id))
            .filter(idempotency_keys::scope.eq(&$address.scope))
            .filter(idempotency_keys::key.eq(&$address.key))
            .select((
                idempotency_keys::id.nullable(),
                idempotency_keys::fingerprint_version.nullable(),
                idempotency_keys::fingerprint.nullable(),
                idempotency_keys::status.nullable(),
                idempotency_keys::content_type,
                idempotency_keys::location,
                idempotency_keys::body.nullable(),
                idempotency_keys::expires_at,
                idempotency_keys::expires_at.le(diesel::dsl::now.into_sql::<Timestamptz>().nullable()),
            ))
    };
}

/// Tells how a record stands, without a lock: good for an answer, not for a decision to write.
///
/// # Errors
/// The database's.
pub fn find(conn: &mut PgConnection, address: &Address) -> QueryResult<Option<Record>> {
    let row: Option<RecordRow> = record_at!(address).first(conn).optional()?;
    Ok(row.and_then(record_of))
}

/// Locks an existing record until the transaction ends, and tells how it stands then; none where there is none. Every
/// change to an existing record (takeover, settle) goes through here: what it decides by can't change under it.
///
/// # Errors
/// The database's.
pub fn guard(conn: &mut PgConnection, address: &Address) -> QueryResult<Option<Record>> {
    let row: Option<RecordRow> = record_at!(address).for_update().first(conn).optional()?;
    Ok(row.and_then(record_of))
}
