//! Metadata: the client's own data about an order, a charge or a refund. It is stored, returned, never interpreted, and
//! never sent to the gateway.

use std::collections::{BTreeMap, HashSet};

use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::db::Jsonb;
use crate::schema::{charges, orders, refunds};
use checked_body::{Map, map, text};

/// Stripe's limits, except for the number of keys, so that the reply stays well below the record's limit.
pub(crate) const METADATA: Map = map(20, text(40), text(500));

/// The map.
pub type Metadata = BTreeMap<String, String>;

impl From<Jsonb<Self>> for Metadata {
    fn from(column: Jsonb<Self>) -> Self {
        column.0
    }
}

/// The ids of the charges and refunds of a customer's orders.
pub(super) fn payments_of(conn: &mut PgConnection, account_id: Uuid, customer: &str) -> QueryResult<HashSet<Uuid>> {
    let theirs = orders::table.filter(orders::account_id.eq(account_id)).filter(orders::customer.eq(customer));
    let ids: Vec<Uuid> = charges::table
        .filter(charges::account_id.eq(account_id))
        .filter(charges::order_id.eq_any(theirs.select(orders::id)))
        .select(charges::id)
        .load(conn)?;
    let of_charges = refunds::table.filter(refunds::account_id.eq(account_id)).filter(refunds::charge_id.eq_any(&ids));
    let refund_ids: Vec<Uuid> = of_charges.select(refunds::id).load(conn)?;
    Ok(ids.into_iter().chain(refund_ids).collect())
}

/// Erases the metadata of the charges and refunds of these orders, which are locked.
pub(super) fn erase(conn: &mut PgConnection, account_id: Uuid, orders: &[Uuid]) -> QueryResult<()> {
    let of_orders = charges::table.filter(charges::account_id.eq(account_id)).filter(charges::order_id.eq_any(orders));
    let ids: Vec<Uuid> = of_orders.select(charges::id).order(charges::id).for_update().load(conn)?;
    let of_charges = refunds::table.filter(refunds::account_id.eq(account_id)).filter(refunds::charge_id.eq_any(&ids));
    let refund_ids: Vec<Uuid> = of_charges.select(refunds::id).order(refunds::id).for_update().load(conn)?;
    diesel::update(charges::table)
        .filter(charges::account_id.eq(account_id))
        .filter(charges::id.eq_any(&ids))
        .set(charges::metadata.eq(Jsonb(Metadata::new())))
        .execute(conn)?;
    diesel::update(refunds::table)
        .filter(refunds::account_id.eq(account_id))
        .filter(refunds::id.eq_any(&refund_ids))
        .set(refunds::metadata.eq(Jsonb(Metadata::new())))
        .execute(conn)?;
    Ok(())
}

/// The reply with its metadata emptied and no other byte changed. None if it has none.
pub(super) fn erased_in(reply: &str) -> Option<String> {
    // In a JSON string a quote always follows a backslash, and no value in the metadata is an object, so this is the
    // member.
    let start = reply.find("\"metadata\":{\"")? + "\"metadata\":".len();
    let mut map = serde_json::Deserializer::from_str(&reply[start..]).into_iter::<IgnoredAny>();
    map.next()?.ok()?;
    let end = start + map.byte_offset();
    Some(format!("{}{{}}{}", &reply[..start], &reply[end..]))
}
