//! The books: the API's database, the gateway's database and the clients' answers must agree.

use std::collections::BTreeMap;
use std::time::Instant;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use payments_history::{Books, Object};

use crate::Fatal;
use crate::client::Kind;
use crate::history::{History, nothing, row};
use crate::world::World;

/// The result of one check.
pub struct Finding {
    pub what: &'static str,
    /// 0 if all is right.
    pub differences: u64,
}

impl Finding {
    pub fn new(what: &'static str, differences: u64) -> Self {
        Self { what, differences }
    }
}

/// Selections from the API's database that must be empty.
const EMPTY: [(&str, &str); 12] = [
    (
        "charges and refunds still processing",
        "(SELECT FROM charges WHERE status = 'processing' UNION ALL SELECT FROM refunds WHERE status = 'processing') odd",
    ),
    ("external calls still open", "external_calls WHERE resolved_at IS NULL"),
    (
        "external calls without their charge or refund",
        "(SELECT account_id, reference FROM external_calls EXCEPT ALL (SELECT account_id, reference FROM charges \
         UNION ALL SELECT account_id, reference FROM refunds)) odd",
    ),
    ("records still provisional", "idempotency_keys WHERE status = 202"),
    (
        "orders whose status and charge disagree",
        "orders o WHERE (status IN ('paid', 'refunded')) <> (SELECT count(*) = 1 FROM charges c \
         WHERE c.account_id = o.account_id AND c.order_id = o.id AND c.status = 'succeeded' AND c.amount = o.amount)",
    ),
    (
        "orders with more than one succeeded charge",
        "(SELECT FROM charges WHERE status = 'succeeded' GROUP BY account_id, order_id HAVING count(*) > 1) odd",
    ),
    (
        "charges whose refunds don't add up",
        "charges c WHERE amount_refunded > amount OR amount_refunded <> (SELECT coalesce(sum(r.amount), 0) FROM refunds r \
         WHERE r.account_id = c.account_id AND r.charge_id = c.id AND r.status = 'succeeded')",
    ),
    (
        "orders whose status and refunds disagree",
        "orders o JOIN charges c ON c.account_id = o.account_id AND c.order_id = o.id AND c.status = 'succeeded' \
         WHERE (o.status = 'refunded') <> (c.amount_refunded = c.amount)",
    ),
    ("entitlements that paid orders lack", "(SELECT * FROM granted EXCEPT ALL SELECT * FROM held) odd"),
    ("entitlements that no paid order grants", "(SELECT * FROM held EXCEPT ALL SELECT * FROM granted) odd"),
    (
        "products whose reserved stock is wrong",
        "products p WHERE reserved <> (SELECT coalesce(sum(i.quantity), 0) FROM orders o, \
         jsonb_to_recordset(o.items) AS i (sku text, quantity int, reserves boolean) \
         WHERE o.account_id = p.account_id AND i.sku = p.sku AND i.reserves AND o.status <> 'canceled')",
    ),
    (
        "changes without exactly one event",
        "(SELECT 'order.created' AS type, id FROM orders UNION ALL SELECT 'charge.' || status, id FROM charges \
         UNION ALL SELECT 'refund.' || status, id FROM refunds UNION ALL SELECT 'entitlement.granted', id FROM entitlements \
         UNION ALL SELECT 'order.' || status, id FROM orders WHERE status IN ('canceled', 'refunded')) change \
         WHERE (SELECT count(*) FROM told WHERE told.type = change.type AND told.id = change.id) <> 1",
    ),
];

/// The entitlements that paid orders grant, the entitlements that customers hold, in the same columns, and the events by the id
/// of their object.
const VIEWS: &str = "WITH granted AS (SELECT o.account_id, o.id, o.customer, g.feature, g.units * i.quantity, \
     o.status = 'refunded' FROM orders o, jsonb_to_recordset(o.items) AS i (quantity bigint, grants jsonb), \
     jsonb_to_record(i.grants) AS g (feature text, units bigint) \
     WHERE o.status IN ('paid', 'refunded') AND g.feature IS NOT NULL), \
     held AS (SELECT account_id, order_id, customer, feature, units, revoked_at IS NOT NULL FROM entitlements), \
     told AS MATERIALIZED (SELECT type, (data ->> 'id')::uuid AS id FROM events)";

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

