//! Requests that make the program send each of its statements: successes, replays, failures, a takeover, unknown outcomes, lists
//! with each of their filters, a sweep, and the functions of the commands.

use std::sync::Arc;

use diesel::Connection;
use diesel::pg::PgConnection;
use external_calls::Hinted;
use idempotent_payments::commands::gateway::remember_mode;
use idempotent_payments::demo;
use idempotent_payments::http::auth;
use idempotent_payments::server::{api, openapi};
use idempotent_payments::shop::erasure;
use idempotent_payments::shop::reconciliation::{Asked, reconcile};
use serde_json::{Value, json};
use stripe_gateway::Mode;

use crate::app::{App, Client, send};
use crate::gateways::{away, declining, held};
use crate::paying::Sandbox;
use crate::recorder::as_program;
use crate::support::fresh_database;
use test_database::Proxy;

/// Sends all requests. The database must have the demo's accounts and catalogue.
pub async fn everything(database: &str) {
    let sandbox = Sandbox::start();
    let app = App::start_without_resolver(database.to_owned(), Arc::new(sandbox.gateway()));
    catalogue(&app).await;
    orders(&app).await;
    keys(&app).await;
    entitlements(&app).await;
    let charge = payments(&app).await;
    unknown_outcomes(&app, &sandbox).await;
    unrecordable_outcomes(database).await;
    for path in ["/v1/events", "/health/ready", "/metrics", "/v1/events"] {
        app.get(path).await.expect(200);
    }
    lists(&app, &charge).await;
    commands(database);
    reconciliation(database, &sandbox).await;
    a_commit_whose_answer_is_lost().await;
}

async fn catalogue(app: &Client) {
    app.product("mug", 5).await.expect(201);
    app.product("mug", 6).await.expect(200);
    app.product("mug", 6).await.expect(200);
    app.get("/v1/products/mug").await.expect(200);
}

async fn orders(app: &Client) {
    app.order("stocked", "mug", 2).await.expect(201);
    app.order("stocked", "mug", 2).await.expect(201);
    app.order("too-many", "mug", 7).await.expect_problem(409, "out-of-stock");
    app.order("unknown", "nothing", 1).await.expect_problem(422, "unknown-product");
    app.product("mug", 1).await.expect_problem(409, "out-of-stock");
    let order = app.order("canceled", "mug", 2).await.expect(201).id();
    app.cancel("cancel", &order).await.expect(200);
    app.cancel("again", &order).await.expect_problem(409, "order-not-cancelable");
    app.get(&format!("/v1/orders/{order}")).await.expect(200);
}

/// A replay by another replica, a takeover of an expired record, and a sweep.
async fn keys(app: &Client) {
    app.order("old", "sticker", 1).await.expect(201);
    let replica = App::start_without_resolver(app.database.clone(), away());
    assert!(replica.order("old", "sticker", 1).await.is_replay());
    app.execute("UPDATE idempotency_keys SET expires_at = now() WHERE key = 'old'");
    assert!(!replica.order("old", "sticker", 1).await.expect(201).is_replay());
    app.execute("UPDATE idempotency_keys SET expires_at = now() WHERE key = 'old'");
    let mut conn = PgConnection::establish(&as_program(&app.database)).unwrap();
    assert_eq!(idempotency::sweep(&mut conn).unwrap().deleted, 1);
}

async fn entitlements(app: &Client) {
    let grant = json!({"customer": "ada", "feature": "pro", "units": 5, "expires_at": "2099-01-01T00:00:00Z"});
    let path = format!("/v1/entitlements/{}", app.post("/v1/entitlements", "grant", grant).await.expect(201).id());
    app.post(&format!("{path}/consume"), "some", json!({"units": 2})).await.expect(200);
    app.post(&format!("{path}/consume"), "more", json!({"units": 4})).await.expect_problem(409, "quota-exceeded");
    app.post(&format!("{path}/revoke"), "revoke", json!({})).await.expect(200);
    app.post(&format!("{path}/revoke"), "again", json!({})).await.expect_problem(409, "entitlement-inactive");
    app.get(&path).await.expect(200);
}

