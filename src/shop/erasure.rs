//! Erases a person: a customer gets a random name everywhere in the database. The random name says nothing about the person.
//! The metadata of the customer's orders, and of their charges and refunds, becomes empty.
//!
//! Guarantees: orders, entitlements, events and stored replies change in one transaction. Amounts, ids, times and everything
//! else stay, so the books add up as before. A retry of an order still gets its reply, with the new name in the reply.
//!
//! Not reached: back-ups, logs, and the data of clients and of the gateway. Idempotency keys and names of payment methods are
//! the client's own words: a client must not put a person's name into them. A request of the customer that runs at the same
//! time keeps the old name: if there was such a request, erase the customer again.

use diesel::dsl::sql;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Bytea, Text};
use serde_json::{Value, json};
use uuid::Uuid;

use self::schema::idempotency_keys;
use crate::db::Jsonb;
use crate::schema::{entitlements, events, orders};
use crate::shop::metadata::{self, Metadata};
use crate::shop::{charges, refunds};

/// The columns that this file needs. The idempotency module does not export its schema.
mod schema {
    diesel::table! {
        idempotency_keys (account_id, scope, key) {
            account_id -> Uuid,
            scope -> Varchar,
            key -> Varchar,
            id -> Uuid,
            location -> Nullable<Text>,
            body -> Bytea,
        }
    }
}

/// The number of rows that had the name.
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

/// Gives the customer of an account a new name. Returns the new name, and the number of rows that got it.
///
/// # Errors
/// A database error. Then nothing has changed.
pub fn erase_customer(conn: &mut PgConnection, account_id: Uuid, customer: &str) -> QueryResult<(String, Erased)> {
    // Random, so that the name leads nobody to the person. The same in all rows, so that the customer's orders stay together.
    let name = format!("erased-{}", Uuid::new_v4().simple());
    conn.transaction(|conn| {
        // In the lock order of all transactions.
        let orders = in_orders(conn, account_id, customer, &name)?;
        let payments = metadata::erase(conn, account_id, &orders)?;
        let replies = in_replies(conn, account_id, customer, &name, &payments)?;
        let entitlements = in_entitlements(conn, account_id, customer, &name)?;
        let events = in_events(conn, account_id, customer, &name, &payments)?;
        Ok((name, Erased { orders: orders.len(), replies, entitlements, events }))
    })
}

fn in_orders(conn: &mut PgConnection, account_id: Uuid, customer: &str, name: &str) -> QueryResult<Vec<Uuid>> {
    let of_customer = orders::table.filter(orders::account_id.eq(account_id)).filter(orders::customer.eq(customer));
    let ids: Vec<Uuid> = of_customer.select(orders::id).order(orders::id).for_update().load(conn)?;
    diesel::update(orders::table)
        .filter(orders::account_id.eq(account_id))
        .filter(orders::id.eq_any(&ids))
        .set((orders::customer.eq(name), orders::metadata.eq(Jsonb(Metadata::new()))))
        .execute(conn)?;
    Ok(ids)
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

/// A reply is replayed byte for byte, so only the name and the metadata in the bytes change. `payments` are the ids of the
/// customer's charges and refunds.
fn in_replies(
    conn: &mut PgConnection,
    account_id: Uuid,
    customer: &str,
    name: &str,
    payments: &[Uuid],
) -> QueryResult<usize> {
    let (old, new) = (member(customer)?, member(name)?);
    let locations = payments.iter().flat_map(|id| [charges::location(*id), refunds::location(*id)]);
    let theirs: Vec<(String, String, Vec<u8>)> = idempotency_keys::table
        .filter(idempotency_keys::account_id.eq(account_id))
        .filter(
            sql::<Bool>("position(")
                .bind::<Bytea, _>(old.as_bytes())
                .sql(" in body) > 0")
                .or(idempotency_keys::location.eq_any(locations)),
        )
        .select((idempotency_keys::scope, idempotency_keys::key, idempotency_keys::body))
        .order(idempotency_keys::id)
        .for_update()
        .load(conn)?;
    let mut changed = 0;
    for (scope, key, body) in &theirs {
        let Ok(text) = std::str::from_utf8(body) else { continue };
        let named = text.replace(&old, &new);
        let erased = metadata::erased_in(&named).unwrap_or(named);
        if erased != text {
            changed += diesel::update(idempotency_keys::table.find((account_id, scope, key)))
                .set(idempotency_keys::body.eq(erased.into_bytes()))
                .execute(conn)?;
        }
    }
    Ok(changed)
}

/// The member `customer`, spelt as in every reply.
fn member(customer: &str) -> QueryResult<String> {
    let text = serde_json::to_string(customer).map_err(|e| diesel::result::Error::SerializationError(e.into()))?;
    Ok(format!("\"customer\":{text}"))
}

/// The data of an order's or an entitlement's event has the customer. That of a charge's or a refund's has only metadata.
fn in_events(
    conn: &mut PgConnection,
    account_id: Uuid,
    customer: &str,
    name: &str,
    payments: &[Uuid],
) -> QueryResult<usize> {
    let ids = payments.iter().map(Uuid::to_string);
    let theirs: Vec<(Uuid, Value)> = events::table
        .filter(events::account_id.eq(account_id))
        .filter(
            sql::<Bool>("data ->> 'customer' = ")
                .bind::<Text, _>(customer)
                .or(events::data.retrieve_as_text("id").eq_any(ids)),
        )
        .select((events::id, events::data))
        .order(events::id)
        .load(conn)?;
    let mut changed = 0;
    for (id, before) in &theirs {
        let mut data = before.clone();
        if let Some(known) = data.get_mut("customer") {
            *known = name.into();
        }
        if let Some(metadata) = data.get_mut("metadata") {
            *metadata = json!({});
        }
        if data != *before {
            changed += diesel::update(events::table.find((account_id, id))).set(events::data.eq(data)).execute(conn)?;
        }
    }
    Ok(changed)
}
