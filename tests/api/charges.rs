//! The rules of charges: each answer, and the rows that it leaves.

use std::time::{Duration, SystemTime};

use diesel::connection::SimpleConnection;
use serde_json::{Value, json};

use crate::app::{App, Client, GLOBEX, one_item, send};
use crate::gateways::{away, held};
use crate::paying::{AMOUNT, until_final};
use crate::support::{connect, eventually_blocked, fresh_database};

#[tokio::test]
async fn a_charge_that_succeeds_is_a_201_whose_replay_is_the_same() {
    let app = App::start().await;
    let order = app.pending_order().await;

    let paid = app.pay("k", &order, "pm_card_visa").await.expect(201);

    let charge = paid.json();
    assert_eq!(charge["status"], "succeeded");
    assert_eq!((&charge["order_id"], &charge["payment_method"]), (&json!(order), &json!("pm_card_visa")));
    assert_eq!((&charge["amount"], &charge["currency"]), (&json!(AMOUNT), &json!("EUR")));
    assert_eq!(charge["amount_refunded"], 0);
    assert_eq!((&charge["failure_code"], &charge["processing"]), (&Value::Null, &Value::Null));
    assert_eq!(paid.header("Location"), Some(format!("/v1/charges/{}", paid.id()).as_str()));
    assert!(!paid.is_replay());
    let expires = httpdate::parse_http_date(paid.header("Idempotency-Expires").unwrap()).unwrap();
    let ttl = expires.duration_since(SystemTime::now()).unwrap();
    assert!(ttl > Duration::from_secs(23 * 3600 + 3500) && ttl <= Duration::from_secs(24 * 3600), "{ttl:?}");

    let replay = app.pay("k", &order, "pm_card_visa").await.expect(201);
    assert!(replay.is_replay());
    assert_eq!(replay.body, paid.body);
    for header in ["Location", "Content-Type", "Idempotency-Expires"] {
        assert_eq!(replay.header(header), paid.header(header), "{header}");
    }
    assert_eq!(app.get(paid.header("Location").unwrap()).await.body, paid.body);
    assert_eq!(app.captures(), 1);
}

#[tokio::test]
async fn payment_grants_units_times_quantity_of_each_granting_item() {
    let app = App::start().await;
    let items = json!([
        {"sku": "sticker", "quantity": 1}, {"sku": "pro-monthly", "quantity": 2}, {"sku": "credits-1000", "quantity": 3},
    ]);
    let order = app.post("/v1/orders", "o", json!({"customer": "ada", "items": items})).await.expect(201).id();

    app.pay("k", &order, "pm_card_visa").await.expect(201);

    assert_eq!(app.member(&format!("/v1/orders/{order}"), "status").await, "paid");
    assert_eq!(app.count("entitlements"), 2);
    let of_order = format!("entitlements WHERE customer = 'ada' AND order_id = '{order}' AND units_used = 0");
    let credits = "feature = 'api_credits' AND units = 3000 AND expires_at IS NULL";
    assert_eq!(app.count(&format!("{of_order} AND {credits}")), 1);
    let pro = "feature = 'pro' AND units IS NULL AND expires_at = created_at + interval '30 days'";
    assert_eq!(app.count(&format!("{of_order} AND {pro}")), 1);
    assert_eq!((app.events("charge.succeeded"), app.events("order.paid")), (1, 1));
    assert_eq!(app.events("entitlement.granted"), 2);
}

#[tokio::test]
async fn a_declined_card_is_a_402_whose_replay_is_the_same() {
    let app = App::start().await;
    for (card, code) in [
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ] {
        let order = app.pending_order().await;

        let declined = app.pay(card, &order, card).await.expect_problem(402, "card-declined");

        let problem = declined.json();
        let charge = format!("/v1/charges/{}", problem["charge_id"].as_str().unwrap());
        assert_eq!((&problem["decline_code"], &problem["instance"]), (&json!(code), &json!(charge)));
        assert!(declined.header("Idempotency-Expires").is_some() && declined.is_final());
        let replay = app.pay(card, &order, card).await.expect_problem(402, "card-declined");
        assert!(replay.is_replay());
        assert_eq!(replay.body, declined.body);

        let failed = app.get(&charge).await.json();
        assert_eq!((&failed["status"], &failed["failure_code"]), (&json!("failed"), &json!(code)));
        assert_eq!(app.member(&format!("/v1/orders/{order}"), "status").await, "pending");
        app.pay(&format!("{card}-again"), &order, "pm_card_visa").await.expect(201);
    }
    assert_eq!((app.events("charge.failed"), app.events("charge.succeeded")), (2, 2));
}