/// Charges and refunds whose outcome is known at once. Returns a charge with a refund.
async fn payments(app: &Client) -> String {
    let order = app.order("to-pay", "pro-monthly", 1).await.expect(201).id();
    app.pay("declined", &order, "pm_card_visa_chargeDeclined").await.expect_problem(402, "card-declined");
    let charge = app.pay("paid", &order, "pm_card_visa").await.expect(201).id();
    app.pay("paid", &order, "pm_card_visa").await.expect(201);
    app.pay("again", &order, "pm_card_visa").await.expect_problem(409, "order-not-payable");
    // The record is gone, but the external call stays.
    app.execute("DELETE FROM idempotency_keys WHERE key = 'paid'");
    app.pay("paid", &order, "pm_card_visa").await.expect_problem(409, "idempotency-key-expired");
    let refund = app.refund("part", &charge, Some(100)).await.expect(201).id();
    app.refund("too-much", &charge, Some(1_000_000)).await.expect_problem(409, "refund-exceeds-charge");
    app.refund("rest", &charge, None).await.expect(201);
    for path in [format!("/v1/charges/{charge}"), format!("/v1/refunds/{refund}")] {
        app.get(&path).await.expect(200);
    }
    charge
}

/// A charge and a refund that the gateway does not answer: their external calls are parked and resumed.
async fn unknown_outcomes(app: &Client, sandbox: &Sandbox) {
    let silent = App::start_without_resolver(app.database.clone(), away());
    let resolver = app.resolver(Arc::new(sandbox.gateway()));
    let order = app.pending_order().await;
    let unknown = silent.pay("unknown", &order, "pm_card_visa").await.expect(202).json();
    let (charge, reference) = (unknown["id"].as_str().unwrap().to_owned(), unknown["reference"].as_str().unwrap());
    let accounts = auth::accounts(&mut crate::support::connect(&app.database)).unwrap();
    let acme = accounts.into_iter().find(|account| account.name == "acme").unwrap().id;
    assert_eq!(resolver.hint(acme, reference.to_owned()).await.unwrap(), Hinted::Open);
    silent.pay("other", &order, "pm_card_visa").await.expect_problem(409, "payment-in-progress");
    silent.cancel("unpaid?", &order).await.expect_problem(409, "payment-in-progress");
    silent.get("/v1/charges").await.expect(200);
    app.execute("UPDATE external_calls SET attempts = 19 WHERE resolved_at IS NULL");
    app.let_leases_end();
    assert_eq!(app.resolver(away()).run_once(false).await.unwrap().taken, 1);
    assert_eq!(resolver.run_once(true).await.unwrap().resolved, 1, "the parked external call is resumed");
    let refund = silent.refund("unknown", &charge, None).await.expect(202).id();
    app.get(&format!("/v1/refunds/{refund}")).await.expect(200);
    app.execute("UPDATE external_calls SET attempts = 20 WHERE resolved_at IS NULL");
    app.let_leases_end();
    assert_eq!(app.resolver(away()).run_once(false).await.unwrap().taken, 0, "parked without another attempt");
    assert_eq!(app.resolver(declining()).run_once(true).await.unwrap().resolved, 1);
}

/// Outcomes that arrive too late for their lease, or find no record to resolve.
async fn unrecordable_outcomes(database: &str) {
    let (gateway, hold) = held();
    let app = App::start_without_resolver(database.to_owned(), gateway);
    for (key, mischief) in [("late", ""), ("gone", "DELETE FROM idempotency_keys WHERE key = 'gone'")] {
        let (client, order) = (Client::clone(&app), app.pending_order().await);
        let request = tokio::spawn(async move { client.pay(key, &order, "pm_card_visa").await });
        hold.until_called().await;
        if mischief.is_empty() {
            app.let_leases_end();
            assert_eq!(app.resolver(declining()).run_once(false).await.unwrap().resolved, 1);
        } else {
            app.execute(mischief);
        }
        hold.let_go();
        assert!([202, 402].contains(&request.await.unwrap().status));
    }
    let (gateway, hold) = held();
    hold.let_go();
    app.execute("UPDATE external_calls SET attempts = 19 WHERE resolved_at IS NULL");
    app.let_leases_end();
    let pass = app.resolver(gateway).run_once(false).await.unwrap();
    assert_eq!((pass.taken, pass.resolved), (1, 0));
}

