//! The operator's commands: accounts, API keys, and the erasure of a person.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use serde_json::json;

use crate::app::{ACME, App, GLOBEX, one_item, send};
use crate::binary::{payments, printed, refused};
use crate::support::{connect, count, eventually_blocked, execute, fresh_database};

/// The word after a label in the output of a command.
fn word<'a>(text: &'a str, label: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(label)).unwrap();
    line.split_whitespace().next().unwrap()
}

#[test]
fn accounts_are_created_and_listed() {
    let database = fresh_database();

    let made = printed(&database, &["account", "create", "initech"]);

    assert!(word(&made, "API key ").starts_with("sk_"), "{made}");
    let listed = printed(&database, &["account", "list"]);
    let names: Vec<_> = listed.lines().map(|line| line.rsplit_once(' ').unwrap().1).collect();
    assert_eq!(names, ["acme", "globex", "initech"]);
    assert!(listed.lines().last().unwrap().starts_with(word(&made, "account ")), "{listed}");
}

#[tokio::test]
async fn two_accounts_of_one_name_are_not_created_at_once() {
    let database = fresh_database();
    let mut other = connect(&database);
    // Another `account create` that has not committed yet.
    other
        .batch_execute("BEGIN; INSERT INTO accounts (account_id, name) VALUES (gen_random_uuid(), 'initech')")
        .unwrap();
    let url = database.clone();
    let create = tokio::task::spawn_blocking(move || refused(&url, &["account", "create", "initech"]));
    eventually_blocked(&database, 1).await;
    other.batch_execute("COMMIT").unwrap();

    assert!(create.await.unwrap().contains("there is an account initech already"));
    assert_eq!(count(&database, "accounts WHERE name = 'initech'"), 1);
}

