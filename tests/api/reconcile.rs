//! `payments reconcile` against the real sandbox: each kind of difference is made by hand, and found.

use std::process::Output;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{ACME, App, GLOBEX, one_item};
use crate::binary::command;
use crate::gateways::away;
use crate::paying::Sandbox;
use crate::support::{execute, fresh_database};

/// A service, and a gateway with its own books.
struct Books {
    app: App,
    sandbox: Sandbox,
}

impl Books {
    fn open() -> Self {
        let sandbox = Sandbox::start();
        let app = App::start_without_resolver(fresh_database(), Arc::new(sandbox.gateway()));
        Self { app, sandbox }
    }

    /// Changes the gateway's books by hand.
    fn change_there(&self, sql: &str) {
        execute(&self.sandbox.database, sql);
    }

    /// Pays an order of this account, and returns the charge.
    async fn charge(&self, account: &str, key: &str) -> Value {
        let order = self.app.post_as(account, "/v1/orders", key, one_item("pro-monthly", 1)).await.expect(201).json();
        let charge = json!({"order_id": order["id"], "payment_method": "pm_card_visa"});
        self.app.post_as(account, "/v1/charges", &format!("pay-{key}"), charge).await.expect(201).json()
    }

    /// Runs the command, and returns its exit status, the differences and the totals.
    fn reconcile(&self, arguments: &[&str]) -> (i32, Vec<Value>, Value) {
        let output = run(&self.app.database, &self.sandbox.url, &[&["--format", "json"], arguments].concat());
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.pop().unwrap_or_else(|| panic!("no totals: {output:?}"));
        (output.status.code().unwrap(), lines, last["totals"].clone())
    }

    /// The findings, each with the path here and the id there.
    fn findings(&self) -> Vec<(String, Value, Value)> {
        let (status, lines, _) = self.reconcile(&["--since", "1h"]);
        assert_eq!(status, i32::from(!lines.is_empty()), "{lines:#?}");
        let mut findings: Vec<_> = lines
            .iter()
            .map(|line| {
                let finding = line["finding"].as_str().unwrap().to_owned();
                (finding, line["location"].clone(), line["gateway_id"].clone())
            })
            .collect();
        findings.sort_by_key(|(finding, ..)| finding.clone());
        findings
    }
}

fn run(database: &str, gateway: &str, arguments: &[&str]) -> Output {
    // A zone in which a mistake with local time would show.
    command(database, gateway).env("TZ", "Asia/Tokyo").arg("reconcile").args(arguments).output().unwrap()
}

fn path(object: &Value, kind: &str) -> Value {
    format!("/v1/{kind}/{}", object["id"].as_str().unwrap()).into()
}

