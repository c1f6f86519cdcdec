//! The entitlements of an order: its payment grants them, and its full refund revokes them.

use diesel::dsl::now;
use diesel::pg::PgConnection;
use diesel::pg::data_types::PgInterval;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use uuid::Uuid;

use super::{Entitlement, set_revoked};
use crate::http::ApiError;
use crate::schema::entitlements;
use crate::shop::events;
use crate::shop::orders::Order;
use crate::shop::products::Grants;
use idempotency::Prepared;

/// Grants one entitlement for each granting item of a paid order: units times quantity.
///
/// # Errors
/// The database's. The limits of the catalogue keep units times quantity within the column's limit.
pub(crate) fn grant_of_order(conn: &mut PgConnection, account_id: Uuid, order: &Order) -> Result<(), ApiError> {
    for item in &order.items {
        let Some(Grants { feature, units, days }) = &item.grants else { continue };
        let expiry = days.map(|days| now.into_sql::<Timestamptz>() + PgInterval::from_days(days));
        let granted = diesel::insert_into(entitlements::table)
            .values((
                entitlements::account_id.eq(account_id),
                entitlements::id.eq(Uuid::now_v7()),
                entitlements::customer.eq(&order.customer),
                entitlements::feature.eq(feature),
                entitlements::units.eq(units.map(|units| units * i64::from(item.quantity))),
                entitlements::order_id.eq(order.id),
                expiry.map(|expiry| entitlements::expires_at.eq(expiry.nullable())),
            ))
            .returning(Entitlement::as_returning());
        let entitlement: Entitlement = Prepared(granted).get_result(conn)?;
        events::record(conn, account_id, "entitlement.granted", &entitlement)?;
    }
    Ok(())
}

/// Revokes the order's entitlements that are not revoked yet.
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
        set_revoked(conn, account_id, id)?;
    }
    Ok(())
}