/// A stored 500 says nothing about the money, and while the gateway keeps the key, another sending would bring the same
/// 500.
#[tokio::test]
async fn a_gateway_that_fails_twice_is_asked_again_at_once() {
    let app = App::start().await;
    let order = app.pending_order().await;

    app.pay("k", &order, "pm_card_gateway_error").await.expect(201);

    assert_eq!(app.captures(), 1);
}

#[tokio::test]
async fn a_lost_reply_is_a_202_and_a_201_on_a_retry() {
    let app = App::start().await;
    let order = app.pending_order().await;

    let unknown = app.pay("k", &order, "pm_card_lost_reply").await.expect(202);

    assert!(unknown.header("Retry-After").is_some() && unknown.header("Idempotency-Expires").is_none());
    assert_eq!(
        (&unknown.json()["status"], &unknown.json()["processing"]["parked"]),
        (&json!("processing"), &json!(false))
    );
    let paid = until_final(async || app.pay("k", &order, "pm_card_lost_reply").await).await.expect(201);
    assert!(paid.is_replay());
    assert_eq!((paid.id(), paid.header("Location")), (unknown.id(), unknown.header("Location")));
    assert_eq!(app.captures(), 1);
}

/// The sandbox has the amount in hundredths of the krona, which has none.
/// The charge is read first, and then its external call. The test resolves the charge between the two statements.
#[tokio::test]
async fn a_charge_that_is_resolved_while_it_is_read_is_shown_final() {
    let app = App::start_without_resolver(fresh_database(), away());
    let order = app.pending_order().await;
    let id = app.pay("k", &order, "pm_card_visa").await.expect(202).id();
    let mut resolving = connect(&app.database);
    resolving.batch_execute("BEGIN; LOCK TABLE external_calls IN ACCESS EXCLUSIVE MODE").unwrap();
    let client = Client::clone(&app);
    let reads = [format!("/v1/charges/{id}"), "/v1/charges".to_owned()].map(|path| {
        let client = client.clone();
        tokio::spawn(async move { client.get(&path).await.expect(200).json() })
    });
    eventually_blocked(&app.database, 2).await;

    let resolved = "UPDATE external_calls SET resolved_at = now(), next_attempt_at = NULL; \
                   UPDATE charges SET status = 'failed', failure_code = 'gateway_failed'; COMMIT";
    resolving.batch_execute(resolved).unwrap();

    let [one, page] = reads;
    for charge in [one.await.unwrap(), page.await.unwrap()["data"][0].clone()] {
        assert_eq!((&charge["status"], &charge["processing"]), (&json!("failed"), &Value::Null), "{charge}");
    }
}

/// A retry reads the external call first, and then the charge. The test resolves both between the two statements.
#[tokio::test]
async fn a_202_never_shows_a_charge_that_is_final() {
    let app = App::start_without_resolver(fresh_database(), away());
    let order = app.pending_order().await;
    app.pay("k", &order, "pm_card_visa").await.expect(202);
    let mut resolving = connect(&app.database);
    resolving.batch_execute("BEGIN; LOCK TABLE charges IN ACCESS EXCLUSIVE MODE").unwrap();
    let client = Client::clone(&app);
    let retry = tokio::spawn(async move { client.pay("k", &order, "pm_card_visa").await });
    eventually_blocked(&app.database, 1).await;

    let resolved = "UPDATE external_calls SET resolved_at = now(), next_attempt_at = NULL; \
                   UPDATE charges SET status = 'failed', failure_code = 'gateway_failed'; COMMIT";
    resolving.batch_execute(resolved).unwrap();

    assert_eq!(retry.await.unwrap().expect(202).json()["status"], "processing");
}

