// SPDX-License-Identifier: MIT OR Apache-2.0
//! The statements on one record: claim, record, find, lock, finalize. Each runs inside the caller's transaction, or as
//! its own transaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::dsl::{SqlTypeOf, now};
use diesel::pg::data_types::PgInterval;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{BigInt, Bool, Interval, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::connection::Prepared;
use crate::key::Address;
use crate::policy::interval;
use crate::reply::{MAX_BODY, Reply, ReplyTooLarge};
use crate::schema::idempotency_keys;

/// The table's name, for the statements that Diesel does not build. To rename the table in a copy, change this,
/// `schema.rs` and the migrations.
pub(crate) const TABLE: &str = "idempotency_keys";

/// A record as the table has it. Every record has a reply: none commits without one.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = idempotency_keys, check_for_backend(Pg))]
pub struct Record {
    /// Names the record in lists. The request that claimed the key made the id, so a request knows its own record.
    pub id: Uuid,
    /// The version that the fingerprint was computed under.
    pub fingerprint_version: i16,
    /// The fingerprint of the request that claimed the key.
    pub fingerprint: Vec<u8>,
    /// The reply, final or provisional.
    #[diesel(embed)]
    pub reply: Reply,
    /// None while the reply is provisional.
    pub expires_at: Option<DateTime<Utc>>,
    /// By the database's clock, as the statement saw it. None while the reply is provisional, and for a record of this
    /// transaction.
    #[diesel(select_expression = expired())]
    expired: Option<bool>,
}

#[diesel::dsl::auto_type]
fn expired() -> _ {
    idempotency_keys::expires_at.le(now.into_sql::<Timestamptz>().nullable())
}

impl Record {
    /// Whether the record still answers requests. A provisional record always does.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.expired != Some(true)
    }
}

/// What a request claims its key with.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub address: Address,
    pub lock: i64,
    pub id: Uuid,
    pub route: &'static str,
    pub request_id: Uuid,
    pub credential: Option<String>,
    pub fingerprint_version: i16,
    pub fingerprint: [u8; 32],
}

/// The claim's answer.
pub(crate) enum Claimed {
    /// There is no record, and the key is this transaction's until the transaction ends.
    Ours,
    /// The key has a live record.
    Taken(Record),
    /// Another transaction holds the key.
    InFlight,
}

/// The row at an address, as a query: the type of the query is too long to write.
macro_rules! record_at {
    ($address:expr) => {
        idempotency_keys::table.find(($address.account_id, &$address.scope, &$address.key))
    };
}

/// Claims the key until the transaction ends, or says why the key can't be claimed. The claim never waits for another
/// request, except for the row lock of an expired record.
///
/// A live record is returned without a lock, since a lock would make each replay a write. An expired record is locked
/// by [`lock`], checked again, and deleted. If the transaction rolls back, the record is still there.
pub(crate) fn claim(conn: &mut PgConnection, claim: &Claim) -> QueryResult<Claimed> {
    match ClaimStatement(claim).get_result::<(bool, Option<Record>)>(conn)? {
        (_, Some(record)) if record.is_live() => Ok(Claimed::Taken(record)),
        (false, _) => Ok(Claimed::InFlight),
        (true, None) => Ok(Claimed::Ours),
        (true, Some(_)) => match lock(conn, &claim.address)? {
            Some(record) if record.is_live() => Ok(Claimed::Taken(record)),
            Some(_) => remove_expired(conn, &claim.address).map(|_| Claimed::Ours),
            // The sweeper removed the record first.
            None => Ok(Claimed::Ours),
        },
    }
}

/// Deletes the record at an address, if the record is expired.
fn remove_expired(conn: &mut PgConnection, address: &Address) -> QueryResult<usize> {
    diesel::delete(record_at!(address).filter(expired())).execute(conn)
}

/// Tries the advisory lock and reads the record, in one round trip. This is SQL text, because Diesel can't express a join with
/// a function's result. The query fragment has a static id, so that each connection plans the statement once.
///
/// The lock is in a sub-select, so that PostgreSQL calls the volatile function once, before the join. The lock only
/// saves work. The primary key makes the protocol right, see [`record`].
struct ClaimStatement<'a>(&'a Claim);

impl QueryId for ClaimStatement<'_> {
    type QueryId = ClaimStatement<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for ClaimStatement<'_> {
    type SqlType = (Bool, Nullable<SqlTypeOf<<Record as Selectable<Pg>>::SelectExpression>>);
}

impl RunQueryDsl<PgConnection> for ClaimStatement<'_> {}

impl QueryFragment<Pg> for ClaimStatement<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let Claim { address, lock, .. } = self.0;
        out.push_sql(
            "SELECT claim.got, record.id, record.fingerprint_version, record.fingerprint, record.status, \
             record.content_type, record.location, record.body, record.expires_at, record.expires_at <= now() \
             FROM (SELECT pg_try_advisory_xact_lock(",
        );
        out.push_bind_param::<BigInt, _>(lock)?;
        out.push_sql(") AS got) claim LEFT JOIN ");
        out.push_sql(TABLE);
        out.push_sql(" record ON record.account_id = ");
        out.push_bind_param::<SqlUuid, _>(&address.account_id)?;
        out.push_sql(" AND record.scope = ");
        out.push_bind_param::<Text, _>(&address.scope)?;
        out.push_sql(" AND record.key = ");
        out.push_bind_param::<Text, _>(&address.key)
    }
}

