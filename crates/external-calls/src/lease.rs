// SPDX-License-Identifier: MIT OR Apache-2.0
//! The statements on the table: they begin, lease, give back, park and close an external call.
//!
//! Guarantees: one holder at a time, by the database's clock. Each lease raises `attempts`, so the previous holder can
//! record nothing more: [`fence`] checks that. If a holder vanishes, its external call is due again when the lease
//! ends.
//!
//! Not guaranteed: the previous holder may still be sending.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::dsl::{auto_type, now, row_number};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::outcome::{Next, Sending};
use super::schema::external_calls;
use crate::{Limits, MadeBy};
use idempotency::{Prepared, interval};

/// How many external calls one look returns at most: three times what may be called at once, since other replicas take some of
/// them first. The rest are still due at the next look, a second later.
const DUE_AT_ONCE: i64 = 200;

/// The right to resolve for a while, and all that a holder needs for it.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// As it was before the lease, apart from `attempts`, which is the fence: the next lease raises it.
    pub row: Row,
    pub sending: Sending,
    /// This process's clock when the lease began, give or take a round trip: `Limits::lease` has a second to spare.
    pub taken_at: Instant,
}

/// An external call.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = external_calls, check_for_backend(diesel::pg::Pg))]
pub(super) struct Row {
    #[diesel(embed)]
    pub made_by: MadeBy,
    pub call: Value,
    pub location: String,
    pub attempts: i32,
    /// If all sendings of a lease were answered, [`give_back`] restores the value before the lease.
    pub unanswered_at: Option<DateTime<Utc>>,
    parked_at: Option<DateTime<Utc>>,
    resolved_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    /// The object's id at the external system, once an answer named it.
    pub outside_id: Option<String>,
    only_look: bool,
    /// How many of the attempts do not count towards parking.
    looks: i32,
}

impl Row {
    /// The attempts that count towards parking.
    pub fn counted(&self) -> i32 {
        self.attempts - self.looks
    }
}

impl Lease {
    /// The lease with which the external call began. Its `unanswered_at` was written in advance, and there is no
    /// earlier sending.
    pub fn first(row: Row, taken_at: Instant) -> Self {
        Self { row: Row { unanswered_at: None, ..row }, sending: Sending::default(), taken_at }
    }
}

/// The result of trying to take a lease.
pub(super) enum Taken {
    Lease(Box<Lease>),
    /// The attempts are used up, so the external call is parked now.
    Parked(Box<Row>),
    /// Another holder has the external call or ended it, or the external call is not due.
    Gone,
}

/// Begins an external call, with its first lease taken. None if the key made an external call before.
pub(super) fn begin(
    conn: &mut PgConnection,
    made_by: &MadeBy,
    call: &Value,
    location: &str,
    lease: Duration,
) -> QueryResult<Option<Row>> {
    diesel::insert_into(external_calls::table)
        .values((
            made_by,
            external_calls::call.eq(call),
            external_calls::location.eq(location),
            external_calls::next_attempt_at.eq((now.into_sql::<Timestamptz>() + interval(lease)).nullable()),
        ))
        .on_conflict_do_nothing()
        .returning(Row::as_returning())
        .get_result(conn)
        .optional()
}

/// A call as the service knows it. A release that can't read its predecessor's calls has a defect, and a person must look.
pub(super) fn parsed<C: DeserializeOwned>(call: Value) -> QueryResult<C> {
    serde_json::from_value(call).map_err(|error| diesel::result::Error::DeserializationError(error.into()))
}

/// The path of what the key's external call created, if the key ever made one.
pub(super) fn location(conn: &mut PgConnection, made_by: &MadeBy) -> QueryResult<Option<String>> {
    let made = external_calls::table.find((made_by.account_id, &made_by.reference));
    made.select(external_calls::location).first(conn).optional()
}

/// An external call that may be leased.
#[derive(Queryable, Selectable)]
#[diesel(table_name = external_calls, check_for_backend(diesel::pg::Pg))]
pub(super) struct Due {
    pub account_id: Uuid,
    pub reference: String,
    pub attempts: i32,
}

/// What may be leased, over all accounts, read without a lock. The accounts take turns, so that one account's backlog
/// does not delay the others. Within an account, new external calls come before those that keep failing. With `resume`,
/// all rows are returned, since the command looks only once.
pub(super) fn due(conn: &mut PgConnection, resume: bool) -> QueryResult<Vec<Due>> {
    let open = external_calls::table.filter(external_calls::resolved_at.is_null()).select(Due::as_select());
    let is_due = external_calls::next_attempt_at.le(now.into_sql::<Timestamptz>().nullable());
    if resume {
        return open.filter(is_due.or(external_calls::parked_at.is_not_null().nullable())).load(conn);
    }
    open.filter(is_due)
        .filter(external_calls::parked_at.is_null())
        .order((turn(), external_calls::attempts, external_calls::next_attempt_at))
        .limit(DUE_AT_ONCE)
        .load(conn)
}

/// An external call's place in the queue of its account.
#[auto_type]
fn turn() -> _ {
    row_number()
        .partition_by(external_calls::account_id)
        .window_order((external_calls::attempts, external_calls::next_attempt_at))
}

