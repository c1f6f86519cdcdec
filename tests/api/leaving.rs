//! Clients that leave during a request, and servers that stop: the work that has begun is finished.

use diesel::connection::SimpleConnection;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{ACME, App, Client};
use crate::binary::Replica;
use crate::paying::Sandbox;
use crate::support::{connect, count, eventually, eventually_blocked, fresh_database};

/// Sends a charge of a slow card on its own connection.
async fn send_slow_charge(app: &Client, order: &str) -> TcpStream {
    let host = app.base.strip_prefix("http://").unwrap();
    let body = json!({"order_id": order, "payment_method": "pm_card_slow"}).to_string();
    let request = format!(
        "POST /v1/charges HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ACME}\r\nIdempotency-Key: k\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = TcpStream::connect(host).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

/// Sends a charge of a slow card, and returns when the gateway has captured.
async fn send_and_capture(app: &Client, order: &str, captured: impl Fn() -> bool) -> TcpStream {
    let client = send_slow_charge(app, order).await;
    eventually("the gateway has captured", captured).await;
    client
}

/// Asserts that the request's own first attempt has resolved the charge, and that a retry gets the reply.
async fn assert_ended_by_itself(app: &Client, order: &str) {
    eventually("the charge ends", || app.count("external_calls WHERE resolved_at IS NOT NULL AND attempts = 1") == 1)
        .await;
    let retry = app.pay("k", order, "pm_card_slow").await.expect(201);
    assert!(retry.is_replay());
    assert_eq!(app.count("orders WHERE status = 'paid'"), 1);
}

#[tokio::test]
async fn a_charge_ends_by_itself_when_its_client_closes_the_connection() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let client = send_and_capture(&app, &order, || app.captures() == 1).await;

    drop(client);

    assert_ended_by_itself(&app, &order).await;
    assert_eq!(app.captures(), 1);
}

/// The client leaves before the first commit. Only the request itself knows the charge.
#[tokio::test]
async fn a_charge_ends_by_itself_when_its_client_resets_the_connection_while_it_waits_for_the_order() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let mut other = connect(&app.database);
    other.batch_execute("BEGIN; SELECT FROM orders FOR UPDATE").unwrap();
    let client = send_slow_charge(&app, &order).await;
    eventually_blocked(&app.database, 1).await;

    client.set_zero_linger().unwrap();
    drop(client);
    // Once the server's end of the connection is gone, the server has seen the reset.
    let port = app.base.rsplit_once(':').unwrap().1.parse().unwrap();
    eventually("the server has only the test's own connection", || established(port) <= 1).await;
    other.batch_execute("COMMIT").unwrap();

    assert_ended_by_itself(&app, &order).await;
    assert_eq!(app.captures(), 1);
}

/// The number of established connections of the server on this port, from Linux.
fn established(port: u16) -> usize {
    // On other systems the test does not wait, and the reset may come late.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let local = format!(":{port:04X}");
    table
        .lines()
        .filter(|line| {
            let mut columns = line.split_whitespace().skip(1);
            columns.next().is_some_and(|address| address.ends_with(&local)) && columns.nth(1) == Some("01")
        })
        .count()
}

#[tokio::test]
async fn a_charge_ends_by_itself_when_its_client_resets_the_connection() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let client = send_and_capture(&app, &order, || app.captures() == 1).await;

    client.set_zero_linger().unwrap();
    drop(client);

    assert_ended_by_itself(&app, &order).await;
    assert_eq!(app.captures(), 1);
}

#[tokio::test]
async fn sigterm_lets_a_slow_charge_answer_and_then_ends_the_process() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let mut replica = Replica::start(&database, &sandbox.url);
    let order = replica.pending_order().await;
    let request = async { replica.pay("k", &order, "pm_card_slow").await };
    let told = async {
        eventually("the gateway has captured", || sandbox.captures() == 1).await;
        replica.terminate();
    };

    let (answer, ()) = tokio::join!(request, told);

    assert_eq!(answer.expect(201).json()["status"], "succeeded");
    assert_eq!(replica.end().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_lets_a_slow_charge_end_whose_client_has_left() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let mut replica = Replica::start(&database, &sandbox.url);
    let order = replica.pending_order().await;
    let client = send_and_capture(&replica, &order, || sandbox.captures() == 1).await;
    client.set_zero_linger().unwrap();
    drop(client);

    replica.terminate();

    assert_eq!(replica.end().await.code(), Some(0));
    assert_eq!(count(&database, "external_calls WHERE resolved_at IS NOT NULL AND attempts = 1"), 1);
    let next = Replica::start(&database, &sandbox.url);
    assert_ended_by_itself(&next, &order).await;
    assert_eq!(sandbox.captures(), 1);
}

#[tokio::test]
async fn sigterm_turns_readiness_bad_at_once_and_requests_are_accepted_for_the_shutdown_delay() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let mut replica = Replica::start_logging(&database, &sandbox.url, &[("SHUTDOWN_DELAY", "3")]);
    replica.get("/health/ready").await.expect(200);

    replica.terminate();
    replica.logged("not ready any more").await;

    replica.get("/health/ready").await.expect(503);
    replica.get("/health/live").await.expect(200);
    // A new client can still connect.
    Client::of(replica.base.clone(), database).order("k", "sticker", 1).await.expect(201);
    assert_eq!(replica.end().await.code(), Some(0));
}

#[tokio::test]
async fn ctrl_c_cuts_a_request_and_finishes_what_it_began_at_the_gateway() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let mut replica = Replica::start(&database, &sandbox.url);
    let order = replica.pending_order().await;
    let mut client = send_and_capture(&replica, &order, || sandbox.captures() == 1).await;

    replica.signal(Signal::INT);

    let mut answer = Vec::new();
    // The server closes or resets the connection without an answer.
    client.read_to_end(&mut answer).await.ok();
    assert_eq!(String::from_utf8_lossy(&answer), "");
    assert_eq!(replica.end().await.code(), Some(0));
    assert_eq!(count(&database, "external_calls WHERE resolved_at IS NOT NULL AND attempts = 1"), 1);
}
