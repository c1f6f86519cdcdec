//! A read of the feed is bounded in rows, whatever its filter and whatever is written meanwhile. The client continues
//! from the page's cursor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::app::App;
use crate::support::{execute, number};

const BACKLOG: i64 = 50_000;
/// Events that get a position in one call, and positions that one call looks at.
const PLACED: i64 = 1000;
const LOOKED_AT: i64 = 10_000;

/// Adds a backlog of events without a position, followed by one event of a rare type.
fn add_backlog(database: &str) {
    execute(
        database,
        &format!(
            "INSERT INTO events (account_id, id, type, data, created_at) \
             SELECT account_id, gen_random_uuid(), 'order.created', '{{\"id\": \"other\"}}', now() - interval '1 second' \
             FROM accounts, generate_series(1, {BACKLOG}) WHERE name = 'acme'; \
             INSERT INTO events (account_id, id, type, data) \
             SELECT account_id, gen_random_uuid(), 'order.refunded', '{{\"id\": \"rare\"}}' FROM accounts WHERE name = 'acme'; \
             ANALYZE events"
        ),
    );
}

fn position(cursor: &Value) -> i64 {
    cursor.as_str().map_or(0, |text| i64::from_str_radix(text.trim_start_matches("evt_"), 16).unwrap())
}

/// Reads the filtered feed to its end, or if a writer goes on, until it has found something. Returns the ids of the
/// objects, and the number of calls. Asserts the bounds of each call.
async fn read(app: &App, filter: &str, to_the_end: bool) -> (Vec<String>, i64) {
    let (mut found, mut calls, mut cursor) = (Vec::new(), 0, Value::Null);
    loop {
        let last = || number(&app.database, "coalesce(max(last_position), 0) AS n FROM event_feeds");
        let before = last();
        let after = cursor.as_str().map(|cursor| format!("&after={cursor}")).unwrap_or_default();
        let page = app.get(&format!("/v1/events?{filter}{after}")).await.expect(200).json();
        calls += 1;
        assert!(last() - before <= PLACED, "one call gave {} positions", last() - before);
        let looked_at = position(&page["cursor"]) - position(&cursor);
        assert!((0..=LOOKED_AT).contains(&looked_at), "one call looked at {looked_at} positions");
        assert!(looked_at > 0 || page["has_more"] == false, "the call makes no progress: {page}");
        found.extend(
            page["data"].as_array().unwrap().iter().map(|event| event["data"]["id"].as_str().unwrap().to_owned()),
        );
        cursor = page["cursor"].clone();
        if page["has_more"] == false || !(to_the_end || found.is_empty()) {
            return (found, calls);
        }
    }
}

#[tokio::test]
async fn a_rare_filter_ends_in_bounded_rounds_beside_a_writer() {
    let app = App::start_with_pool(4).await;
    add_backlog(&app.database);
    let stop = Arc::new(AtomicBool::new(false));
    let (client, stopped) = (app.clone(), Arc::clone(&stop));
    let writer = tokio::spawn(async move {
        let mut written = 0;
        while !stopped.load(Ordering::Relaxed) {
            client.order(&format!("writer-{written}"), "pro-monthly", 1).await.expect(201);
            written += 1;
        }
        written
    });

    let (found, calls) = read(&app, "type=order.refunded", false).await;

    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    assert_eq!(found, ["rare"]);
    // Each call but the last two gives a whole batch of positions.
    assert!(calls <= (BACKLOG + written) / PLACED + 3, "{calls} calls beside {written} orders");
    // Now everything has a position, so a call looks at a whole window.
    for filter in ["type=order.refunded", "object_id=rare"] {
        let (found, calls) = read(&app, filter, true).await;
        assert_eq!(found, ["rare"], "{filter}");
        assert!(calls <= (BACKLOG + written) / LOOKED_AT + 2, "{filter}: {calls} calls");
    }
}

#[tokio::test]
async fn an_empty_page_has_a_cursor_to_continue_from() {
    let app = App::start_with_pool(2).await;
    let all = app.get("/v1/events").await.expect(200).json();
    assert_eq!((all["data"].as_array().unwrap().len(), &all["cursor"]), (3, &all["data"][2]["cursor"]));

    let empty = app.get("/v1/events?type=order.paid").await.expect(200).json();
    assert_eq!(empty, json!({"data": [], "has_more": false, "cursor": all["cursor"]}));
    let next = format!("/v1/events?after={}", empty["cursor"].as_str().unwrap());
    assert_eq!(app.get(&next).await.expect(200).json(), empty);

    // A full page ends at its last event, even if the call looked at more.
    let first = app.get("/v1/events?limit=1").await.expect(200).json();
    assert_eq!((&first["cursor"], &first["has_more"]), (&all["data"][0]["cursor"], &json!(true)));

    execute(&app.database, "TRUNCATE events, event_feeds");
    let nothing = app.get("/v1/events").await.expect(200).json();
    assert_eq!(nothing, json!({"data": [], "has_more": false, "cursor": null}));
}
