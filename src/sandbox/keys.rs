//! The sandbox's keys: one transaction carries out a call, writes it down in the books and stores its answer.
//!
//! Guarantees: calls of one key run one after the other, by the lock on the key's row, in all processes that share the
//! tables; a stored answer and its line in the books commit together, so a crash leaves both or neither.
//! After the key is forgotten it guarantees nothing: the same call is then a new one, and the books show both.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::data_types::PgInterval;
use diesel::dsl::{delete, insert_into, now, sql_query, update};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz};
use serde::Serialize;
use serde_json::json;

use super::books::{self, Entry};
use super::calls::{Call, Capture, PaymentMethod};
use super::refusal::Refusal;

/// The advisory lock that starts take, so that several at once don't create the same table: "sandbox" in ASCII, which no
/// one else will take for theirs.
const SCHEMA_LOCK: i64 = 0x73_61_6e_64_62_6f_78;

/// How many calls of a key `pm_card_gateway_error` fails: as many as a caller's quick repeats make good.
const FAILING_CALLS: i32 = 2;

/// Forgets all keys whose time is up.
const FORGET: &str = "DELETE FROM sandbox.keys WHERE key IN \
    (SELECT key FROM sandbox.keys WHERE expires_at <= now() FOR UPDATE SKIP LOCKED)";

/// The longest a key is kept. A century is for ever here, and still a time that PostgreSQL can add to another.
const LONGEST_KEY_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

diesel::table! {
    sandbox.keys (key) {
        key -> Text,
        request -> Text,
        calls -> Integer,
        status -> Nullable<SmallInt>,
        body -> Nullable<Text>,
        expires_at -> Timestamptz,
    }
}

/// An answer, as every call of the key gets it once it is stored.
#[derive(Debug)]
pub struct Answer {
    pub status: i16,
    /// JSON.
    pub body: String,
    pub delivery: Delivery,
}

/// How an answer reaches its caller. A stored answer is prompt when it is replayed.
#[derive(Clone, Copy, Debug)]
pub enum Delivery {
    Prompt,
    Slow,
    Lost,
}

/// What the key's row holds after this call was counted.
#[derive(Queryable)]
struct Key {
    request: String,
    calls: i32,
    status: Option<i16>,
    body: Option<String>,
}

/// Creates what is missing of the tables, and forgets the keys whose time is up, so that they don't pile up for ever.
pub fn prepare(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| {
        // `IF NOT EXISTS` alone fails when two sessions create the same thing at once.
        sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(SCHEMA_LOCK).execute(conn)?;
        conn.batch_execute(include_str!("schema.sql"))
    })?;
    // In a transaction of its own, and past rows that are locked: the statements above lock the books against calls, and a
    // call that holds its key's row waits for the books. Waiting for that row with the books locked would be a deadlock.
    sql_query(FORGET).execute(conn)?;
    Ok(())
}

/// Answers a call: as it was answered before, if the key has an answer, and else by carrying it out.
pub fn carry_out(conn: &mut PgConnection, key: &str, key_ttl: Duration, call: &Call) -> Result<Answer, Refusal> {
    let request = to_json(call)?;
    // READ COMMITTED whatever the server's default is: each statement must see what the transaction that held the row before
    // has committed. A refusal rolls back the count as well, so nothing at all is kept of it.
    conn.build_transaction().read_committed().run(|conn| {
        let known = count_call(conn, key, key_ttl, &request)?;
        if known.request != request {
            return Err(Refusal::KeyReused);
        }
        if let (Some(status), Some(body)) = (known.status, known.body) {
            return Ok(Answer { status, body, delivery: Delivery::Prompt });
        }
        let answer = match call {
            Call::Capture(capture) => carry_out_capture(conn, capture, known.calls)?,
            Call::Refund(refund) => Some(succeeded(&books::enter_refund(conn, refund)?, Delivery::Prompt)?),
        };
        match answer {
            Some(answer) => {
                store(conn, key, &answer)?;
                Ok(answer)
            }
            // Commits the count, and neither an answer nor a line in the books.
            None => Ok(gateway_error("the gateway failed; send the call again")),
        }
    })
}

/// Locks the key's row, new or known, and counts this call in it. A key whose time is up is forgotten first.
fn count_call(conn: &mut PgConnection, key: &str, key_ttl: Duration, request: &str) -> QueryResult<Key> {
    delete(keys::table.filter(keys::key.eq(key)).filter(keys::expires_at.le(now))).execute(conn)?;
    insert_into(keys::table)
        .values((
            keys::key.eq(key),
            keys::request.eq(request),
            keys::calls.eq(1),
            keys::expires_at.eq(now.into_sql::<Timestamptz>() + interval(key_ttl)),
        ))
        .on_conflict(keys::key)
        .do_update()
        .set(keys::calls.eq(keys::calls + 1))
        .returning((keys::request, keys::calls, keys::status, keys::body))
        .get_result(conn)
}

fn store(conn: &mut PgConnection, key: &str, answer: &Answer) -> QueryResult<()> {
    update(keys::table.find(key)).set((keys::status.eq(answer.status), keys::body.eq(&answer.body))).execute(conn)?;
    Ok(())
}

/// Does what the payment method stands for. `None` fails this call and leaves no trace of it.
fn carry_out_capture(conn: &mut PgConnection, capture: &Capture, calls: i32) -> QueryResult<Option<Answer>> {
    let mut enter = |outcome| books::enter_capture(conn, capture, outcome);
    let answer = match capture.payment_method {
        PaymentMethod::GatewayError if calls <= FAILING_CALLS => return Ok(None),
        PaymentMethod::Visa | PaymentMethod::GatewayError => succeeded(&enter("succeeded")?, Delivery::Prompt)?,
        PaymentMethod::Slow => succeeded(&enter("succeeded")?, Delivery::Slow)?,
        PaymentMethod::LostReply => succeeded(&enter("succeeded")?, Delivery::Lost)?,
        PaymentMethod::Declined => declined(&enter("card_declined")?)?,
        PaymentMethod::InsufficientFunds => declined(&enter("insufficient_funds")?)?,
        PaymentMethod::StickyError => {
            enter("error")?;
            gateway_error("the gateway failed this call for good")
        }
    };
    Ok(Some(answer))
}

fn succeeded(entry: &Entry, delivery: Delivery) -> QueryResult<Answer> {
    Ok(Answer { status: 201, body: to_json(entry)?, delivery })
}

fn declined(entry: &Entry) -> QueryResult<Answer> {
    Ok(Answer { status: 402, body: to_json(entry)?, delivery: Delivery::Prompt })
}

fn gateway_error(reason: &str) -> Answer {
    Answer { status: 500, body: json!({ "error": reason }).to_string(), delivery: Delivery::Prompt }
}

fn to_json(value: &impl Serialize) -> QueryResult<String> {
    serde_json::to_string(value).map_err(|error| diesel::result::Error::SerializationError(error.into()))
}

fn interval(key_ttl: Duration) -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(key_ttl.min(LONGEST_KEY_TTL).as_micros()).unwrap_or(i64::MAX))
}
