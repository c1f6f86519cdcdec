//! Every SQL text that the program sends keeps the rules of a distributed schema.

use std::collections::{BTreeSet, HashSet};

use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::rules::check;
use crate::support::{connect, fresh_database};
use crate::{recorder, traffic};

/// This variable may name another database for the traffic, for example a Citus cluster with distributed tables. The database
/// must be migrated and seeded, and nobody else may use it.
const DATABASE: &str = "SQL_TEST_DATABASE_URL";

/// Statements without a table: transactions and settings of the connection.
const SESSION: [&str; 7] = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET ", "DISCARD PLANS"];

/// The statements that cross accounts, each with the reason why it may.
const OVER_ALL_ACCOUNTS: [(&str, &str); 7] = [
    (
        "SELECT idempotency_keys.account_id, ctid::text FROM idempotency_keys WHERE (idempotency_keys.expires_at <= ",
        "the sweeper looks for candidates without a lock, then locks and deletes them account by account",
    ),
    (
        "FROM external_calls WHERE (((external_calls.resolved_at IS NULL) AND (external_calls.next_attempt_at <= ",
        "the resolver looks for due external calls without a lock, then takes their leases account by account",
    ),
    (
        "FROM external_calls WHERE ((external_calls.resolved_at IS NULL) AND ((external_calls.next_attempt_at <= ",
        "the same look, when a person resumes parked external calls",
    ),
    ("SELECT COUNT(*), count(external_calls.parked_at), min(", "the gauges of the backlog"),
    ("SELECT idempotency_keys.expires_at, CURRENT_TIMESTAMP FROM idempotency_keys", "the gauge of the sweeper"),
    ("SELECT external_calls.account_id, COUNT(*), count(", "the backlog's accounts, for the person on call"),
    (
        "external_calls.parked_at FROM external_calls WHERE (external_calls.resolved_at IS NULL)",
        "the backlog's calls, for the person on call",
    ),
];

/// Every node holds these tables. They map an API key to an account, so no statement can filter them by account.
const REFERENCE_TABLES: [&str; 3] = ["accounts", "api_keys", "gateway_mode"];

/// What the program does to which table. If the recorded list differs, the traffic lacks a request, or this list lacks a line.
const KINDS: [&str; 43] = [
    "DELETE idempotency_keys",
    "INSERT accounts",
    "INSERT api_keys",
    "INSERT charges",
    "INSERT entitlements",
    "INSERT event_feeds",
    "INSERT events",
    "INSERT idempotency_keys",
    "INSERT orders",
    "INSERT products",
    "INSERT refunds",
    "INSERT external_calls",
    "INSERT gateway_mode",
    "LOCK charges",
    "LOCK entitlements",
    "LOCK event_feeds",
    "LOCK idempotency_keys",
    "LOCK orders",
    "LOCK products",
    "LOCK refunds",
    "LOCK external_calls",
    "SELECT accounts",
    "SELECT api_keys",
    "SELECT charges",
    "SELECT entitlements",
    "SELECT event_feeds",
    "SELECT events",
    "SELECT idempotency_keys",
    "SELECT orders",
    "SELECT products",
    "SELECT refunds",
    "SELECT external_calls",
    "SELECT gateway_mode",
    "UPDATE api_keys",
    "UPDATE charges",
    "UPDATE entitlements",
    "UPDATE event_feeds",
    "UPDATE events",
    "UPDATE idempotency_keys",
    "UPDATE orders",
    "UPDATE products",
    "UPDATE refunds",
    "UPDATE external_calls",
];

fn volatile_functions(url: &str) -> HashSet<String> {
    #[derive(QueryableByName)]
    struct Function {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let names = diesel::sql_query("SELECT DISTINCT proname::text AS name FROM pg_proc WHERE provolatile = 'v'");
    names.load::<Function>(&mut connect(url)).unwrap().into_iter().map(|function| function.name).collect()
}

/// Diesel's own table of migrations is not distributed.
const MIGRATIONS: &str = "__diesel_schema_migrations";

#[tokio::test]
async fn every_statement_that_the_program_sends_keeps_the_rules_of_a_distributed_schema() {
    let database = std::env::var(DATABASE).unwrap_or_else(|_| fresh_database());
    recorder::start();

    traffic::everything(&database).await;

    let volatile = volatile_functions(&database);
    let (mut kinds, mut used, mut wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for sql in recorder::texts() {
        if SESSION.iter().any(|word| sql.starts_with(word)) || sql.contains(MIGRATIONS) {
            continue;
        }
        let findings = check(&sql, &volatile);
        let plain = sql.replace('"', "");
        let exempt = OVER_ALL_ACCOUNTS.iter().position(|(text, _)| plain.contains(text));
        used.extend(exempt);
        let is_distributed = |kind: &String| !REFERENCE_TABLES.iter().any(|table| kind.ends_with(&format!(" {table}")));
        let crosses = findings.crosses_accounts && exempt.is_none() && findings.kinds.iter().any(is_distributed);
        let crosses = crosses.then_some("a table without account_id = $n");
        wrong.extend(findings.breaches.into_iter().chain(crosses).map(|breach| format!("{breach}: {plain}")));
        kinds.extend(findings.kinds);
    }

    assert!(wrong.is_empty(), "{wrong:#?}");
    let expected: BTreeSet<_> = KINDS.iter().map(ToString::to_string).collect();
    assert_eq!(kinds, expected, "the traffic lacks a request, or KINDS lacks a line");
    assert_eq!(used.len(), OVER_ALL_ACCOUNTS.len(), "no statement needs one of the exceptions: only {used:?} are used");
}
