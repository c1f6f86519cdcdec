//! The units that orders reserve of products with a stock.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

use crate::schema::products;
use idempotency::Prepared;

/// Locks products until the transaction ends, in the order of their SKUs. Returns how many units of each are left. None: the
/// product is unlimited.
pub(super) fn lock_stock<'a>(
    conn: &mut PgConnection,
    account_id: Uuid,
    skus: impl Iterator<Item = &'a str>,
) -> QueryResult<Vec<(String, Option<i64>)>> {
    products::table
        .filter(products::account_id.eq(account_id))
        .filter(products::sku.eq_any(skus.collect::<Vec<_>>()))
        .order(products::sku)
        .select((products::sku, products::stock - products::reserved.nullable()))
        .for_update()
        .load(conn)
}

/// Reserves `quantity` units of a locked product, or gives units back if `quantity` is negative. Returns the new `reserved`.
pub(super) fn move_reserved(conn: &mut PgConnection, account_id: Uuid, sku: &str, quantity: i64) -> QueryResult<i64> {
    let product = diesel::update(products::table.find((account_id, sku)));
    let moved = product.set(products::reserved.eq(products::reserved + quantity)).returning(products::reserved);
    Prepared(moved).get_result(conn)
}
