//! Erasing a person: a customer gets another name, one that says nothing, wherever the database has the old one.
//!
//! Guarantees: orders, entitlements, events and stored replies change in one transaction; amounts, ids, times and everything
//! else stay, so that the books add up as before; a retry of an order still gets its reply, with the new name in it.
//!
//! Does not reach what this database doesn't have: back-ups, logs, what clients and the gateway keep. Idempotency keys and
//! names of payment methods are the client's own words: a client must not put a person's name into them. A request of the
//! customer that is under way meanwhile keeps the old name: run it again.

use diesel::dsl::sql;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Bytea, Text};
use serde_json::Value;
use uuid::Uuid;

use self::schema::idempotency_keys;
use crate::schema::{entitlements, events, orders};

/// The idempotency module keeps its schema to itself. These are the columns that erasing needs.
mod schema {
    diesel::table! {
        idempotency_keys (account_id, scope, key) {
            account_id -> Uuid,
            scope -> Varchar,
            key -> Varchar,
            id -> Uuid,
            body -> Bytea,
        }
    }
}

/// How many rows of each kind had the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Orders.
    pub orders: usize,
    /// Stored replies of idempotency records.
    pub replies: usize,
    /// Entitlements.
    pub entitlements: usize,
    /// Events.
    pub events: usize,
}

/// Gives the customer of an account a new name, and returns the name with the number of rows that have it now.
///
/// # Errors
/// The database's; nothing has changed then.
pub fn erase_customer(conn: &mut PgConnection, account_id: Uuid, customer: &str) -> QueryResult<(String, Erased)> {
    // Random, so that nobody can find out whose it was, and one for all, so that a customer's orders stay together.
    let name = format!("erased-{}", Uuid::new_v4().simple());
    conn.transaction(|conn| {
        // In the order in which every transaction takes its locks.
        let orders = in_orders(conn, account_id, customer, &name)?;
        let replies = in_replies(conn, account_id, customer, &name)?;
        let entitlements = in_entitlements(conn, account_id, customer, &name)?;
        let events = in_events(conn, account_id, customer, &name)?;
        Ok((name, Erased { orders, replies, entitlements, events }))
    })
}

fn in_orders(conn: &mut PgConnection, account_id: Uuid, customer: &str, name: &str) -> QueryResult<usize> {
    let of_customer = orders::table.filter(orders::account_id.eq(account_id)).filter(orders::customer.eq(customer));
    let ids: Vec<Uuid> = of_customer.select(orders::id).order(orders::id).for_update().load(conn)?;
    diesel::update(orders::table)
        .filter(orders::account_id.eq(account_id))
        .filter(orders::id.eq_any(&ids))
        .set(orders::customer.eq(name))
        .execute(conn)
}

fn in_entitlements(conn: &mut PgConnection, account_id: Uuid, customer: &str, name: &str) -> QueryResult<usize> {
    let of_customer =
        entitlements::table.filter(entitlements::account_id.eq(account_id)).filter(entitlements::customer.eq(customer));
    let ids: Vec<Uuid> = of_customer.select(entitlements::id).order(entitlements::id).for_update().load(conn)?;
    diesel::update(entitlements::table)
        .filter(entitlements::account_id.eq(account_id))
        .filter(entitlements::id.eq_any(&ids))
        .set(entitlements::customer.eq(name))
        .execute(conn)
}

/// A reply is bytes that are replayed as they are, so only the name in them changes.
fn in_replies(conn: &mut PgConnection, account_id: Uuid, customer: &str, name: &str) -> QueryResult<usize> {
    let (old, new) = (member(customer)?, member(name)?);
    let with_name: Vec<(String, String, Vec<u8>)> = idempotency_keys::table
        .filter(idempotency_keys::account_id.eq(account_id))
        .filter(sql::<Bool>("position(").bind::<Bytea, _>(old.as_bytes()).sql(" in body) > 0"))
        .select((idempotency_keys::scope, idempotency_keys::key, idempotency_keys::body))
        .order(idempotency_keys::id)
        .for_update()
        .load(conn)?;
    for (scope, key, body) in &with_name {
        let Ok(text) = std::str::from_utf8(body) else { continue };
        diesel::update(idempotency_keys::table.find((account_id, scope, key)))
            .set(idempotency_keys::body.eq(text.replace(&old, &new).into_bytes()))
            .execute(conn)?;
    }
    Ok(with_name.len())
}

/// The member of an object, as every reply has it.
fn member(customer: &str) -> QueryResult<String> {
    let text = serde_json::to_string(customer).map_err(|e| diesel::result::Error::SerializationError(e.into()))?;
    Ok(format!("\"customer\":{text}"))
}

/// An event's data is the object after a change: of an order, or of an entitlement.
fn in_events(conn: &mut PgConnection, account_id: Uuid, customer: &str, name: &str) -> QueryResult<usize> {
    let with_name: Vec<(Uuid, Value)> = events::table
        .filter(events::account_id.eq(account_id))
        .filter(sql::<Bool>("data ->> 'customer' = ").bind::<Text, _>(customer))
        .select((events::id, events::data))
        .order(events::id)
        .load(conn)?;
    for (id, data) in &with_name {
        let mut data = data.clone();
        data["customer"] = name.into();
        diesel::update(events::table.find((account_id, id))).set(events::data.eq(data)).execute(conn)?;
    }
    Ok(with_name.len())
}