#[tokio::test]
async fn books_that_agree_have_no_differences() {
    let books = Books::open();
    let charge = books.charge(ACME, "one").await;
    books.charge(GLOBEX, "two").await;
    books.app.refund("part", charge["id"].as_str().unwrap(), Some(100)).await.expect(201);
    let order = books.app.pending_order().await;
    books.app.pay("declined", &order, "pm_card_visa_chargeDeclined").await.expect_problem(402, "card-declined");
    // The gateway refuses this method and creates no object.
    books.app.pay("refused", &order, "pm_unknown").await.expect_problem(402, "gateway-failed");
    // Another program uses the same gateway.
    books.change_there(
        "INSERT INTO sandbox.payment_intents (amount, currency, payment_method, status, metadata)
         VALUES (1, 'eur', 'pm_card_visa', 'succeeded', '{\"reference\": \"someone else''s\"}')",
    );

    let (status, differences, totals) = books.reconcile(&["--since", "1h"]);

    assert_eq!((status, differences), (0, vec![]));
    assert_eq!(totals, json!({"here": 5, "there": 4, "foreign": 1, "open": 0, "differences": 0}));
    // For one account.
    let (_, _, totals) = books.reconcile(&["--since", "1h", "--account", "globex"]);
    assert_eq!((&totals["here"], &totals["there"]), (&json!(1), &json!(1)));
    // For another period.
    let (_, _, totals) = books.reconcile(&["--since", "2026-01-01", "--until", "2026-01-03"]);
    assert_eq!((&totals["here"], &totals["there"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn each_kind_of_difference_is_found() {
    let books = Books::open();
    let mut charges = Vec::new();
    for key in ["same", "only-there", "only-here", "amount", "currency", "status", "twice"] {
        charges.push(books.charge(ACME, key).await);
    }
    let [_, lost, vanished, amount, currency, status, twice] = charges.as_slice() else { panic!() };
    let there = |change: &str, charge: &Value| {
        books.change_there(&format!("{change} WHERE id = '{}'", charge["gateway_id"].as_str().unwrap()));
    };
    // Like a restore to an earlier time.
    books.app.execute(&format!("DELETE FROM charges WHERE id = '{}'", lost["id"].as_str().unwrap()));
    there("DELETE FROM sandbox.payment_intents", vanished);
    there("UPDATE sandbox.payment_intents SET amount = amount + 1", amount);
    there("UPDATE sandbox.payment_intents SET currency = 'usd'", currency);
    there("UPDATE sandbox.payment_intents SET status = 'canceled'", status);
    // The gateway forgot the key, and the call was sent again.
    there(
        "INSERT INTO sandbox.payment_intents (id, amount, currency, payment_method, status, metadata)
         SELECT 'pi_second', amount, currency, payment_method, status, metadata FROM sandbox.payment_intents",
        twice,
    );

    let found = books.findings();

    let pair = |charge: &Value| (path(charge, "charges"), charge["gateway_id"].clone());
    let expected = [
        ("amount", pair(amount)),
        ("currency", pair(currency)),
        ("only-here", pair(vanished)),
        ("only-there", (Value::Null, lost["gateway_id"].clone())),
        ("status", pair(status)),
        ("twice", (path(twice, "charges"), "pi_second".into())),
    ];
    assert_eq!(found, expected.map(|(finding, (here, there))| (finding.to_owned(), here, there)));
    let output = run(&books.app.database, &books.sandbox.url, &["--since", "1h"]);
    let table = String::from_utf8(output.stdout).unwrap();
    for part in ["only there", "succeeded 4900 EUR", "succeeded 4901 EUR", "canceled 4900 EUR", "acme", "6 differences"]
    {
        assert!(table.contains(part), "{part} is not in: {table}");
    }
}

#[tokio::test]
async fn refunds_are_compared_too() {
    let books = Books::open();
    let charge = books.charge(ACME, "one").await["id"].as_str().unwrap().to_owned();
    let mut refunds = Vec::new();
    for key in ["same", "there", "here", "failed"] {
        refunds.push(books.app.refund(key, &charge, Some(100)).await.expect(201).json());
    }
    assert_eq!(books.findings(), []);
    let [_, lost, vanished, failed] = refunds.as_slice() else { panic!() };
    books.app.execute(&format!("DELETE FROM refunds WHERE id = '{}'", lost["id"].as_str().unwrap()));
    let id = |refund: &Value| refund["gateway_id"].as_str().unwrap().to_owned();
    books.change_there(&format!("DELETE FROM sandbox.refunds WHERE id = '{}'", id(vanished)));
    // A bank returns a refund.
    books.change_there(&format!("UPDATE sandbox.refunds SET status = 'failed' WHERE id = '{}'", id(failed)));

    let found = books.findings();

    let expected = [
        ("only-here".to_owned(), path(vanished, "refunds"), vanished["gateway_id"].clone()),
        ("only-there".to_owned(), Value::Null, lost["gateway_id"].clone()),
        ("status".to_owned(), path(failed, "refunds"), failed["gateway_id"].clone()),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_is_open_here_is_a_difference_only_when_the_gateway_has_long_been_sure() {
    let books = Books::open();
    let silent = App::start_without_resolver(books.app.database.clone(), away());
    // One call never arrived. The other did, but its answer was lost.
    let order = silent.pending_order().await;
    silent.pay("never-arrived", &order, "pm_card_visa").await.expect(202);
    let charge = books.charge(ACME, "arrived").await;
    books.app.execute(&format!(
        "UPDATE charges SET status = 'processing', gateway_id = NULL WHERE id = '{}'",
        charge["id"].as_str().unwrap()
    ));

    let (status, differences, totals) = books.reconcile(&["--since", "1h"]);
    assert_eq!((status, differences, &totals["open"]), (0, vec![], &json!(2)));

    books.change_there("UPDATE sandbox.payment_intents SET created_at = now() - interval '20 minutes'");
    let found = books.findings();
    assert_eq!(found, [("status".to_owned(), path(&charge, "charges"), charge["gateway_id"].clone())]);
}

#[tokio::test]
async fn an_object_created_at_another_time_there_is_found_by_its_reference_or_by_its_id() {
    let books = Books::open();
    // The call was sent days after its charge was created, because the charge was parked.
    let late = books.charge(ACME, "late").await;
    let set_time = |charge: &Value, id: &str| {
        let charge_id = charge["id"].as_str().unwrap();
        books.app.execute(&format!(
            "UPDATE charges SET id = '{id}', created_at = now() - interval '3 days' WHERE id = '{charge_id}'"
        ));
    };
    let three_days_ago = (chrono::Utc::now() - chrono::TimeDelta::days(3)).timestamp_millis();
    let old_id =
        |n: u8| format!("{:08x}-{:04x}-7000-8000-0000000000{n:02x}", three_days_ago >> 16, three_days_ago & 0xffff);
    set_time(&late, &old_id(1));
    assert_eq!(books.findings(), []);
    let (status, _, totals) = books.reconcile(&["--since", "4d", "--until", "2d"]);
    assert_eq!((status, &totals["here"], &totals["there"]), (0, &json!(1), &json!(0)));

    // Release 0.1.0 stored no id of the gateway. The reference identifies both.
    let old = books.charge(ACME, "old").await;
    books.app.execute(&format!("UPDATE charges SET gateway_id = NULL WHERE id = '{}'", old["id"].as_str().unwrap()));
    assert_eq!(books.findings(), []);
    books.change_there(&format!(
        "DELETE FROM sandbox.payment_intents WHERE id = '{}'",
        old["gateway_id"].as_str().unwrap()
    ));
    assert_eq!(books.findings(), [("only-here".to_owned(), path(&old, "charges"), Value::Null)]);
}

#[tokio::test]
async fn more_than_a_page_is_compared() {
    let books = Books::open();
    let charge = books.charge(ACME, "one").await;
    let acme = "(SELECT account_id FROM accounts WHERE name = 'acme')";
    let copies = "FROM generate_series(1, 250) AS n";
    // Written as the service and the gateway would have done.
    books.app.execute(&format!(
        "INSERT INTO orders (account_id, id, customer, status, currency, amount, items)
         SELECT {acme}, overlay(id::text PLACING lpad(to_hex(n), 12, '0') FROM 25)::uuid, 'ada', 'paid', 'EUR', 4900, items FROM orders, generate_series(1, 250) AS n;
         INSERT INTO charges (account_id, id, order_id, status, amount, currency, payment_method, reference, idempotency_key, request_id, gateway_id)
         SELECT {acme}, overlay('{}' PLACING lpad(to_hex(n), 12, '0') FROM 25)::uuid, o.id, 'succeeded', 4900, 'EUR', 'pm_card_visa',
           encode(sha256(n::text::bytea), 'hex'), 'k' || n, gen_random_uuid(), 'pi_copy' || n
         FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM orders WHERE id::text LIKE '%-000000000%') o JOIN generate_series(1, 250) AS n USING (n)",
        charge["id"].as_str().unwrap()
    ));
    books.change_there(&format!(
        "INSERT INTO sandbox.payment_intents (id, amount, currency, payment_method, status, metadata)
         SELECT 'pi_copy' || n, 4900, 'eur', 'pm_card_visa', 'succeeded',
           jsonb_build_object('account', '01990000-0000-7000-8000-000000000001', 'reference', encode(sha256(n::text::bytea), 'hex')) {copies}"
    ));

    let (status, differences, totals) = books.reconcile(&["--since", "1h"]);

    assert_eq!((status, &differences), (0, &vec![]), "{totals}");
    assert_eq!((&totals["here"], &totals["there"]), (&json!(251), &json!(251)));
    books.change_there("DELETE FROM sandbox.payment_intents WHERE id = 'pi_copy17'");
    books.app.execute("DELETE FROM charges WHERE gateway_id = 'pi_copy170'");
    let mut found: Vec<_> = books.findings().into_iter().map(|(finding, _, id)| (finding, id)).collect();
    found.sort_by_key(|(finding, _)| finding.clone());
    assert_eq!(found, [("only-here".to_owned(), json!("pi_copy17")), ("only-there".to_owned(), json!("pi_copy170"))]);
}

#[tokio::test]
async fn a_comparison_that_cannot_be_completed_ends_with_status_2_and_nothing_is_ever_written() {
    let books = Books::open();
    books.charge(ACME, "one").await;
    let failed = |gateway: &str, arguments: &[&str]| {
        let output = run(&books.app.database, gateway, arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        error
    };
    assert!(failed(&books.sandbox.url, &["--since", "tomorrow"]).contains("SINCE"));
    assert!(failed(&books.sandbox.url, &["--since", "1h", "--until", "2h"]).contains("not before"));
    assert!(failed(&books.sandbox.url, &["--since", "1h", "--account", "nobody"]).contains("no account nobody"));
    // The gateway's list breaks off half way: the books are incomplete, which is not a difference.
    books.change_there("ALTER TABLE sandbox.refunds RENAME TO gone");
    assert!(failed(&books.sandbox.url, &["--since", "1h"]).contains("the gateway's books can't be read"));
    // A database without any mode: the command does not choose one.
    books.app.execute("TRUNCATE gateway_mode");
    books.change_there("ALTER TABLE sandbox.gone RENAME TO refunds");
    books.reconcile(&["--since", "1h"]);
    assert_eq!(books.app.count("gateway_mode"), 0);
    books.app.execute("INSERT INTO gateway_mode (mode) VALUES ('live')");
    assert!(failed(&books.sandbox.url, &["--since", "1h"]).contains("live mode"));
}
