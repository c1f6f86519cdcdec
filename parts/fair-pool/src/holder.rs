// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who holds the lock that requests wait for.
//!
//! Guarantees: the queries read only PostgreSQL's own views, and wait for no table's lock. The answer shows no SQL,
//! since a session's statement may contain values.

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Timestamptz};

diesel::define_sql_function! {
    /// PostgreSQL's function: the processes that keep this one waiting.
    fn pg_blocking_pids(pid: Integer) -> Array<Integer>;
}

diesel::define_sql_function! {
    /// PostgreSQL's function.
    fn current_database() -> Text;
}

diesel::table! {
    /// PostgreSQL's view of its sessions. A role sees the state of another role's sessions only as a member of
    /// `pg_read_all_stats`.
    pg_stat_activity (pid) {
        pid -> Integer,
        datname -> Nullable<Text>,
        usename -> Nullable<Text>,
        application_name -> Nullable<Text>,
        state -> Nullable<Text>,
        wait_event_type -> Nullable<Text>,
        xact_start -> Nullable<Timestamptz>,
    }
}

/// How many waiting sessions are examined. They usually wait for the same few, and each call of `pg_blocking_pids`
/// holds up PostgreSQL's locks for a moment.
const WAITING: i64 = 5;

#[derive(Queryable)]
struct Holder {
    pid: i32,
    user: Option<String>,
    application: Option<String>,
    state: Option<String>,
    began: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
}

/// Who keeps requests waiting: of the sessions that block others and wait for no lock themselves, the one with the
/// oldest transaction. If nobody waits at this moment, the session with the oldest idle transaction.
pub(super) fn holder(conn: &mut PgConnection) -> QueryResult<Option<String>> {
    use self::pg_stat_activity::dsl;
    let of_this_database = || dsl::pg_stat_activity.filter(dsl::datname.eq(current_database().nullable()));
    let keeping: Vec<Vec<i32>> = of_this_database()
        .filter(dsl::wait_event_type.eq("Lock"))
        .select(pg_blocking_pids(dsl::pid))
        .limit(WAITING)
        .load(conn)?;
    let keeping: Vec<i32> = keeping.into_iter().flatten().collect();
    let columns = (
        dsl::pid,
        dsl::usename,
        dsl::application_name,
        dsl::state,
        dsl::xact_start,
        diesel::dsl::now.into_sql::<Timestamptz>(),
    );
    let oldest = || of_this_database().select(columns).order(dsl::xact_start.asc().nulls_last());
    let found: Option<Holder> = if keeping.is_empty() {
        oldest().filter(dsl::state.like("idle in transaction%")).first(conn).optional()?
    } else {
        let free = dsl::wait_event_type.is_distinct_from("Lock");
        oldest().filter(dsl::pid.eq_any(&keeping)).filter(free).first(conn).optional()?
    };
    let how = if keeping.is_empty() { "the oldest idle transaction is that of" } else { "it is held by" };
    Ok(found.map(|holder| format!("{how} {}", holder.words())))
}

impl Holder {
    fn words(&self) -> String {
        let mut words = vec![format!("process {}", self.pid)];
        for (name, value) in [("application", &self.application), ("user", &self.user)] {
            words.extend(value.as_ref().filter(|value| !value.is_empty()).map(|value| format!("{name} {value}")));
        }
        // The state is null if this role may not see it.
        words.push(self.state.clone().unwrap_or_else(|| "in a state that this role may not see".to_owned()));
        let age = self.began.map(|began| (self.now - began).num_seconds());
        words.extend(age.map(|seconds| format!("its transaction began {seconds} s ago")));
        words.join(", ")
    }
}
