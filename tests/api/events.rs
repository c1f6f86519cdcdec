//! The feed has every event once, in an order that never changes. No new event appears before a cursor that a poller has.

use std::collections::HashSet;

use diesel::connection::SimpleConnection;
use serde_json::{Value, json};

use crate::app::{ACME, App, Client, GLOBEX, send};
use crate::support::{connect, eventually_blocked, execute};

/// Reads one page after a cursor.
async fn page(app: &Client, account: &str, after: Option<&str>, limit: u32) -> (Vec<Value>, bool) {
    let after = after.map(|cursor| format!("&after={cursor}")).unwrap_or_default();
    let answer = send(app.request_as(account, "GET", &format!("/v1/events?limit={limit}{after}"))).await.expect(200);
    let page = answer.json();
    (page["data"].as_array().unwrap().clone(), page["has_more"].as_bool().unwrap())
}

/// Reads to the end of the feed, like a poller. Adds the new events to `seen`.
async fn poll(app: &Client, seen: &mut Vec<Value>) {
    loop {
        let after = seen.last().map(|event| event["cursor"].as_str().unwrap().to_owned());
        let (events, has_more) = page(app, ACME, after.as_deref(), 7).await;
        seen.extend(events);
        if !has_more {
            return;
        }
    }
}

#[tokio::test]
async fn each_change_is_one_event_with_the_object_after_the_change() {
    let app = App::start().await;
    let order = app.order("k1", "credits-1000", 1).await.expect(201);
    let charge = json!({"order_id": order.json()["id"], "payment_method": "pm_card_visa"});
    app.post("/v1/charges", "k2", charge).await.expect(201);
    let grant = json!({"customer": "ada", "feature": "pro", "units": 5});
    let grant = app.post("/v1/entitlements", "k3", grant).await.expect(201);
    let path = grant.header("Location").unwrap();
    app.post(&format!("{path}/consume"), "k4", json!({"units": 2})).await.expect(200);
    app.post(&format!("{path}/revoke"), "k5", json!({})).await.expect(200);
    // A retry changes nothing, so it causes no event.
    app.post(&format!("{path}/consume"), "k4", json!({"units": 2})).await.expect(200);

    let mut seen = Vec::new();
    poll(&app, &mut seen).await;
    let types: Vec<_> = seen.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let catalogue = ["product.created"; 3];
    let changes = [
        "order.created",
        "charge.succeeded",
        "order.paid",
        "entitlement.granted",
        "entitlement.granted",
        "entitlement.consumed",
        "entitlement.revoked",
    ];
    assert_eq!(types, [&catalogue[..], &changes[..]].concat());
    assert_eq!(seen[3]["data"], order.json());
    assert_eq!(seen[8]["data"]["units_used"], 2);
}

#[tokio::test]
async fn an_event_that_commits_late_comes_after_the_events_that_were_read() {
    let app = App::start().await;
    let mut seen = Vec::new();
    // By id and by time, the slow transaction's event is older than the events that the poller reads before the commit.
    let mut slow = connect(&app.database);
    slow.batch_execute(
        "BEGIN; INSERT INTO events (account_id, id, type, data) \
         SELECT account_id, '00000000-0000-7000-8000-000000000000', 'order.created', '{}' FROM accounts WHERE name = 'acme'",
    )
    .unwrap();
    app.order("k", "sticker", 1).await.expect(201);
    poll(&app, &mut seen).await;
    let before = seen.clone();

    slow.batch_execute("COMMIT").unwrap();
    poll(&app, &mut seen).await;

    assert_eq!(seen.len(), before.len() + 1);
    assert_eq!(seen.last().unwrap()["id"], "00000000-0000-7000-8000-000000000000");
    let mut from_the_start = Vec::new();
    poll(&app, &mut from_the_start).await;
    assert_eq!(from_the_start, seen, "the order never changes");
}