#[tokio::test]
async fn an_order_that_is_not_pending_is_not_payable_and_the_refusal_is_stored() {
    let app = App::start().await;
    let (paid, canceled) = (app.pending_order().await, app.pending_order().await);
    app.pay("first", &paid, "pm_card_visa").await.expect(201);
    app.cancel("cancel", &canceled).await.expect(200);

    for order in [paid, canceled] {
        let refused = app.pay(&order, &order, "pm_card_visa").await.expect_problem(409, "order-not-payable");
        let replay = app.pay(&order, &order, "pm_card_visa").await.expect(409);
        assert!(replay.is_replay());
        assert_eq!(replay.body, refused.body);
    }
    assert_eq!((app.count("charges"), app.captures()), (1, 1));
}

#[tokio::test]
async fn another_accounts_orders_and_charges_are_not_found() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let charge = app.paid_charge().await;
    let of_another = app.post_as(GLOBEX, "/v1/orders", "o", one_item("sticker", 1)).await.expect(201).id();

    for order in [of_another, uuid::Uuid::now_v7().to_string()] {
        app.pay(&order, &order, "pm_card_visa").await.expect_problem(404, "not-found");
    }
    let body = json!({"order_id": order, "payment_method": "pm_card_visa"});
    app.post_as(GLOBEX, "/v1/charges", "k", body).await.expect_problem(404, "not-found");
    let charge_path = format!("/v1/charges/{charge}");
    send(app.request_as(GLOBEX, "GET", &charge_path)).await.expect_problem(404, "not-found");
    let listed = send(app.request_as(GLOBEX, "GET", "/v1/charges")).await.expect(200).json();
    assert_eq!(listed["data"], json!([]));
    app.post_as(GLOBEX, &format!("/v1/charges/{charge}/refunds"), "r", json!({}))
        .await
        .expect_problem(404, "not-found");
    assert_eq!(app.captures(), 1);
}

#[tokio::test]
async fn charges_are_listed_newest_first_in_pages() {
    let app = App::start().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.insert(0, app.paid_charge().await);
    }
    let ids = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|charge| charge["id"].as_str().unwrap().to_owned()).collect()
    };

    let first = app.get("/v1/charges?limit=2").await.expect(200).json();
    let second = app.get(&format!("/v1/charges?limit=2&after={}", made[1])).await.expect(200).json();

    assert_eq!((ids(&first), &first["has_more"]), (made[..2].to_vec(), &json!(true)));
    assert_eq!((ids(&second), &second["has_more"]), (made[2..].to_vec(), &json!(false)));
}

#[tokio::test]
async fn an_order_with_a_processing_charge_is_neither_payable_nor_cancelable() {
    let (gateway, hold) = held();
    let app = App::start_without_resolver(fresh_database(), gateway);
    let order = app.pending_order().await;
    let first = app.pay("first", &order, "pm_card_visa");
    let meanwhile = async {
        hold.until_called().await;
        for _ in 0..2 {
            let pay = app.pay("second", &order, "pm_card_visa").await.expect_problem(409, "payment-in-progress");
            let cancel = app.cancel("cancel", &order).await.expect_problem(409, "payment-in-progress");
            for refused in [pay, cancel] {
                assert!(
                    refused.header("Retry-After").is_some() && !refused.is_replay(),
                    "the refusal must not be stored: {refused:?}"
                );
            }
        }
        hold.let_go();
    };

    let (first, ()) = tokio::join!(first, meanwhile);

    first.expect(201);
    app.pay("second", &order, "pm_card_visa").await.expect_problem(409, "order-not-payable");
    app.cancel("cancel", &order).await.expect_problem(409, "order-not-cancelable");
}

/// The wait for the lock ends after 3 s. That counts as the database's fault, and the key is free.
#[tokio::test]
async fn a_charge_behind_a_locked_order_is_503_and_its_key_stays_free() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let mut holder = connect(&app.database);
    holder.batch_execute("BEGIN; SELECT FROM orders FOR UPDATE").unwrap();

    app.pay("k", &order, "pm_card_visa").await.expect_problem(503, "database-unavailable");

    holder.batch_execute("ROLLBACK").unwrap();
    assert!(!app.pay("k", &order, "pm_card_visa").await.expect(201).is_replay());
}
