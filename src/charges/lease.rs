//! Leases: the right to settle one charge or refund, for a while.
//!
//! Guarantees: one holder at a time, by the database's clock; each further lease raises `attempts`, which fences off the
//! holder before. What its holder does not end is due again when the lease runs out, or parked when there were enough.
//! It does not keep a holder from going on past its lease: recording checks the fence.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::pg::data_types::PgInterval;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Uuid as SqlUuid};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::refunds;
use crate::gateway::{Call, GATEWAY_KEY_LIFETIME};
use crate::idempotency::Address;

/// How long one holder has a charge for itself. Longer than all that a holder may spend, or two would call the gateway at
/// once (the fence would still let only one write); short, since a crash leaves the charge alone for this long.
pub(super) const LEASE: Duration = Duration::from_secs(15);

/// The pause after the first attempt; each further one doubles it. A lost reply is usually there at the second asking.
const FIRST_BACKOFF: Duration = Duration::from_secs(2);

/// The longest pause: after a long outage of the gateway, charges move again within ten minutes.
const MAX_BACKOFF: Duration = Duration::from_secs(600);

/// Leases until a charge is parked. With the pauses above that is about two hours, after which a person should look.
pub const MAX_ATTEMPTS: i32 = 20;

/// What one look takes on at most, of charges and refunds each: the rest is still due at the next look, a second later.
const TAKEN_AT_ONCE: i64 = 100;

/// What is being settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Charge,
    Refund,
}

impl What {
    const fn table(self) -> &'static str {
        match self {
            Self::Charge => "charges",
            Self::Refund => "refunds",
        }
    }
}

/// The right to settle one charge or refund until the lease ends, and all that it takes.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub what: What,
    pub id: Uuid,
    /// The fence: whoever takes the next lease raises it.
    pub attempt: i32,
    pub call: Call,
    /// The gateway may have forgotten the call's key.
    pub look_first: bool,
    pub address: Address,
    pub order_id: Uuid,
    pub charge_id: Uuid,
}

/// How far the settling of a processing charge or refund is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Settlement {
    /// Leases taken so far.
    attempts: i32,
    /// Nobody tries before; meaningless once parked.
    next_attempt_at: DateTime<Utc>,
    /// Whether it was given up until `payments settle` resumes it.
    parked: bool,
}

impl Settlement {
    pub(crate) fn of(
        attempts: i32,
        next_attempt_at: Option<DateTime<Utc>>,
        parked_at: Option<DateTime<Utc>>,
    ) -> Option<Self> {
        next_attempt_at.map(|next_attempt_at| Self { attempts, next_attempt_at, parked: parked_at.is_some() })
    }
}

/// What the lease on a charge or refund is about, as it stands.
///
/// # Errors
/// The database's.
pub(super) fn load(conn: &mut PgConnection, what: What, account_id: Uuid, id: Uuid) -> QueryResult<Lease> {
    match what {
        What::Charge => super::leased(conn, account_id, id),
        What::Refund => refunds::leased(conn, account_id, id),
    }
}