/// Reads each list without parameters, with each of its parameters, and with all parameters.
async fn lists(app: &Client, charge: &str) {
    let document = openapi::document(&api());
    let templates = document["paths"].as_object().unwrap().iter();
    for (template, parameters) in templates.map(|(path, item)| (path, &item["get"]["parameters"])) {
        let parameters = parameters.as_array().map_or(&[][..], Vec::as_slice);
        if !parameters.iter().any(|parameter| parameter["name"] == "limit") {
            continue;
        }
        let path = template.replace("{id}", charge);
        let page = app.get(&path).await.expect(200).json();
        let in_query = parameters.iter().filter(|parameter| parameter["in"] == "query");
        let query: Vec<_> = in_query.map(|parameter| one_of(&document, parameter, &page["data"][0])).collect();
        for part in &query {
            app.get(&format!("{path}?{part}")).await.expect(200);
        }
        app.get(&format!("{path}?{}", query.join("&"))).await.expect(200);
    }
    let nobodys = send(app.request("GET", "/v1/events?after=evt_0fffffffffffffff")).await;
    nobodys.expect_problem(422, "invalid-request");
}

/// A query parameter with a value that its schema allows. `item` is an item of the list, for `after`.
fn one_of(document: &Value, parameter: &Value, item: &Value) -> String {
    let name = parameter["name"].as_str().unwrap();
    let mut schema = &parameter["schema"];
    while let Some(reference) = schema["$ref"].as_str() {
        schema = document.pointer(reference.trim_start_matches('#')).unwrap();
    }
    let after = ["cursor", "id", "sku"].iter().find_map(|member| item[member].as_str());
    let example = [&parameter["example"], &schema["example"], &schema["enum"][0]].into_iter().find_map(Value::as_str);
    let value = match (name, schema["format"].as_str(), schema["type"].as_str()) {
        ("limit", ..) => "5",
        ("after", ..) => after.unwrap(),
        (_, Some("date-time"), _) => "2026-01-01T00:00:00Z",
        (_, Some("uuid"), _) => "00000000-0000-7000-8000-000000000000",
        (_, _, Some("boolean")) => "true",
        _ => example.unwrap_or("ada"),
    };
    format!("{name}={value}")
}

/// The functions that commands run on their own connection.
fn commands(database: &str) {
    let mut conn = PgConnection::establish(&as_program(database)).unwrap();
    let (account, _) = auth::create_account(&mut conn, "initech").unwrap();
    let (id, _) = auth::create_key(&mut conn, account, Some("shop")).unwrap();
    assert_eq!(auth::keys(&mut conn, account).unwrap().len(), 2);
    assert!(auth::revoke(&mut conn, &id.to_string()).unwrap().is_some());
    let acme = auth::accounts(&mut conn).unwrap().into_iter().find(|account| account.name == "acme").unwrap();
    let erased = erasure::erase_customer(&mut conn, acme.id, "ada", &erasure::Mode::rename(), |_| {}).unwrap();
    assert!([erased.orders, erased.replies, erased.entitlements, erased.events].iter().all(|rows| *rows > 0));
    demo::seed(&mut conn).unwrap();
    external_calls::backlog(&mut conn).unwrap();
    external_calls::backlog_by_account(&mut conn, None, 10).unwrap();
    external_calls::backlog_by_account(&mut conn, Some(uuid::Uuid::nil()), 10).unwrap();
    external_calls::open_calls(&mut conn, None, false, 10).unwrap();
    external_calls::open_calls(&mut conn, Some(uuid::Uuid::nil()), true, 10).unwrap();
    idempotency::sweep_lag(&mut conn).unwrap();
    remember_mode(&mut conn, Mode::Sandbox).unwrap();
}

async fn reconciliation(database: &str, sandbox: &Sandbox) {
    let mut conn = PgConnection::establish(&as_program(database)).unwrap();
    let accounts: Vec<_> = auth::accounts(&mut conn).unwrap().into_iter().map(|account| account.id).collect();
    let until = chrono::Utc::now();
    let asked = Asked { since: until - chrono::TimeDelta::hours(1), until, account_id: None };
    let gateway = sandbox.gateway();
    let totals = reconcile(&mut conn, &gateway, &accounts, asked, |_| Ok(()), |_, _| {}).await.unwrap();
    assert!(totals.here > 0 && totals.there > 0, "{totals:?}");
}

/// After a lost answer to its first COMMIT, the request looks for its external call. It needs another database, because
/// only a connection through the proxy can lose the answer.
async fn a_commit_whose_answer_is_lost() {
    let (proxy, sandbox) = (Proxy::start(), Sandbox::start());
    let app = App::start_without_resolver(proxy.url(&fresh_database()), Arc::new(sandbox.gateway()));
    let order = app.pending_order().await;
    proxy.lose_answer_of_next_commit();
    app.pay("lost", &order, "pm_card_visa").await.expect(201);
}
