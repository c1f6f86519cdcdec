//! Entitlements: what a customer may use, granted by payment or by hand.
//!
//! Payment grants in the transaction that records it, and a full refund revokes in the transaction that records that.

use chrono::{DateTime, Utc};
use diesel::dsl::now;
use diesel::pg::PgConnection;
use diesel::pg::data_types::PgInterval;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use serde::Serialize;
use uuid::Uuid;

use crate::error::ApiError;
use crate::events;
use crate::orders::Order;
use crate::schema::{entitlements, order_items};

/// An entitlement as it is answered.
#[derive(Debug, Serialize, Queryable, Selectable)]
#[diesel(table_name = entitlements, check_for_backend(diesel::pg::Pg))]
pub struct Entitlement {
    id: Uuid,
    customer: String,
    feature: String,
    /// None is unlimited.
    units: Option<i64>,
    units_used: i64,
    /// The order that granted it, if one did.
    order_id: Option<Uuid>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

/// Grants what the items of a paid order grant: one entitlement for each, of units times quantity.
///
/// # Errors
/// The database's. The catalogue's bounds keep every product of units and quantity within the column's.
pub(crate) fn grant_of_order(conn: &mut PgConnection, account_id: Uuid, order: &Order) -> Result<(), ApiError> {
    let granting = order_items::table
        .filter(order_items::account_id.eq(account_id))
        .filter(order_items::order_id.eq(order.id))
        .filter(order_items::grant_feature.is_not_null())
        .order(order_items::position)
        .select((order_items::grant_feature, order_items::grant_units, order_items::grant_days, order_items::quantity))
        .load::<(Option<String>, Option<i64>, Option<i32>, i32)>(conn)?;
    for (feature, units, days, quantity) in granting {
        let expiry = days.map(|days| now.into_sql::<Timestamptz>() + PgInterval::from_days(days));
        let entitlement: Entitlement = diesel::insert_into(entitlements::table)
            .values((
                entitlements::account_id.eq(account_id),
                entitlements::id.eq(Uuid::now_v7()),
                entitlements::customer.eq(&order.customer),
                entitlements::feature.eq(feature.unwrap_or_default()),
                entitlements::units.eq(units.map(|units| units * i64::from(quantity))),
                entitlements::order_id.eq(order.id),
                expiry.map(|expiry| entitlements::expires_at.eq(expiry.nullable())),
            ))
            .returning(Entitlement::as_returning())
            .get_result(conn)?;
        events::record(conn, account_id, "entitlement.granted", &entitlement)?;
    }
    Ok(())
}

/// Revokes what an order granted and is not revoked yet.
///
/// # Errors
/// The database's.
pub(crate) fn revoke_of_order(conn: &mut PgConnection, account_id: Uuid, order_id: Uuid) -> Result<(), ApiError> {
    let granted: Vec<Uuid> = entitlements::table
        .filter(entitlements::account_id.eq(account_id))
        .filter(entitlements::order_id.eq(order_id))
        .filter(entitlements::revoked_at.is_null())
        .order(entitlements::id)
        .select(entitlements::id)
        .for_update()
        .load(conn)?;
    for id in granted {
        let entitlement: Entitlement = diesel::update(entitlements::table.find((account_id, id)))
            .set(entitlements::revoked_at.eq(now.into_sql::<Timestamptz>().nullable()))
            .returning(Entitlement::as_returning())
            .get_result(conn)?;
        events::record(conn, account_id, "entitlement.revoked", &entitlement)?;
    }
    Ok(())
}
