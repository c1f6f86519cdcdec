//! One account's requests wait for a locked row, and neither other accounts nor readiness get slower.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;

use crate::app::{ACME, Answer, App, Client, GLOBEX, one_item, send};
use crate::support::{connect, eventually_blocked};

/// Locks the product `sticker` of the account ACME until the connection is dropped.
fn hold_stickers(app: &App) -> PgConnection {
    let mut conn = connect(&app.database);
    let of_acme = "SELECT account_id FROM api_keys WHERE hash = sha256('sk_demo_acme')";
    let hold = format!("BEGIN; SELECT FROM products WHERE sku = 'sticker' AND account_id = ({of_acme}) FOR UPDATE");
    conn.batch_execute(&hold).unwrap();
    conn
}

async fn order_as(app: &Client, account: &str, key: &str) -> (Answer, Duration) {
    let asked = Instant::now();
    let answer = app.post_as(account, "/v1/orders", key, one_item("sticker", 1)).await;
    (answer, asked.elapsed())
}

/// The limit for requests that must not wait. A stuck order waits three seconds for its row, so a request behind stuck
/// orders exceeds this limit.
const NOTICED: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_account_that_is_stuck_at_a_row_slows_neither_another_account_nor_readiness() {
    let app = App::start_with_pool(10).await;
    // The server knows both API keys, like one in use.
    for account in [ACME, GLOBEX] {
        send(app.request_as(account, "GET", "/v1/orders")).await.expect(200);
    }
    let stickers = hold_stickers(&app);
    let client = (*app).clone();
    let stuck = tokio::spawn(
        client.at_once(60, |app, number| async move { order_as(&app, ACME, &format!("stuck-{number}")).await }),
    );
    // Eight of the ten connections.
    eventually_blocked(&app.database, 8).await;

    for number in 0..10 {
        let (answer, took) = order_as(&app, GLOBEX, &format!("key-{number}")).await;
        answer.expect(201);
        assert!(took < NOTICED, "another account's order took {took:?}");
        let asked = Instant::now();
        send(app.anonymous("GET", "/health/ready")).await.expect(200);
        assert!(asked.elapsed() < NOTICED, "readiness took {:?}", asked.elapsed());
    }

    let answers = stuck.await.unwrap();
    drop(stickers);
    let refused: Vec<_> = answers
        .into_iter()
        .map(|(answer, took)| (answer.expect(503), took))
        .filter(|(answer, _)| answer.problem() == "overloaded")
        .collect();
    // Eight orders are stuck, each for three seconds. All others are refused before their turn.
    assert!(refused.len() >= 50, "{} were refused", refused.len());
    for (answer, took) in refused {
        assert_eq!(answer.header("Retry-After"), Some("1"));
        assert!((1900..2900).contains(&took.as_millis()), "refused after {took:?}");
    }
    assert_eq!(app.count("orders"), 10);
    let (answer, _) = order_as(&app, ACME, "stuck-0").await;
    assert!(!answer.expect(201).is_replay(), "a refused request left a record");
}

#[tokio::test]
async fn an_api_key_that_is_not_known_yet_is_looked_up_although_an_account_and_the_resolver_are_stuck() {
    let app = App::start_with_pool(10).await;
    send(app.request_as(ACME, "GET", "/v1/orders")).await.expect(200);
    let _stickers = hold_stickers(&app);
    let mut calls = connect(&app.database);
    calls.batch_execute("BEGIN; LOCK TABLE external_calls").unwrap();
    let client = (*app).clone();
    let stuck = tokio::spawn(
        client.at_once(20, |app, number| async move { order_as(&app, ACME, &format!("stuck-{number}")).await }),
    );
    // Eight orders, and the resolver's look.
    eventually_blocked(&app.database, 9).await;

    let asked = Instant::now();
    send(app.request_as(GLOBEX, "GET", "/v1/orders")).await.expect(200);
    assert!(asked.elapsed() < NOTICED, "the answer took {:?}", asked.elapsed());
    stuck.await.unwrap();
}

#[tokio::test]
async fn while_all_threads_are_busy_work_is_refused_after_two_seconds_and_readiness_answers_at_once() {
    let app = App::start_with_pool(1).await;
    send(app.request_as(ACME, "GET", "/v1/orders")).await.expect(200);
    let _stickers = hold_stickers(&app);
    let client = (*app).clone();
    let stuck = tokio::spawn(async move { order_as(&client, ACME, "stuck").await });
    eventually_blocked(&app.database, 1).await;

    let asked = Instant::now();
    send(app.anonymous("GET", "/health/ready")).await.expect(200);
    assert!(asked.elapsed() < NOTICED, "readiness took {:?}", asked.elapsed());
    let (refused, took) = order_as(&app, GLOBEX, "waits").await;

    refused.expect_problem(503, "overloaded");
    assert!((1900..2900).contains(&took.as_millis()), "refused after {took:?}");
    assert!(!stuck.is_finished(), "the only thread works until its wait for the row's lock times out");
    stuck.await.unwrap().0.expect_problem(503, "database-unavailable");
}
