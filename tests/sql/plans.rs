//! Each filter of a list, and the feed, reads by an index: a list never reads an account's whole history.

use std::fmt::Write as _;

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::app::App;
use crate::gateways::away;
use crate::recorder;
use crate::support::{connect, fresh_database};

/// A request, a part of its statement, and what its plan must have.
const READS: [(&str, &str, &[&str]); 13] = [
    ("/v1/orders?created_before=2026-01-01T00:00:00Z", "orders.id < $", &["orders_pkey", "id < $"]),
    ("/v1/orders?created_from=2126-01-01T00:00:00Z", "orders.id >= $", &["orders_pkey", "id >= $"]),
    ("/v1/charges?created_from=2126-01-01T00:00:00Z", "charges.id >= $", &["charges_pkey", "id >= $"]),
    ("/v1/entitlements?created_before=2026-01-01T00:00:00Z", "entitlements.id < $", &["entitlements_pkey", "id < $"]),
    ("/v1/orders?customer=c7", "orders.customer = $", &["orders_of_a_customer"]),
    ("/v1/orders?status=canceled", "orders.status = $", &["orders_of_a_status"]),
    ("/v1/charges?status=failed", "charges.status = $", &["charges_of_a_status"]),
    ("/v1/charges?customer=c7", "(SELECT orders.id FROM orders", &["orders_of_a_customer"]),
    ("/v1/charges?parked=true", "charges.reference = ANY", &["charges_of_a_reference"]),
    ("/v1/charges?parked=false", "charges.reference != ALL", &["charges_pkey"]),
    ("/v1/entitlements?feature=rare", "entitlements.feature = $", &["entitlements_of_a_feature"]),
    ("/v1/entitlements?customer=c7", "entitlements.customer = $", &["entitlements_of_a_customer"]),
    ("/v1/events?type=order.refunded", "events.type = $", &["events_position_is_unique", "\"position\" <= $"]),
];

/// Many rows of one account.
const ROWS: u32 = 50_000;

fn fill(conn: &mut PgConnection) {
    let sql = format!(
        "CREATE TEMP TABLE made AS SELECT n, (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid AS id,
           (SELECT account_id FROM accounts WHERE name = 'acme') AS account_id FROM generate_series(1, {ROWS}) AS n;
         INSERT INTO orders (account_id, id, customer, status, currency, amount, items)
           SELECT account_id, id, 'c' || n % 10000, CASE WHEN n < 10 THEN 'canceled' ELSE 'paid' END, 'EUR', 1,
             '[{{\"sku\": \"a\", \"name\": \"a\", \"quantity\": 1, \"unit_amount\": 1, \"reserves\": false, \"grants\": null}}]' FROM made;
         INSERT INTO charges (account_id, id, order_id, status, amount, currency, payment_method, reference, idempotency_key,
             request_id, failure_code)
           SELECT account_id, id, id, CASE WHEN n < 10 THEN 'failed' ELSE 'succeeded' END, 1, 'EUR', 'x', 'r' || n, 'k', id,
             CASE WHEN n < 10 THEN 'x' END FROM made;
         INSERT INTO entitlements (account_id, id, customer, feature)
           SELECT account_id, id, 'c' || n % 10000, CASE WHEN n < 10 THEN 'rare' ELSE 'pro' END FROM made;
         INSERT INTO events (account_id, id, type, data, position) SELECT account_id, id, 'order.created', '{{}}', n FROM made;
         INSERT INTO event_feeds SELECT account_id, n FROM made WHERE n = {ROWS};
         ANALYZE"
    );
    conn.batch_execute(&sql).unwrap();
}

/// The plan that PostgreSQL uses for any value of the parameters.
fn plan(conn: &mut PgConnection, sql: &str) -> String {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
        line: String,
    }
    let parameters = (1..=99).take_while(|n| sql.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; parameters].join(", ");
    conn.batch_execute(&format!("SET plan_cache_mode = force_generic_plan; PREPARE looked_at AS {sql}")).unwrap();
    let lines: Vec<Line> = diesel::sql_query(format!("EXPLAIN EXECUTE looked_at({nulls})")).load(conn).unwrap();
    conn.batch_execute("DEALLOCATE looked_at").unwrap();
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{}", line.line).unwrap();
        text
    })
}

#[tokio::test]
async fn each_filter_of_a_list_reads_by_an_index() {
    let database = fresh_database();
    let conn = &mut connect(&database);
    conn.batch_execute("TRUNCATE events, event_feeds").unwrap();
    fill(conn);
    recorder::start();
    let app = App::start_without_resolver(database, away());
    for (path, part, needs) in READS {
        app.get(path).await.expect(200);
        let table = path.trim_start_matches("/v1/").split('?').next().unwrap();
        let texts = recorder::texts();
        // Other tests send this filter together with further ones. This request's statement is the shortest.
        let begin = format!("SELECT {table}.");
        let plain = |sql: &String| sql.replace('"', "");
        let with_part = texts.iter().filter(|sql| plain(sql).starts_with(&begin) && plain(sql).contains(part));
        let sql =
            with_part.min_by_key(|sql| sql.len()).unwrap_or_else(|| panic!("no statement has {part}: {texts:#?}"));
        let shown = plan(conn, sql);
        for need in needs {
            assert!(shown.contains(need), "{path} does not read by {need}: {sql}\n{shown}");
        }
        for filled in ["orders", "charges", "entitlements", "events"] {
            assert!(!shown.contains(&format!("Seq Scan on {filled} ")), "{path}: {sql}\n{shown}");
        }
    }
}