#[tokio::test]
async fn a_poller_beside_many_writers_sees_every_event_once_and_in_order() {
    const WRITERS: usize = 8;
    const ORDERS: usize = 25;
    let app = App::start_with_pool(8).await;
    let writers = app.at_once(WRITERS, |app, writer| async move {
        for number in 0..ORDERS {
            app.order(&format!("{writer}-{number}"), "pro-monthly", 1).await.expect(201);
        }
    });
    let writing = tokio::spawn(writers);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    while !writing.is_finished() {
        tokio::join!(poll(&app, &mut one), poll(&app, &mut other));
    }
    writing.await.unwrap();
    tokio::join!(poll(&app, &mut one), poll(&app, &mut other));

    let ids: HashSet<_> = one.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!((one.len(), ids.len()), (3 + WRITERS * ORDERS, 3 + WRITERS * ORDERS));
    assert_eq!(one, other, "two pollers see one order");
    let cursors: Vec<_> = one.iter().map(|event| event["cursor"].as_str().unwrap()).collect();
    assert!(cursors.is_sorted());
}

#[tokio::test]
async fn two_readers_do_not_give_one_event_two_positions() {
    let app = App::start().await;
    app.order("k", "sticker", 1).await.expect(201);
    // Both readers find the event without a position, and wait for the feed's lock.
    execute(&app.database, "INSERT INTO event_feeds SELECT account_id, 0 FROM accounts WHERE name = 'acme'");
    let mut holder = connect(&app.database);
    holder.batch_execute("BEGIN; SELECT FROM event_feeds FOR UPDATE").unwrap();
    let readers = tokio::spawn(app.at_once(2, |app, _| async move { page(&app, ACME, None, 20).await.0 }));
    eventually_blocked(&app.database, 2).await;
    holder.batch_execute("COMMIT").unwrap();

    let pages = readers.await.unwrap();
    assert_eq!(pages[0], pages[1]);
    assert_eq!(pages[0].len(), 4);
}

#[tokio::test]
async fn a_read_that_finds_nothing_new_writes_nothing() {
    let app = App::start().await;
    let mut seen = Vec::new();
    poll(&app, &mut seen).await;
    // A read that writes to the feed would wait for this lock.
    let mut holder = connect(&app.database);
    holder.batch_execute("BEGIN; LOCK TABLE event_feeds, events IN SHARE MODE").unwrap();
    poll(&app, &mut seen).await;
    assert_eq!(seen.len(), 3);
    holder.batch_execute("ROLLBACK").unwrap();
}

#[tokio::test]
async fn a_long_backlog_is_read_completely_although_one_read_places_only_part_of_it() {
    let app = App::start().await;
    execute(
        &app.database,
        "INSERT INTO events (account_id, id, type, data) SELECT account_id, gen_random_uuid(), 'x', '{}' \
         FROM accounts, generate_series(1, 2500) WHERE name = 'acme'",
    );
    page(&app, ACME, None, 1).await;
    assert_eq!(app.count("events WHERE position IS NOT NULL"), 1000);

    let mut after: Option<String> = None;
    let mut read = 0;
    loop {
        let (events, has_more) = page(&app, ACME, after.as_deref(), 100).await;
        read += events.len();
        if !has_more {
            break;
        }
        after = events.last().map(|event| event["cursor"].as_str().unwrap().to_owned());
    }
    assert_eq!(read, 2503);
}

#[tokio::test]
async fn a_cursor_that_the_feed_never_gave_out_is_refused() {
    let app = App::start().await;
    let (events, _) = page(&app, ACME, None, 20).await;
    let last = events.last().unwrap()["cursor"].as_str().unwrap().to_owned();
    app.order("k", "sticker", 1).await.expect(201);
    let (ahead, _) = page(&app, ACME, Some(&last), 20).await;
    let ahead = ahead[0]["cursor"].as_str().unwrap();

    let upper = last.to_uppercase();
    for cursor in ["", "0", "evt_", "evt_0000000000000000", "evt_fffffffffffffff0", "evt_3", upper.as_str()] {
        let answer = app.get(&format!("/v1/events?after={cursor}")).await.expect_problem(422, "invalid-request");
        assert_eq!(answer.pointers(), ["/after"], "{cursor}");
    }
    // The other account's feed has not given out this cursor.
    page(&app, GLOBEX, None, 20).await;
    let answer = send(app.request_as(GLOBEX, "GET", &format!("/v1/events?after={ahead}"))).await;
    answer.expect_problem(422, "invalid-request");
}

#[tokio::test]
async fn an_account_sees_its_own_events_only() {
    let app = App::start().await;
    app.order("k", "sticker", 1).await.expect(201);
    let (events, _) = page(&app, GLOBEX, None, 100).await;
    let orders = events.iter().filter(|event| event["type"] == "order.created").count();
    assert_eq!((events.len(), orders), (3, 0));
}
