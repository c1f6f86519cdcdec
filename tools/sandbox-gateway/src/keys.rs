//! The sandbox's keys. One transaction carries out a call, writes the books, and stores the answer.
//!
//! Guarantees: the lock on the key's row makes the calls of one key run one after the other, in all processes that share the
//! tables. A stored answer and its line in the books commit together, so a crash leaves both or neither.
//!
//! Not guaranteed: anything after the key is forgotten. Then the same call is a new call, and the books show both.

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

/// The advisory lock of a start, so that several starts at once don't create the same table. The number spells "sandbox" in
/// ASCII, so nobody else is likely to use it.
const SCHEMA_LOCK: i64 = 0x73_61_6e_64_62_6f_78;

/// How many calls of a key `pm_card_gateway_error` fails: as many as a caller repeats quickly.
const FAILING_CALLS: i32 = 2;

/// Forgets all expired keys.
const FORGET: &str = "DELETE FROM sandbox.keys WHERE key IN \
    (SELECT key FROM sandbox.keys WHERE expires_at <= now() FOR UPDATE SKIP LOCKED)";

/// The longest time that a key is kept: a century. PostgreSQL can still add a century to a time.
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

/// An answer. Once the answer is stored, every call of the key gets it.
#[derive(Debug)]
pub struct Answer {
    pub status: i16,
    /// JSON.
    pub body: String,
    pub delivery: Delivery,
}

/// How an answer reaches its caller. A replay is always prompt.
#[derive(Clone, Copy, Debug)]
pub enum Delivery {
    Prompt,
    Slow,
    Lost,
}

/// The key's row after this call was counted.
#[derive(Queryable)]
struct Key {
    request: String,
    calls: i32,
    status: Option<i16>,
    body: Option<String>,
}

/// Creates the tables that are missing, and forgets expired keys, so that they don't pile up.
pub fn prepare(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| {
        // `IF NOT EXISTS` alone fails if two sessions create the same table at once.
        sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(SCHEMA_LOCK).execute(conn)?;
        conn.batch_execute(include_str!("schema.sql"))
    })?;
    // On purpose: a second transaction that skips locked rows. The statements above lock the books, and a call that holds its
    // key's row waits for the books. If this statement waited for that row with the books locked, there would be a deadlock.
    sql_query(FORGET).execute(conn)?;
    Ok(())
}

/// Answers a call. If the key has a stored answer, returns that answer, else carries out the call.
pub fn carry_out(conn: &mut PgConnection, key: &str, key_ttl: Duration, call: &Call) -> Result<Answer, Refusal> {
    let request = to_json(call)?;
    // READ COMMITTED, whatever the server's default is: each statement must see what the row's last holder committed. A refusal
    // rolls back the count, too, so a refusal leaves nothing.
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
            // Commits only the count: no answer, and no line in the books.
            None => Ok(gateway_error("the gateway failed; send the call again")),
        }
    })
}

/// Locks the key's row, new or known, and counts this call in the row. An expired key is forgotten first.
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

/// Does what the payment method stands for. `None`: this call fails and leaves no trace.
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