/// Takes a lease on an external call that is due, or parked if `resume` says so.
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
        let found: Option<(Row, Option<bool>, bool, Option<bool>)> = external_calls::table
            .find((account_id, reference))
            .select((
                Row::as_select(),
                external_calls::next_attempt_at.le(clock.nullable()),
                external_calls::created_at.lt(clock - interval(key_lifetime)),
                external_calls::unanswered_at.gt((clock - interval(limits.refusal_counts_after)).nullable()),
            ))
            .for_update()
            .skip_locked()
            .first(conn)
            .optional()?;
        let Some((row, is_due, look_first, earlier_unanswered)) = found else { return Ok(Taken::Gone) };
        let wanted = if row.parked_at.is_some() { resume } else { is_due == Some(true) };
        if row.resolved_at.is_some() || !wanted {
            return Ok(Taken::Gone);
        }
        let row_of_call = external_calls::table.find((account_id, reference));
        if row.counted() >= limits.max_attempts && !resume {
            diesel::update(row_of_call).set(external_calls::parked_at.eq(clock.nullable())).execute(conn)?;
            return Ok(Taken::Parked(Box::new(row)));
        }
        // The key under which an error is stored may have expired, so the call may be sent again. An object stays.
        let only_look = row.outside_id.is_some() || (row.only_look && !look_first);
        // Written in advance, so that the sending of a holder that vanishes counts as unanswered. A holder that only
        // looks sends nothing.
        let unanswered = (!only_look).then(|| external_calls::unanswered_at.eq(clock.nullable()));
        let lease = diesel::update(row_of_call).set((
            external_calls::attempts.eq(row.attempts + 1),
            external_calls::next_attempt_at.eq((clock + interval(limits.lease)).nullable()),
            unanswered,
            external_calls::parked_at.eq(None::<DateTime<Utc>>),
            external_calls::leased.eq(true),
            external_calls::hinted.eq(false),
        ));
        let attempts = Prepared(lease.returning(external_calls::attempts)).get_result(conn)?;
        let (earlier_unanswered, sent_twice) = (earlier_unanswered.unwrap_or(false), row.counted() >= 2);
        let sending = Sending { look_first, earlier_unanswered, only_look, sent_twice, send_until: None };
        Ok(Taken::Lease(Box::new(Lease { row: Row { attempts, ..row }, sending, taken_at })))
    })
}

/// The first lease, with which the external call began. None if another holder has taken the next lease.
pub(super) fn first_lease(conn: &mut PgConnection, made_by: &MadeBy, taken_at: Instant) -> QueryResult<Option<Lease>> {
    let row: Option<Row> = external_calls::table
        .find((made_by.account_id, &made_by.reference))
        .filter(external_calls::resolved_at.is_null())
        .filter(external_calls::attempts.eq(1))
        .select(Row::as_select())
        .first(conn)
        .optional()?;
    Ok(row.map(|row| Lease::first(row, taken_at)))
}

/// How a lease ends without an outcome.
pub(super) struct Return {
    /// The external call is due again after this pause.
    pub pause: Duration,
    /// One of this lease's sendings went unanswered.
    pub unanswered: bool,
    pub next: Next,
}

/// Gives a lease back without an outcome. The external call is due again after a pause, at once if a hint came
/// meanwhile, or parked. False if the lease was lost.
pub(super) fn give_back(conn: &mut PgConnection, lease: &Lease, end: Return) -> QueryResult<bool> {
    let clock = now.into_sql::<Timestamptz>();
    let row = &lease.row;
    let held = external_calls::table
        .find((row.made_by.account_id, &row.made_by.reference))
        .filter(external_calls::attempts.eq(row.attempts))
        .filter(external_calls::resolved_at.is_null());
    let is_look = matches!(end.next, Next::Look { .. });
    let parked = (end.next == Next::Park).then(|| external_calls::parked_at.eq(clock.nullable()));
    let found = match end.next {
        Next::Look { id: Some(id) } => Some(external_calls::outside_id.eq(id)),
        _ => None,
    };
    let given_back = diesel::update(held)
        .set((
            external_calls::next_attempt_at.eq((clock + interval(end.pause)).nullable()),
            external_calls::leased.eq(false),
            external_calls::looks.eq(row.looks + i32::from(is_look)),
            external_calls::only_look.eq(is_look || lease.sending.only_look),
            end.unanswered.then(|| external_calls::unanswered_at.eq(clock.nullable())),
            (!end.unanswered).then(|| external_calls::unanswered_at.eq(row.unanswered_at)),
            parked,
            found,
        ))
        .execute(conn)?;
    // A hint that comes between the two statements finds no lease, and makes the call due itself.
    let hinted = held.filter(external_calls::hinted).filter(external_calls::parked_at.is_null());
    let due = external_calls::next_attempt_at.eq(clock.nullable());
    diesel::update(hinted).set((due, external_calls::hinted.eq(false))).execute(conn)?;
    Ok(given_back == 1)
}

/// The fence. Locks the external call until the transaction ends. None if somebody has taken a newer lease, else whether this
/// lease has recorded the outcome already.
pub(super) fn fence(conn: &mut PgConnection, lease: &Lease) -> QueryResult<Option<bool>> {
    let MadeBy { account_id, reference, .. } = &lease.row.made_by;
    external_calls::table
        .find((account_id, reference))
        .filter(external_calls::attempts.eq(lease.row.attempts))
        .select(external_calls::resolved_at.is_not_null())
        .for_update()
        .first(conn)
        .optional()
}

/// Closes a locked external call, for good.
pub(super) fn close(conn: &mut PgConnection, lease: &Lease) -> QueryResult<i32> {
    let MadeBy { account_id, reference, .. } = &lease.row.made_by;
    let resolved = diesel::update(external_calls::table.find((account_id, reference))).set((
        external_calls::resolved_at.eq(now.into_sql::<Timestamptz>().nullable()),
        external_calls::next_attempt_at.eq(None::<DateTime<Utc>>),
        external_calls::parked_at.eq(None::<DateTime<Utc>>),
    ));
    Prepared(resolved.returning(external_calls::attempts)).get_result(conn)
}
