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
use serde_json::json;

use super::books::{self, PaymentIntent, Refund};
use super::calls::{Call, NewPayment, NewRefund};
use super::methods::Card;
use super::objects;
use super::refusal::Refusal;

/// The advisory lock of a start, so that concurrent starts don't create the same table. The number spells "sandbox" in
/// ASCII, so nobody else is likely to use it.
const SCHEMA_LOCK: i64 = 0x73_61_6e_64_62_6f_78;

/// How many calls of a key fail with `pm_card_gateway_error`: as many as a caller repeats quickly.
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
    /// The answer is stored under the key.
    pub is_stored: bool,
    /// It was there before this call.
    pub is_replay: bool,
    /// What the call created, if it created something now.
    pub made: Option<Made>,
}

/// How an answer reaches its caller. A replay is always prompt.
#[derive(Clone, Copy, Debug)]
pub enum Delivery {
    Prompt,
    Slow,
    Lost,
}

/// What a call created, for the events.
#[derive(Debug)]
pub enum Made {
    Payment(PaymentIntent),
    Refund(Refund),
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
    // A second transaction, which skips locked rows. The statements above lock the books, and a call that holds its
    // key's row waits for the books. If this statement waited for that row with the books locked, they would deadlock.
    sql_query(FORGET).execute(conn)?;
    Ok(())
}

/// Answers a call. If the key has a stored answer, returns that answer, else carries out the call. `request` is the text of the
/// whole request, by which the sandbox knows a key that is used for another one.
pub fn carry_out(
    conn: &mut PgConnection,
    key: Option<&str>,
    key_ttl: Duration,
    request: &str,
    call: &Call,
) -> Result<Answer, Refusal> {
    // READ COMMITTED, whatever the server's default: each statement must see what the row's last holder committed. A
    // refusal rolls back the count too, so it leaves nothing.
    conn.build_transaction().read_committed().run(|conn| {
        let mut calls = 1;
        if let Some(key) = key {
            let known = count_call(conn, key, key_ttl, request)?;
            if known.request != request {
                return Err(Refusal::KeyReused);
            }
            if let (Some(status), Some(body)) = (known.status, known.body) {
                return Ok(Answer {
                    status,
                    body,
                    delivery: Delivery::Prompt,
                    is_stored: true,
                    is_replay: true,
                    made: None,
                });
            }
            calls = known.calls;
        }
        let answer = match call {
            Call::Payment(new) => carry_out_payment(conn, new, calls)?,
            Call::Refund(new) => carry_out_refund(conn, new)?,
        };
        if let (Some(key), true) = (key, answer.is_stored) {
            store(conn, key, &answer)?;
        }
        Ok(answer)
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

/// Does what the card stands for. An answer that is not stored leaves only the count.
fn carry_out_payment(conn: &mut PgConnection, new: &NewPayment, calls: i32) -> QueryResult<Answer> {
    let delivery = match new.card {
        Card::GatewayError if calls <= FAILING_CALLS => {
            return Ok(gateway_error("the sandbox failed; try again", false));
        }
        Card::StickyError => return Ok(gateway_error("the sandbox failed this call for good", true)),
        Card::Slow => Delivery::Slow,
        Card::LostReply => Delivery::Lost,
        _ => Delivery::Prompt,
    };
    let intent = books::enter_payment(conn, new)?;
    let (status, body) = match &intent.error_code {
        None => (200, objects::payment_intent(&intent)),
        Some(_) => (402, objects::card_error(&intent)),
    };
    let made = Some(Made::Payment(intent));
    Ok(Answer { status, body: body.to_string(), delivery, is_stored: true, is_replay: false, made })
}

fn carry_out_refund(conn: &mut PgConnection, new: &NewRefund) -> Result<Answer, Refusal> {
    let (status, body, made) = match books::enter_refund(conn, new)? {
        Ok(refund) => (200, objects::refund(&refund), Some(Made::Refund(refund))),
        Err(envelope) => (400, envelope, None),
    };
    Ok(Answer { status, body: body.to_string(), delivery: Delivery::Prompt, is_stored: true, is_replay: false, made })
}

fn gateway_error(message: &str, is_stored: bool) -> Answer {
    let body = json!({"error": {"type": "api_error", "message": message}}).to_string();
    Answer { status: 500, body, delivery: Delivery::Prompt, is_stored, is_replay: false, made: None }
}

fn interval(key_ttl: Duration) -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(key_ttl.min(LONGEST_KEY_TTL).as_micros()).unwrap_or(i64::MAX))
}