fn count(conn: &mut PgConnection, from: &str) -> QueryResult<u64> {
    let count: Count = diesel::sql_query(format!("{VIEWS} SELECT count(*) AS n FROM {from}")).get_result(conn)?;
    Ok(count.n.unsigned_abs())
}

/// Whether all charges and refunds are resolved. False if a query fails.
pub fn nothing_is_processing(conn: &mut PgConnection) -> bool {
    // Two plain queries: a distributed database can answer them too.
    ["charges", "refunds"].iter().all(|table| {
        let query = format!("SELECT count(*) AS n FROM {table} WHERE status = 'processing'");
        diesel::sql_query(query).get_result(conn).is_ok_and(|count: Count| count.n == 0)
    })
}

/// Compares the books with each other, and with the final replies of the clients' keys.
pub fn check(world: &World, outcomes: &BTreeMap<(Kind, u16), u64>) -> Result<Vec<Finding>, Fatal> {
    let (mut payments, mut gateway) = (world.books()?, world.connect("gateway")?);
    let mut findings = Vec::new();
    for (what, from) in EMPTY {
        findings.push(Finding::new(what, count(&mut payments, from)?));
    }
    for (what, table, book) in [
        ("payments that differ from succeeded charges", "charges", "payment_intents"),
        ("gateway refunds that differ from ours", "refunds", "refunds"),
    ] {
        let ours = moved(&mut payments, &format!("{table} WHERE status = 'succeeded'"))?;
        // A reference is in the metadata at the gateway, as at Stripe.
        let theirs = format!(
            "(SELECT metadata->>'reference' AS reference, amount FROM sandbox.{book} WHERE status = 'succeeded') t"
        );
        let theirs = moved(&mut gateway, &theirs)?;
        findings.push(Finding::new(what, differences(&ours, &theirs)));
    }
    for (what, kind, statuses, table) in [
        ("orders too many or too few for the keys", Kind::Order, &[201][..], "orders"),
        ("charges too many or too few for the keys", Kind::Charge, &[201, 402], "charges"),
        ("refunds too many or too few for the keys", Kind::Refund, &[201, 402], "refunds"),
        ("canceled orders too many or too few", Kind::Cancel, &[200], "orders WHERE status = 'canceled'"),
    ] {
        let answered: u64 = statuses.iter().filter_map(|status| outcomes.get(&(kind, *status))).sum();
        findings.push(Finding::new(what, answered.abs_diff(count(&mut payments, table)?)));
    }
    Ok(findings)
}

/// Writes into the history which money moved at the gateway, by its own books.
pub fn read_gateway(world: &World, history: &History) -> Result<(), Fatal> {
    let mut gateway = world.connect("gateway")?;
    for (book, table) in [(Books::Payments, "payment_intents"), (Books::Repayments, "refunds")] {
        let began = Instant::now();
        let from = format!(
            "(SELECT metadata->>'reference' AS reference, amount FROM sandbox.{table} WHERE status = 'succeeded') t"
        );
        let shown = |Moved { reference, amount }| {
            let (kind, status) = (table.to_owned(), "succeeded".to_owned());
            row(Object { kind, status, amount, reference: Some(reference), ..nothing() })
        };
        let rows = moved(&mut gateway, &from)?.into_iter().map(shown).collect();
        history.book(began, "gateway", (book, None), true, rows);
    }
    Ok(())
}

#[derive(PartialEq, Eq, QueryableByName)]
struct Moved {
    #[diesel(sql_type = Text)]
    reference: String,
    #[diesel(sql_type = BigInt)]
    amount: i64,
}

/// The reference and the amount of each row of a table.
fn moved(conn: &mut PgConnection, from: &str) -> QueryResult<Vec<Moved>> {
    diesel::sql_query(format!("SELECT reference, amount FROM {from}")).load(conn)
}

/// How many lines only one of the lists has. A line that is in one list twice and in the other once is one difference.
fn differences(ours: &[Moved], theirs: &[Moved]) -> u64 {
    let mut balance: BTreeMap<(&str, i64), i64> = BTreeMap::new();
    for (list, sign) in [(ours, 1), (theirs, -1)] {
        for line in list {
            *balance.entry((&line.reference, line.amount)).or_default() += sign;
        }
    }
    balance.values().map(|difference| difference.unsigned_abs()).sum()
}