/// Writes the record with its reply: one plain INSERT.
///
/// The primary key decides. If another transaction has committed a record of this key since the claim, the INSERT fails.
/// The error becomes a serialization failure, so that the whole transaction runs again. The next claim finds the
/// record.
pub(crate) fn record(conn: &mut PgConnection, claim: &Claim, reply: Reply, ttl: Duration) -> QueryResult<Record> {
    let Claim { address, id, route, request_id, credential, fingerprint_version, fingerprint, .. } = claim;
    let expires_at = diesel::insert_into(idempotency_keys::table)
        .values((
            idempotency_keys::account_id.eq(address.account_id),
            idempotency_keys::scope.eq(&address.scope),
            idempotency_keys::key.eq(&address.key),
            idempotency_keys::id.eq(id),
            idempotency_keys::route.eq(route),
            idempotency_keys::request_id.eq(request_id),
            idempotency_keys::credential.eq(credential),
            idempotency_keys::fingerprint_version.eq(fingerprint_version),
            idempotency_keys::fingerprint.eq(fingerprint.as_slice()),
            idempotency_keys::status.eq(status_column(&reply)?),
            idempotency_keys::content_type.eq(&reply.content_type),
            idempotency_keys::location.eq(&reply.location),
            idempotency_keys::body.eq(&*reply.body),
            idempotency_keys::expires_at.eq(expires_at(&reply, ttl)),
        ))
        .returning(idempotency_keys::expires_at)
        .get_result(conn)
        .map_err(run_again_if_taken)?;
    Ok(Record {
        id: *id,
        fingerprint_version: *fingerprint_version,
        fingerprint: fingerprint.to_vec(),
        reply,
        expires_at,
        expired: None,
    })
}

/// The table has no other unique key than its primary key.
/// Citus leaves out the table, and adds a shard's number to the constraint: `"idempotency_keys_pkey_102012"`.
fn run_again_if_taken(refusal: DieselError) -> DieselError {
    match refusal {
        DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, what)
            if what.table_name() == Some(TABLE) || what.message().contains(&format!("\"{TABLE}_pkey")) =>
        {
            let why = format!("another transaction recorded the key first: {}", what.message());
            DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, Box::new(why))
        }
        other => other,
    }
}

/// Reads a record without a lock: good enough for an answer, not for a decision to write.
pub fn find(conn: &mut PgConnection, address: &Address) -> QueryResult<Option<Record>> {
    record_at!(address).select(Record::as_select()).first(conn).optional()
}

/// Locks an existing record until the transaction ends, and reads it under the lock. Every change to a record locks it
/// first, so that the record can't change between the decision and the write.
pub fn lock(conn: &mut PgConnection, address: &Address) -> QueryResult<Option<Record>> {
    record_at!(address).select(Record::as_select()).for_update().first(conn).optional()
}

/// Why a record was not finalized. Each is a defect, and the transaction must roll back.
#[derive(Debug, thiserror::Error)]
pub enum FinalizeError {
    /// The record is final already, or gone.
    #[error("the record to finalize is {0}")]
    NotProvisional(&'static str),
    /// The final reply is over the limit.
    #[error(transparent)]
    TooLarge(#[from] ReplyTooLarge),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DieselError),
}

/// Replaces a provisional reply by the final one. Returns when the final reply expires: its time to live starts now.
/// Call it in the transaction that records the outcome, after the business rows are locked.
///
/// # Errors
/// [`FinalizeError`]; the caller must roll back, loudly.
pub fn finalize(
    conn: &mut PgConnection,
    address: &Address,
    reply: &Reply,
    ttl: Duration,
) -> Result<Option<DateTime<Utc>>, FinalizeError> {
    if reply.body.len() > MAX_BODY {
        return Err(FinalizeError::TooLarge(ReplyTooLarge(reply.body.len())));
    }
    match lock(conn, address)? {
        Some(record) if record.reply.is_provisional() => {}
        Some(_) => return Err(FinalizeError::NotProvisional("final already")),
        None => return Err(FinalizeError::NotProvisional("gone")),
    }
    let replaced = diesel::update(record_at!(address))
        .set((
            idempotency_keys::status.eq(status_column(reply)?),
            idempotency_keys::content_type.eq(&reply.content_type),
            idempotency_keys::location.eq(&reply.location),
            idempotency_keys::body.eq(&*reply.body),
            idempotency_keys::expires_at.eq(expires_at(reply, ttl)),
        ))
        .returning(idempotency_keys::expires_at);
    Ok(Prepared(replaced).get_result(conn)?)
}

fn status_column(reply: &Reply) -> QueryResult<i16> {
    i16::try_from(reply.status).map_err(|e| DieselError::SerializationError(e.into()))
}

/// When the reply expires. A provisional reply never expires.
#[diesel::dsl::auto_type(no_type_alias)]
fn expires_at(reply: &Reply, ttl: Duration) -> _ {
    let ttl: Option<PgInterval> = (!reply.is_provisional()).then_some(interval(ttl));
    now.into_sql::<Timestamptz>().nullable() + ttl.into_sql::<Nullable<Interval>>()
}
