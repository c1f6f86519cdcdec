//! The statements on the one table: a settlement begins, is leased, given back, parked, closed.
//!
//! Guarantees: one holder at a time, by the database's clock. Each lease raises `attempts`. So the previous holder can record
//! nothing more: [`holds`] checks that. If a holder vanishes, its settlement is due again when the lease ends.
//!
//! Not guaranteed: the previous holder may still be sending.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::dsl::{auto_type, now, row_number};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use serde_json::Value;
use uuid::Uuid;

use super::Limits;
use super::learn::Sending;
use super::schema::settlements;
use crate::idempotency::{Address, Prepared, interval};

/// How many settlements one look returns at most: three times what may be called at once, since other replicas take some of
/// them first. The rest is still due at the next look, a second later.
const DUE_AT_ONCE: i64 = 200;

/// The right to settle for a while, and all that settling takes.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub address: Address,
    pub reference: String,
    pub request_id: Uuid,
    pub location: String,
    pub call: Value,
    /// The fence: the next lease raises it.
    pub attempt: i32,
    pub sending: Sending,
    /// This process's clock when the lease began, or a round trip away from it: `Limits::lease` has a second to spare.
    pub taken_at: Instant,
    /// The row's `unanswered_at` before this lease. If all sendings of this lease were answered, [`give_back`] restores it.
    pub earlier_unanswered_at: Option<DateTime<Utc>>,
}

/// What came of trying to take a lease.
pub(super) enum Taken {
    Lease(Box<Lease>),
    /// There were enough attempts, so the settlement is parked now.
    Parked {
        location: String,
        request_id: Uuid,
    },
    /// Another holder has the settlement or ended it, or the settlement is not due.
    Gone,
}

