//! A request that is one read, a decision and one write, in two round trips.
//!
//! The first statement looks at the record and reads; the second one writes the business rows and the record, all or nothing.
//! Each is a transaction by itself, as PostgreSQL has it outside of BEGIN and COMMIT, and nothing is open between the two.
//! The write holds the key while it runs, as a [transaction](Policy::run) does, and the unique key refuses a second record:
//! the guarantees are the same. A decision that fails waits for a write of its key that is under way.
//!
//! It does not lock what it reads: that may have changed when the write arrives. What the decision depends on, the write
//! must hold by constraints and conditions. Where the database then refuses it, [`Write::is_outdated`] has it read and
//! decided again.
//!
//! Nor does it hold the key before its write begins. A client that sent a request twice at once, or whose connection to the
//! database was lost just then, may hear of a failure of the one while the other is about to succeed; a retry gets the
//! success.

use actix_web::HttpResponse;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::LoadQuery;
use diesel::sql_types::{Bool, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::attempt::{Asked, Attempt, Work};
use super::key::Address;
use super::policy::{Failures, Policy};
use super::reply::{Answer, Reply};
use super::request::Keyed;
use super::run::answer;
use super::statement::Statement;
use super::store::{self, Claimed, Record};
use super::sweep::remove_expired;
use super::write::{NoWrite, Write};
use super::{Database, Failure, Nature};

/// An endpoint's decision: what it reads, and what it makes of it. Both may be done again.
pub trait Decision: Send + Sync + 'static {
    /// The typed request body.
    type Request: Send + Sync + 'static;
    /// A row of what is read.
    type Row;
    /// What a success writes.
    type Write: Write;
    /// What it fails with.
    type Error: Failure;

    /// What to read.
    fn read<'a>(&'a self, request: &'a Self::Request) -> impl Read<'a, Self::Row>;

    /// Decides, without touching the database: the reply, and what is written with it.
    ///
    /// # Errors
    /// The endpoint's.
    fn decide(&self, request: &Self::Request, rows: Vec<Self::Row>) -> Result<(Reply, Self::Write), Self::Error>;
}

impl Policy {
    /// As [`Policy::run`], for a request that is one read, a decision and one write: two round trips in the place of at
    /// least five.
    ///
    /// # Errors
    /// As [`Policy::run`].
    pub async fn decide<D, C>(
        &self,
        db: &D,
        account_id: Uuid,
        request: Keyed<C::Request>,
        decision: C,
    ) -> Result<HttpResponse, C::Error>
    where
        D: Database,
        C: Decision,
    {
        let (asked, request) = Asked::new(self, account_id, request);
        answer(db, Deciding { asked, request, decision }).await.map(Answer::into_response)
    }
}

struct Deciding<C: Decision> {
    asked: Asked,
    request: C::Request,
    decision: C,
}

impl<C: Decision> Work<C::Error> for Deciding<C> {
    fn asked(&self) -> &Asked {
        &self.asked
    }

    fn attempt(&self, conn: &mut PgConnection) -> Result<Attempt, C::Error> {
        let mut found = self.look_and_read(conn)?;
        if let Found::Record(record) = &found
            && record.expired
        {
            // It is anybody's to remove, as it is the sweeper's. What another one recorded in its place is seen then.
            remove_expired(conn, &self.asked.claim.address)?;
            found = self.look_and_read(conn)?;
        }
        let rows = match found {
            Found::Record(record) => return Ok(Attempt::Stands(record)),
            Found::Rows(rows) => rows,
        };
        match self.decision.decide(&self.request, rows) {
            Ok((reply, write)) => self.asked.record(conn, reply, &write),
            Err(error) if self.stores(&error) => self.asked.record(conn, error.reply(self.asked.instance), &NoWrite),
            Err(error) => self.unless_under_way(conn, error),
        }
    }
}

enum Found<Row> {
    Record(Record),
    /// There was no record when these were read, or later.
    Rows(Vec<Row>),
}

impl<C: Decision> Deciding<C> {
    fn look_and_read(&self, conn: &mut PgConnection) -> QueryResult<Found<C::Row>> {
        let address = &self.asked.claim.address;
        let (is_taken, rows) = self.decision.read(&self.request).with_look(conn, address)?;
        // Without a row, there was none to tell that the key is taken.
        let record = if is_taken || rows.is_empty() { store::find(conn, address)? } else { None };
        Ok(record.map_or(Found::Rows(rows), Found::Record))
    }

    /// Fails, unless another write of this key is under way: a duplicate's, or this request's own, whose connection was lost.
    /// If that succeeds, its reply is the answer.
    fn unless_under_way(&self, conn: &mut PgConnection, error: C::Error) -> Result<Attempt, C::Error> {
        if let Claimed::InFlight = store::claim(conn, &self.asked.claim)? {
            return Ok(Attempt::InFlight);
        }
        // A claim may look a moment before it has the lock; what was written until then is seen now.
        match store::find(conn, &self.asked.claim.address)? {
            Some(record) if !record.expired => Ok(Attempt::Stands(record)),
            _ => Err(error),
        }
    }

    fn stores(&self, error: &C::Error) -> bool {
        matches!(self.asked.policy.failures, Failures::CacheFailures { .. }) && matches!(error.nature(), Nature::Final)
    }
}

/// A query that a decision can be made from, as every Diesel query is.
pub trait Read<'a, Row> {
    /// Reads, and tells with the rows whether there is a record at an address: one statement, and so one snapshot.
    ///
    /// # Errors
    /// The database's.
    fn with_look(self, conn: &mut PgConnection, address: &'a Address) -> QueryResult<(bool, Vec<Row>)>;
}

impl<'a, Q, Row> Read<'a, Row> for Q
where
    LookAndRead<'a, Q>: LoadQuery<'a, PgConnection, (bool, Row)>,
{
    fn with_look(self, conn: &mut PgConnection, address: &'a Address) -> QueryResult<(bool, Vec<Row>)> {
        let (looks, rows): (Vec<bool>, Vec<Row>) = LookAndRead { address, read: self }.load(conn)?.into_iter().unzip();
        Ok((looks.contains(&true), rows))
    }
}

struct LookAndRead<'a, Q> {
    address: &'a Address,
    read: Q,
}

impl<Q: QueryId> QueryId for LookAndRead<'_, Q> {
    type QueryId = LookAndRead<'static, Q::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = Q::HAS_STATIC_QUERY_ID;
}

impl<Q: Query> Query for LookAndRead<'_, Q> {
    type SqlType = (Bool, Q::SqlType);
}

impl<Q> RunQueryDsl<PgConnection> for LookAndRead<'_, Q> {}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for LookAndRead<'_, Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut sql = Statement::new(
            out.reborrow(),
            "SELECT EXISTS (SELECT FROM idempotency_keys WHERE account_id = ? AND scope = ? AND key = ?), read.* FROM (",
        );
        sql.bind::<SqlUuid, _>(&self.address.account_id)?;
        sql.bind::<Text, _>(&self.address.scope)?;
        sql.bind::<Text, _>(&self.address.key)?;
        sql.end();
        self.read.walk_ast(out.reborrow())?;
        out.push_sql(") read");
        Ok(())
    }
}
