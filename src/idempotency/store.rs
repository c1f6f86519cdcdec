//! The statements on the one table: claim, record, find, guard. (Settling is in `settle.rs`, deleting in `sweep.rs`.) Each runs
//! inside the caller's transaction, or is one.
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
use diesel::sql_types::{self, BigInt, Binary, Bool, Double, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::fingerprint::FINGERPRINT_VERSION;
use super::key::Address;
use super::reply::{MAX_BODY, Reply};
use super::schema::idempotency_keys;
use super::statement::Statement;
use super::write::Write;

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
    SqlUuid,
    SmallInt,
    Binary,
    SmallInt,
    Nullable<Text>,
    Nullable<Text>,
    Binary,
    Nullable<Timestamptz>,
    Nullable<Bool>,
);

type RecordRow =
    (Uuid, i16, Vec<u8>, i16, Option<String>, Option<String>, Vec<u8>, Option<DateTime<Utc>>, Option<bool>);

impl From<RecordRow> for Record {
    fn from(row: RecordRow) -> Self {
        let (id, version, fingerprint, status, content_type, location, body, expires_at, expired) = row;
        Self {
            id,
            // A version beyond a byte is as unknown to this release as 255 is.
            fingerprint_version: u8::try_from(version).unwrap_or(u8::MAX),
            fingerprint,
            reply: Reply { status: status.unsigned_abs(), content_type, location, body: Bytes::from(body) },
            expires_at,
            expired: expired.unwrap_or(false),
        }
    }
}

/// Claims the key until the transaction ends, or tells who has it, in one statement that waits for nobody.
///
/// The claim is an advisory lock that is only tried: it keeps duplicates from running, and from waiting inside the
/// database. It is the unique key that makes it right, see [`record`].
pub(super) fn claim(conn: &mut PgConnection, claim: &Claim) -> QueryResult<Claimed> {
    let (got, record): (bool, Option<RecordRow>) = ClaimStatement(claim).get_result(conn)?;
    Ok(match (got, record.map(Record::from)) {
        (true, None) => Claimed::Free,
        // An expired record whose lock is taken is being replaced: whoever went on to the guard would wait in the database.
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
    type SqlType = (Bool, Nullable<sql_types::Record<RecordColumns>>);
}

impl RunQueryDsl<PgConnection> for ClaimStatement<'_> {}

impl QueryFragment<Pg> for ClaimStatement<'_> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let Claim { address, lock, .. } = self.0;
        let mut sql = Statement::new(
            out,
            "WITH claim AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(?) AS got)
             SELECT claim.got, CASE WHEN record.id IS NOT NULL THEN ROW (
               record.id, record.fingerprint_version, record.fingerprint, record.status, record.content_type,
               record.location, record.body, record.expires_at, record.expires_at <= now()) END
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

/// What became of the record.
pub(super) enum Recorded {
    /// It is written, and expires then.
    Until(Option<DateTime<Utc>>),
    /// Another transaction holds the key, and nothing is written.
    InFlight,
}

/// Writes the record with its reply, together with `write`, waiting for nobody that holds the key.
///
/// It holds the key while it runs: by the lock that the [`claim`] of its transaction took, or else by its own. Where another
/// one has that, the record has no account, which the table refuses before anything else is written.
///
/// The unique key decides. Where a record of the key is in the way (its transaction committed since the look), or where
/// `write` is outdated, nothing is written and the error says to run all of it again. The next look finds what there is.
pub(super) fn record(
    conn: &mut PgConnection,
    claim: &Claim,
    reply: &Reply,
    ttl: Duration,
    write: &impl Write,
) -> QueryResult<Recorded> {
    let status = status_column(reply)?;
    match (RecordStatement { claim, status, reply, ttl: expires_in(reply, ttl), write }).get_result(conn) {
        Ok(expires_at) => Ok(Recorded::Until(expires_at)),
        Err(refusal) if is_held(&refusal) => Ok(Recorded::InFlight),
        Err(refusal) if is_taken(&refusal) || write.is_outdated(&refusal) => Err(run_again(&refusal)),
        Err(refusal) => Err(refusal),
    }
}

fn is_held(refusal: &DieselError) -> bool {
    use DatabaseErrorKind::NotNullViolation;
    matches!(refusal, DieselError::DatabaseError(NotNullViolation, what)
        if what.table_name() == Some(TABLE) && what.column_name() == Some("account_id"))
}

/// The primary key is the one unique key of the table.
fn is_taken(refusal: &DieselError) -> bool {
    use DatabaseErrorKind::UniqueViolation;
    matches!(refusal, DieselError::DatabaseError(UniqueViolation, what) if what.table_name() == Some(TABLE))
}

const TABLE: &str = "idempotency_keys";

fn run_again(refusal: &DieselError) -> DieselError {
    let what = format!("somebody else was faster: {refusal}");
    DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, Box::new(what))
}

/// Seconds until the record expires: none while the reply is provisional.
pub(super) fn expires_in(reply: &Reply, ttl: Duration) -> Option<f64> {
    (!reply.is_provisional()).then_some(ttl.as_secs_f64())
}

pub(super) fn status_column(reply: &Reply) -> QueryResult<i16> {
    i16::try_from(reply.status).map_err(|e| DieselError::SerializationError(e.into()))
}

struct RecordStatement<'a, W> {
    claim: &'a Claim,
    status: i16,
    reply: &'a Reply,
    /// In seconds; none of a provisional reply, which never expires.
    ttl: Option<f64>,
    write: &'a W,
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
        self.write.walk_ast(out.reborrow())?;
        let Claim { address, lock, id, route, fingerprint } = self.claim;
        let mut sql = Statement::new(
            out,
            " INSERT INTO idempotency_keys
               (account_id, scope, key, id, route, fingerprint_version, fingerprint, status, content_type, location, body,
                expires_at)
             SELECT CASE WHEN got THEN ? END, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now() + make_interval(secs => ?)
             FROM (SELECT pg_try_advisory_xact_lock(?) AS got) lock
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
        sql.bind::<Nullable<Double>, _>(&self.ttl)?;
        sql.bind::<BigInt, _>(lock)?;
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
                idempotency_keys::id,
                idempotency_keys::fingerprint_version,
                idempotency_keys::fingerprint,
                idempotency_keys::status,
                idempotency_keys::content_type,
                idempotency_keys::location,
                idempotency_keys::body,
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
    Ok(row.map(Record::from))
}

/// Locks an existing record until the transaction ends, and tells how it stands then; none where there is none. Every
/// change to an existing record goes through here, so what it decides by can't change under it; only an expired one may be
/// deleted by whoever looks at its expiry again under the lock.
///
/// # Errors
/// The database's.
pub fn guard(conn: &mut PgConnection, address: &Address) -> QueryResult<Option<Record>> {
    let row: Option<RecordRow> = record_at!(address).for_update().first(conn).optional()?;
    Ok(row.map(Record::from))
}