#[derive(QueryableByName)]
struct Candidate {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// What may be leased, looked up without a lock, over all accounts. Who resumes what is parked wants all of it, at once:
/// there is no next look.
///
/// # Errors
/// The database's.
pub(super) fn due(conn: &mut PgConnection, resume: bool) -> QueryResult<Vec<(What, Uuid, Uuid)>> {
    let limit = if resume { None } else { Some(TAKEN_AT_ONCE) };
    let mut all = Vec::new();
    for what in [What::Charge, What::Refund] {
        let sql = format!(
            "SELECT account_id, id FROM {} WHERE status = 'processing' \
             AND (next_attempt_at <= now() AND parked_at IS NULL OR $1 AND parked_at IS NOT NULL) \
             ORDER BY next_attempt_at LIMIT $2",
            what.table()
        );
        let found: Vec<Candidate> =
            diesel::sql_query(sql).bind::<Bool, _>(resume).bind::<Nullable<BigInt>, _>(limit).load(conn)?;
        all.extend(found.into_iter().map(|candidate| (what, candidate.account_id, candidate.id)));
    }
    Ok(all)
}

/// What became of a candidate.
pub(super) enum Taken {
    /// It is this holder's.
    Lease(Lease),
    /// Its last attempt never came to an end, not even to giving the lease back, and there were enough.
    Parked,
    /// Somebody else has it by now, or has settled it.
    Gone,
}

#[derive(QueryableByName)]
struct Parked {
    #[diesel(sql_type = Bool)]
    parked: bool,
}

/// Takes the next lease on a candidate.
///
/// # Errors
/// The database's.
pub(super) fn take(
    conn: &mut PgConnection,
    what: What,
    account_id: Uuid,
    id: Uuid,
    resume: bool,
) -> QueryResult<Taken> {
    // A holder that crashes gives nothing back. So the cap is looked at here too, or what crashes it would do so for ever.
    let sql = format!(
        "UPDATE {table} SET next_attempt_at = now() + make_interval(secs => $4), \
         attempts = attempts + CASE WHEN attempts >= $5 AND NOT $3 THEN 0 ELSE 1 END, \
         parked_at = CASE WHEN attempts >= $5 AND NOT $3 THEN now() END \
         WHERE account_id = $1 AND id = (SELECT id FROM {table} WHERE account_id = $1 AND id = $2 AND status = 'processing' \
         AND (next_attempt_at <= now() AND parked_at IS NULL OR $3 AND parked_at IS NOT NULL) FOR UPDATE SKIP LOCKED) \
         RETURNING parked_at IS NOT NULL AS parked",
        table = what.table()
    );
    conn.transaction(|conn| {
        let taken: Option<Parked> = diesel::sql_query(sql)
            .bind::<SqlUuid, _>(account_id)
            .bind::<SqlUuid, _>(id)
            .bind::<Bool, _>(resume)
            .bind::<Double, _>(LEASE.as_secs_f64())
            .bind::<Integer, _>(MAX_ATTEMPTS)
            .get_result(conn)
            .optional()?;
        Ok(match taken {
            Some(Parked { parked: true }) => Taken::Parked,
            Some(Parked { parked: false }) => Taken::Lease(load(conn, what, account_id, id)?),
            None => Taken::Gone,
        })
    })
}

/// Makes it due again after a pause, or parks it; tells whether it parked it. A lost lease gives nothing back.
///
/// # Errors
/// The database's.
pub(super) fn give_back(conn: &mut PgConnection, lease: &Lease) -> QueryResult<bool> {
    let sql = format!(
        "UPDATE {} SET next_attempt_at = now() + make_interval(secs => $4), \
         parked_at = CASE WHEN attempts >= $5 THEN now() END \
         WHERE account_id = $1 AND id = $2 AND attempts = $3 AND status = 'processing' \
         RETURNING parked_at IS NOT NULL AS parked",
        lease.what.table()
    );
    let given_back: Option<Parked> = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(lease.address.account_id)
        .bind::<SqlUuid, _>(lease.id)
        .bind::<Integer, _>(lease.attempt)
        .bind::<Double, _>(pause_after(lease.attempt).as_secs_f64())
        .bind::<Integer, _>(MAX_ATTEMPTS)
        .get_result(conn)
        .optional()?;
    Ok(given_back.is_some_and(|given_back| given_back.parked))
}

/// 2 s, 4 s, 8 s .. 10 min, with up to a quarter more, so that what failed together does not return together.
fn pause_after(attempt: i32) -> Duration {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(16);
    let pause = (FIRST_BACKOFF * 2_u32.pow(doublings)).min(MAX_BACKOFF);
    pause.mul_f64(1.0 + fastrand::f64() / 4.0)
}

/// What the gateway knows a call by, and its idempotency key there: SHA-256 of account, scope and key. Nothing in it is made
/// afresh, so even a database that lost the charge makes the same call again.
pub(crate) fn reference(address: &Address) -> String {
    address.digest().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// [`LEASE`] as PostgreSQL counts time.
pub(crate) fn interval() -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX))
}

/// [`GATEWAY_KEY_LIFETIME`] as PostgreSQL counts time.
pub(crate) fn key_lifetime_interval() -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(GATEWAY_KEY_LIFETIME.as_micros()).unwrap_or(i64::MAX))
}