/// Begins a settlement, with its first lease taken. False: the key made a settlement before.
pub(super) fn begin(
    conn: &mut PgConnection,
    address: &Address,
    request_id: Uuid,
    call: &Value,
    location: &str,
    lease: Duration,
) -> QueryResult<bool> {
    let inserted = diesel::insert_into(settlements::table)
        .values((
            settlements::account_id.eq(address.account_id),
            settlements::reference.eq(address.reference()),
            settlements::scope.eq(&address.scope),
            settlements::key.eq(&address.key),
            settlements::request_id.eq(request_id),
            settlements::call.eq(call),
            settlements::location.eq(location),
            settlements::next_attempt_at.eq((now.into_sql::<Timestamptz>() + interval(lease)).nullable()),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok(inserted == 1)
}

/// What the key's settlement made, if the key ever made a settlement.
pub(super) fn location(conn: &mut PgConnection, address: &Address) -> QueryResult<Option<String>> {
    let made = settlements::table.find((address.account_id, address.reference()));
    made.select(settlements::location).first(conn).optional()
}

/// A settlement that may be leased.
#[derive(Queryable, Selectable)]
#[diesel(table_name = settlements, check_for_backend(diesel::pg::Pg))]
pub(super) struct Due {
    pub account_id: Uuid,
    pub reference: String,
    pub attempts: i32,
}

/// What may be leased, without a lock, over all accounts. The accounts take turns, so that one account's backlog does not
/// stand before the others. Within an account, new settlements come before those that keep failing. With `resume`, all rows
/// are returned, since the command looks only once.
pub(super) fn due(conn: &mut PgConnection, resume: bool) -> QueryResult<Vec<Due>> {
    let open = settlements::table.filter(settlements::settled_at.is_null()).select(Due::as_select());
    let is_due = settlements::next_attempt_at.le(now.into_sql::<Timestamptz>().nullable());
    if resume {
        return open.filter(is_due.or(settlements::parked_at.is_not_null().nullable())).load(conn);
    }
    open.filter(is_due)
        .filter(settlements::parked_at.is_null())
        .order((turn(), settlements::attempts, settlements::next_attempt_at))
        .limit(DUE_AT_ONCE)
        .load(conn)
}

/// A settlement's place in the queue of its account.
#[auto_type]
fn turn() -> _ {
    row_number()
        .partition_by(settlements::account_id)
        .window_order((settlements::attempts, settlements::next_attempt_at))
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = settlements, check_for_backend(diesel::pg::Pg))]
struct Row {
    reference: String,
    scope: String,
    key: String,
    request_id: Uuid,
    call: Value,
    location: String,
    attempts: i32,
    unanswered_at: Option<DateTime<Utc>>,
    parked_at: Option<DateTime<Utc>>,
    settled_at: Option<DateTime<Utc>>,
}

impl Row {
    fn lease(self, account_id: Uuid, attempt: i32, sending: Sending, taken_at: Instant) -> Lease {
        let Self { reference, scope, key, request_id, call, location, unanswered_at, .. } = self;
        let address = Address { account_id, scope, key };
        Lease {
            address,
            reference,
            request_id,
            location,
            call,
            attempt,
            sending,
            taken_at,
            earlier_unanswered_at: unanswered_at,
        }
    }
}

/// Takes a lease on a settlement that is due, or parked if `resume` says so.
pub(super) fn take(
    conn: &mut PgConnection,
    account_id: Uuid,
    reference: &str,
    resume: bool,
    limits: &Limits,
    key_lifetime: Duration,
) -> QueryResult<Taken> {
    let taken_at = Instant::now();
    conn.build_transaction().read_committed().run(|conn| {
        let clock = now.into_sql::<Timestamptz>();
        let found: Option<(Row, Option<bool>, bool, Option<bool>)> = settlements::table
            .find((account_id, reference))
            .select((
                Row::as_select(),
                settlements::next_attempt_at.le(clock.nullable()),
                settlements::created_at.lt(clock - interval(key_lifetime)),
                settlements::unanswered_at.gt((clock - interval(limits.refusal_counts_after)).nullable()),
            ))
            .for_update()
            .skip_locked()
            .first(conn)
            .optional()?;
        let Some((row, is_due, look_first, earlier_unanswered)) = found else { return Ok(Taken::Gone) };
        let wanted = if row.parked_at.is_some() { resume } else { is_due == Some(true) };
        if row.settled_at.is_some() || !wanted {
            return Ok(Taken::Gone);
        }
        let settlement = settlements::table.find((account_id, reference));
        if row.attempts >= limits.max_attempts && !resume {
            diesel::update(settlement).set(settlements::parked_at.eq(clock.nullable())).execute(conn)?;
            return Ok(Taken::Parked { location: row.location, request_id: row.request_id });
        }
        let lease = diesel::update(settlement).set((
            settlements::attempts.eq(row.attempts + 1),
            settlements::next_attempt_at.eq((clock + interval(limits.lease)).nullable()),
            // On purpose: written ahead, so that the sending of a holder that vanishes counts as unanswered.
            settlements::unanswered_at.eq(clock.nullable()),
            settlements::parked_at.eq(None::<DateTime<Utc>>),
        ));
        let attempt: i32 = Prepared(lease.returning(settlements::attempts)).get_result(conn)?;
        let sending = Sending { look_first, earlier_unanswered: earlier_unanswered.unwrap_or(false) };
        Ok(Taken::Lease(Box::new(row.lease(account_id, attempt, sending, taken_at))))
    })
}

/// The first lease, with which the settlement began. None: another holder has taken the next lease.
pub(super) fn first_lease(conn: &mut PgConnection, address: &Address, taken_at: Instant) -> QueryResult<Option<Lease>> {
    let row: Option<Row> = settlements::table
        .find((address.account_id, address.reference()))
        .filter(settlements::settled_at.is_null())
        .filter(settlements::attempts.eq(1))
        .select(Row::as_select())
        .first(conn)
        .optional()?;
    // This same lease wrote the row's `unanswered_at` ahead. There is no earlier sending.
    let lease =
        |row: Row| Row { unanswered_at: None, ..row }.lease(address.account_id, 1, Sending::default(), taken_at);
    Ok(row.map(lease))
}

/// Gives a lease back without an outcome. The settlement is due again after `pause`, or parked. False: the lease was lost.
pub(super) fn give_back(
    conn: &mut PgConnection,
    lease: &Lease,
    pause: Duration,
    unanswered: bool,
    park: bool,
) -> QueryResult<bool> {
    let clock = now.into_sql::<Timestamptz>();
    let held = settlements::table
        .find((lease.address.account_id, &lease.reference))
        .filter(settlements::attempts.eq(lease.attempt))
        .filter(settlements::settled_at.is_null());
    let due = settlements::next_attempt_at.eq((clock + interval(pause)).nullable());
    let parked = park.then(|| settlements::parked_at.eq(clock.nullable()));
    let given_back = if unanswered {
        diesel::update(held).set((due, parked, settlements::unanswered_at.eq(clock.nullable()))).execute(conn)?
    } else {
        let earlier = settlements::unanswered_at.eq(lease.earlier_unanswered_at);
        diesel::update(held).set((due, parked, earlier)).execute(conn)?
    };
    Ok(given_back == 1)
}

/// The fence. Locks the settlement until the transaction ends, and says whether the lease is still the newest one.
pub(super) fn holds(conn: &mut PgConnection, lease: &Lease) -> QueryResult<bool> {
    let attempts: Option<i32> = settlements::table
        .find((lease.address.account_id, &lease.reference))
        .filter(settlements::settled_at.is_null())
        .select(settlements::attempts)
        .for_update()
        .first(conn)
        .optional()?;
    Ok(attempts == Some(lease.attempt))
}

/// Closes a locked settlement, for good.
pub(super) fn close(conn: &mut PgConnection, lease: &Lease) -> QueryResult<i32> {
    let settled = diesel::update(settlements::table.find((lease.address.account_id, &lease.reference))).set((
        settlements::settled_at.eq(now.into_sql::<Timestamptz>().nullable()),
        settlements::next_attempt_at.eq(None::<DateTime<Utc>>),
        settlements::parked_at.eq(None::<DateTime<Utc>>),
    ));
    Prepared(settled.returning(settlements::attempts)).get_result(conn)
}