#[test]
fn a_revoked_key_is_not_counted_as_live() {
    let database = fresh_database();
    let keys = || {
        let listed = printed(&database, &["account", "list"]);
        listed.lines().map(|line| word(&line[line.find("keys: ").unwrap()..], "keys: ").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(), ["1", "1"]);
    printed(&database, &["key", "revoke", ACME]);
    assert_eq!(keys(), ["0", "1"]);
}

#[test]
fn an_invalid_account_name_is_refused_with_a_clear_line() {
    let database = fresh_database();
    for (name, why) in [
        ("x".repeat(300).as_str(), "1 to 255 characters, and has 300"),
        ("", "1 to 255 characters, and has 0"),
        ("a\nb", "control characters"),
        (" initech", "begin or end with a space"),
        ("acme", "there is an account acme already"),
    ] {
        let text = refused(&database, &["account", "create", name]);
        assert!(text.contains(why), "{why} is not in: {text}");
        assert!(!text.contains("INSERT") && text.len() < 300, "{text}");
    }
    // The limit counts characters, not bytes.
    printed(&database, &["account", "create", &"ü".repeat(255)]);
}

#[tokio::test]
async fn an_api_key_is_rotated_without_a_gap() {
    let app = App::start_with_pool(2).await;
    app.get("/v1/orders").await.expect(200);

    let made = printed(&app.database, &["key", "create", "acme"]);
    let (id, key) = (word(&made, "key id "), word(&made, "API key "));
    send(app.request_as(key, "GET", "/v1/orders")).await.expect(200);
    let revoked = printed(&app.database, &["key", "revoke", ACME]);
    assert!(revoked.contains("within 10 s"), "{revoked}");

    let since = Instant::now();
    while app.get("/v1/orders").await.status != 401 {
        assert!(since.elapsed() < Duration::from_secs(15), "the key still works");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    send(app.request_as(key, "GET", "/v1/orders")).await.expect(200);
    let listed = printed(&app.database, &["key", "list", "acme"]);
    let states: Vec<_> = listed.lines().skip(1).map(|line| (line.starts_with(id), line.contains("revoked"))).collect();
    assert_eq!(states, [(false, true), (true, false)]);
}

#[tokio::test]
async fn a_key_has_a_name_and_the_time_of_its_last_use() {
    let app = App::start_with_pool(2).await;
    let made = printed(&app.database, &["key", "create", "acme", "--name", "the web shop"]);
    let (id, key) = (word(&made, "key id "), word(&made, "API key "));
    let listed = || {
        let text = printed(&app.database, &["key", "list", "acme"]);
        text.lines().find(|line| line.starts_with(id)).unwrap().to_owned()
    };
    let fresh = listed();
    assert!(fresh.ends_with("the web shop") && fresh.contains("never"), "{fresh}");

    send(app.request_as(key, "GET", "/v1/orders")).await.expect(200);

    crate::support::eventually("the use is written", || !listed().contains("never")).await;
    let used = "api_keys WHERE last_used_at";
    assert_eq!(app.count(&format!("{used} BETWEEN now() - interval '1 minute' AND now()")), 1);
    // Another use within a minute writes nothing.
    execute(&app.database, "UPDATE api_keys SET last_used_at = '2026-01-01' WHERE name = 'the web shop'");
    send(app.request_as(key, "GET", "/v1/orders")).await.expect(200);
    // Another key's use is written later. By then the first key's would have been too.
    send(app.request_as(GLOBEX, "GET", "/v1/orders")).await.expect(200);
    crate::support::eventually("the other use is written", || app.count(&format!("{used} > '2026-01-02'")) == 1).await;
    assert_eq!(app.count(&format!("{used} = '2026-01-01'")), 1);
    assert!(refused(&app.database, &["key", "create", "acme", "--name", ""]).contains("1 to 255 characters"));
}

/// A lock on the key's row, for example by a long transaction, holds up the note of its use, but no request.
#[tokio::test]
async fn a_request_does_not_wait_for_the_note_of_its_keys_use() {
    let app = App::start_with_pool(4).await;
    let mut other = connect(&app.database);
    other.batch_execute("BEGIN; SELECT FROM api_keys FOR UPDATE").unwrap();
    app.get("/v1/orders").await.expect(200);
    eventually_blocked(&app.database, 1).await;
    let began = Instant::now();
    app.order("k", "sticker", 1).await.expect(201);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    other.batch_execute("ROLLBACK").unwrap();
    crate::support::eventually("the use is written", || app.count("api_keys WHERE last_used_at IS NOT NULL") == 1)
        .await;
}

#[test]
fn a_key_is_revoked_by_its_id_once() {
    let database = fresh_database();
    let made = printed(&database, &["key", "create", "globex"]);
    let id = word(&made, "key id ");

    let last = |text: String| text.contains("has no live key now");
    assert!(!last(printed(&database, &["key", "revoke", id])));
    assert!(last(printed(&database, &["key", "revoke", GLOBEX])));

    for unknown in [id, "0123456789abcdef", "sk_unknown"] {
        assert!(refused(&database, &["key", "revoke", unknown]).contains("no live key"), "{unknown}");
    }
    assert!(refused(&database, &["key", "create", "nobody"]).contains("there is no account nobody"));
}

#[tokio::test]
async fn a_person_is_erased_everywhere_and_the_books_stay() {
    let app = App::start().await;
    let name = "Ada \"the first\" Lovelace";
    let new = json!({"customer": name, "items": [{"sku": "pro-monthly", "quantity": 1}]});
    let order = app.post("/v1/orders", "order", new.clone()).await.expect(201);
    let charge = json!({"order_id": order.json()["id"], "payment_method": "pm_card_visa"});
    let charge = app.post("/v1/charges", "charge", charge).await.expect(201);
    let grant = app.post("/v1/entitlements", "grant", json!({"customer": name, "feature": "pro"})).await.expect(201);
    app.post("/v1/orders", "other", one_item("pro-monthly", 1)).await.expect(201);
    app.post_as(GLOBEX, "/v1/orders", "order", new.clone()).await.expect(201);

    // A revoked entitlement names the person too.
    app.post(&format!("{}/revoke", grant.header("Location").unwrap()), "revoke", json!({})).await.expect(200);
    let would = printed(&app.database, &["erase-customer", "acme", name, "--dry-run"]);
    assert!(would.starts_with("1 orders, 2 entitlements, 5 events and 3 stored replies"), "{would}");
    assert!(app.count("orders WHERE customer LIKE '%Lovelace%'") > 0);

    let erased = printed(&app.database, &["erase-customer", "acme", name, "--yes"]);

    // One order; the entitlements of the payment and of the grant; the events order.created, order.paid and twice
    // entitlement.granted, and entitlement.revoked; the stored replies of the order, the grant and the revocation.
    assert!(erased.starts_with("1 orders, 2 entitlements, 5 events and 3 stored replies name erased-"), "{erased}");
    let acme = "account_id IN (SELECT account_id FROM accounts WHERE name = 'acme')";
    for (table, column) in [
        ("orders", "customer"),
        ("entitlements", "customer"),
        ("events", "data::text"),
        ("idempotency_keys", "convert_from(body, 'UTF8')"),
    ] {
        assert_eq!(app.count(&format!("{table} WHERE {acme} AND {column} LIKE '%Lovelace%'")), 0, "{table}");
        assert_eq!(
            app.count(&format!("{table} WHERE NOT {acme} AND {column} LIKE '%Lovelace%'")) > 0,
            table != "entitlements"
        );
    }
    // A retry gets the first reply. Only the name is replaced.
    let retry = app.post("/v1/orders", "order", new).await.expect(201);
    assert!(retry.is_replay());
    let stripped =
        |text: &str| text.replace(word(&erased, "1 orders, 2 entitlements, 5 events and 3 stored replies name "), "");
    assert_eq!(stripped(&retry.body), order.body.replace(&json!(name).to_string(), "\"\""));
    // The charge stays, and a refund is still possible.
    assert_eq!(app.count("orders WHERE customer = 'ada'"), 1);
    app.post(&format!("{}/refunds", charge.header("Location").unwrap()), "refund", json!({})).await.expect(201);
    let again = payments(&app.database, &["erase-customer", "acme", name, "--yes"]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(1), "{said}");
    assert!(said.contains("account acme has no customer"), "{said}");
}

#[test]
fn an_erasure_goes_over_more_rows_than_a_batch() {
    let database = fresh_database();
    execute(
        &database,
        "INSERT INTO orders (account_id, id, customer, status, currency, amount, items) \
         SELECT account_id, gen_random_uuid(), 'ada', 'pending', 'EUR', 1, '[{}]' \
         FROM accounts, generate_series(1, 2500) WHERE name = 'acme'; \
         INSERT INTO events (account_id, id, type, data) SELECT account_id, gen_random_uuid(), 'order.created', \
         json_build_object('customer', CASE WHEN n % 2 = 0 THEN 'ada' ELSE 'bob' END) \
         FROM accounts, generate_series(1, 5000) AS n WHERE name = 'acme'",
    );

    let erased = printed(&database, &["erase-customer", "acme", "ada", "--yes"]);

    assert!(erased.starts_with("2500 orders, 0 entitlements, 2500 events and 0 stored replies"), "{erased}");
    let left = |rows: &str| count(&database, rows);
    assert_eq!((left("orders WHERE customer = 'ada'"), left("events WHERE data ->> 'customer' = 'ada'")), (0, 0));
    assert_eq!(left("events WHERE data ->> 'customer' = 'bob'"), 2500);
}

/// The copies change first, so a failed erasure is visible in the orders, and the next run does the rest.
#[test]
fn an_erasure_that_fails_half_way_is_completed_by_the_next_run() {
    let database = fresh_database();
    execute(
        &database,
        "INSERT INTO orders (account_id, id, customer, status, currency, amount, items) \
         SELECT account_id, gen_random_uuid(), 'ada', 'pending', 'EUR', 1, '[{}]' FROM accounts WHERE name = 'acme'; \
         INSERT INTO events (account_id, id, type, data) \
         SELECT account_id, id, 'order.created', json_build_object('customer', customer) FROM orders; \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$; \
         CREATE TRIGGER refuse BEFORE UPDATE ON events EXECUTE FUNCTION refuse()",
    );

    let text = refused(&database, &["erase-customer", "acme", "ada", "--yes"]);

    assert!(text.contains("not complete, run it again"), "{text}");
    assert_eq!(count(&database, "orders WHERE customer = 'ada'"), 1);
    execute(&database, "DROP TRIGGER refuse ON events");
    printed(&database, &["erase-customer", "acme", "ada", "--yes"]);
    assert_eq!(count(&database, "events WHERE data::text LIKE '%ada%'"), 0);
    assert_eq!(count(&database, "orders WHERE customer = 'ada'"), 0);
}

#[tokio::test]
async fn a_parked_external_call_is_listed_with_its_key_and_first_request() {
    let app = App::start().await;
    assert_eq!(printed(&app.database, &["backlog", "--parked"]), "nothing is parked\n");
    assert_eq!(printed(&app.database, &["backlog"]), "the backlog is empty\n");
    let order = app.order("o", "sticker", 1).await.expect(201);
    let charge = json!({"order_id": order.json()["id"], "payment_method": "pm_card_visa"});
    let charge = app.post("/v1/charges", "\"my charge\"", charge).await.expect(201);
    execute(&app.database, "UPDATE external_calls SET resolved_at = NULL, next_attempt_at = now(), parked_at = now()");

    let listed = printed(&app.database, &["backlog", "--parked"]);

    let reference = charge.json()["reference"].as_str().unwrap().to_owned();
    for part in [
        charge.header("Location").unwrap(),
        "my charge",
        charge.header("X-Request-Id").unwrap(),
        &reference,
        "acme",
        "`payments resolve`",
    ] {
        assert!(listed.contains(part), "{part} is not in: {listed}");
    }
}

#[test]
fn without_a_yes_nobody_is_erased_and_nothing_is_emptied() {
    let database = fresh_database();
    let output = payments(&database, &["erase-customer", "acme", "ada"]);
    let (said, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(said.contains("can't be undone") && error.contains("--yes"), "{said}{error}");
    assert!(!output.status.success());
    // If DATABASE_URL names a server, `reset` never empties it, even with `--yes`.
    assert!(refused(&database, &["reset", "--yes"]).contains("DATABASE_URL names another server"));
}
