// SPDX-License-Identifier: MIT OR Apache-2.0
//! A 202 is provisional: `finalize` replaces it by the final reply. The last test shows what the table itself refuses.

use std::time::Duration;

use diesel::connection::{Connection, SimpleConnection};

use crate::locks::address;
use crate::support::{connect, count, fresh_database};
use crate::toy::{MAKE, Response, ToyError, Workshop, make, stock};
use idempotency::{Error, FinalizeError, MAX_BODY, Policy, Reply, finalize, hours, seconds};
use idempotency_testing::Proxy;

const IMPATIENT: Policy = Policy { wait: Duration::from_millis(100), ..MAKE };

async fn begin(workshop: &Workshop) -> Response {
    workshop.send(MAKE, "key", "ball", |_, _| Ok(Reply::json(202, &"processing")?)).await.unwrap()
}

fn finalize_now(workshop: &Workshop) {
    let reply = Reply::created("/toys/7".into(), &"finalized").unwrap();
    finalize(&mut connect(&workshop.url), &address("key"), &reply, hours(2)).unwrap();
}

#[tokio::test]
async fn a_provisional_reply_never_expires_and_says_when_to_ask_again() {
    let workshop = Workshop::open();

    let first = begin(&workshop).await;

    assert_eq!((first.status, first.is_replay()), (202, false));
    assert_eq!(first.header("Idempotency-Expires"), None);
    assert_eq!(first.header("Retry-After"), Some("1"));
    assert_eq!(count(&workshop.url, "idempotency_keys WHERE status = 202 AND expires_at IS NULL"), 1);
}

#[tokio::test]
async fn a_retry_of_a_provisional_reply_waits_and_gets_the_final_one() {
    let workshop = Workshop::open();
    begin(&workshop).await;

    // A retry in the same process and a retry in another process wait while the record is finalized.
    let (here, there) = (workshop.clone(), workshop.another_process());
    let (here, there, ()) = tokio::join!(here.make("key"), there.make("key"), async {
        tokio::task::yield_now().await;
        finalize_now(&workshop);
    });

    for retry in [here, there, workshop.make("key").await] {
        assert_eq!(retry.reply(), (201, Some("application/json"), Some("/toys/7"), br#""finalized""#.as_slice()));
        assert!(retry.is_replay() && retry.header("Idempotency-Expires").is_some());
        assert_eq!(retry.header("Retry-After"), None);
    }
}

#[tokio::test]
async fn a_retry_gets_the_provisional_reply_when_its_wait_ends() {
    let workshop = Workshop::open();
    let first = begin(&workshop).await;

    // The second retry follows the first one, and must not wait longer.
    let retry = || workshop.send(IMPATIENT, "key", "ball", make);
    let (leader, follower) = tokio::join!(retry(), retry());

    for retry in [leader.unwrap(), follower.unwrap()] {
        assert_eq!(retry.reply(), first.reply());
        assert!(retry.is_replay());
        assert_eq!((retry.header("Retry-After"), retry.header("Idempotency-Expires")), (Some("1"), None));
    }
}

/// While an external system is slow, every client sends again, and the database must be able to bear it.
#[tokio::test]
async fn a_retry_that_waits_for_an_outcome_looks_a_few_times_and_not_in_a_loop() {
    let proxy = Proxy::start();
    let workshop = Workshop::open_on(proxy.url(&fresh_database()), 1);
    begin(&workshop).await;
    proxy.round_trips();

    let retry = workshop.send(Policy { wait: Duration::from_secs(5), ..MAKE }, "key", "ball", make).await.unwrap();

    let trips = proxy.round_trips();
    assert_eq!(retry.status, 202);
    // A look takes two round trips, since the pool tests its connection. With the pauses for a request in flight there are more
    // than twenty.
    assert!((6..=17).contains(&trips.len()), "{trips}");
}

/// Both waits end at the same time, and both see what the leader has seen.
#[tokio::test]
async fn another_body_that_waits_beside_a_retry_never_gets_the_provisional_reply() {
    let workshop = Workshop::open();
    let first = begin(&workshop).await;
    for round in 0..3 {
        let send = |name| workshop.send(IMPATIENT, "key", name, make);

        let (ball, doll) = tokio::join!(send("ball"), send("doll"));

        assert_eq!(ball.unwrap().reply(), first.reply());
        assert!(matches!(doll, Err(ToyError::Idempotency(Error::KeyReused))), "round {round}: {doll:?}");
    }
}

#[tokio::test]
async fn finalizing_a_final_or_missing_record_fails_and_rolls_back() {
    let workshop = Workshop::open();
    let first = workshop.make("final").await;

    for key in ["final", "gone"] {
        let outcome = connect(&workshop.url).transaction(|conn| {
            stock(conn, 1)?;
            finalize(conn, &address(key), &Reply::ok(&"finalized").unwrap(), hours(1))
        });
        assert!(matches!(outcome, Err(FinalizeError::NotProvisional(_))), "{outcome:?}");
    }

    assert_eq!(count(&workshop.url, "shelves WHERE toys > 0"), 0);
    assert_eq!(workshop.make("final").await.reply(), first.reply());
}

/// Without the bound, the request's own time limit would come first, and the answer would be an error.
#[tokio::test]
async fn a_policy_that_waits_longer_than_a_request_may_take_still_gets_the_provisional_reply() {
    let workshop = Workshop::open();
    let first = begin(&workshop).await;

    let retry = workshop.send(Policy { wait: seconds(60), ..MAKE }, "key", "ball", make).await;

    assert_eq!(retry.unwrap().reply(), first.reply());
}

#[tokio::test]
async fn a_final_reply_over_the_limit_is_not_final() {
    let workshop = Workshop::open();
    begin(&workshop).await;
    let reply = Reply { status: 200, content_type: None, location: None, body: vec![0; MAX_BODY + 1].into() };

    let outcome = finalize(&mut connect(&workshop.url), &address("key"), &reply, seconds(1));

    assert!(matches!(outcome, Err(FinalizeError::TooLarge(_))), "{outcome:?}");
    assert_eq!(count(&workshop.url, "idempotency_keys WHERE status = 202"), 1);
}

#[tokio::test]
async fn a_record_may_be_final_by_another_provisional_reply() {
    let workshop = Workshop::open();
    begin(&workshop).await;

    finalize(&mut connect(&workshop.url), &address("key"), &Reply::json(202, &"still").unwrap(), hours(1)).unwrap();

    assert_eq!(count(&workshop.url, "idempotency_keys WHERE status = 202 AND expires_at IS NULL"), 1);
    finalize_now(&workshop);
    assert_eq!(workshop.make("key").await.status, 201);
}

/// Commits a change of the record without the crate.
fn commit(workshop: &Workshop, change: &str) -> Result<(), String> {
    connect(&workshop.url).batch_execute(&format!("BEGIN; {change}; COMMIT")).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_database_itself_refuses_a_record_that_breaks_a_guarantee() {
    let workshop = Workshop::open();
    workshop.make("key").await;
    let insert = "INSERT INTO idempotency_keys (account_id, scope, key, id, route, request_id, fingerprint_version, fingerprint) \
                  SELECT account_id, scope, 'other', gen_random_uuid(), route, request_id, 1, fingerprint FROM idempotency_keys";
    let refused = [
        (insert, "null value in column \"status\""),
        ("UPDATE idempotency_keys SET status = NULL", "null value in column \"status\""),
        ("UPDATE idempotency_keys SET body = NULL", "null value in column \"body\""),
        ("UPDATE idempotency_keys SET status = 500", "status_check"),
        ("UPDATE idempotency_keys SET status = 503", "status_check"),
        ("UPDATE idempotency_keys SET status = 202", "provisional_never_expires"),
        ("UPDATE idempotency_keys SET expires_at = NULL", "provisional_never_expires"),
    ];

    for (change, constraint) in refused {
        let error = commit(&workshop, change).unwrap_err();
        assert!(error.contains(constraint), "{change}: {error}");
    }
    commit(&workshop, "UPDATE idempotency_keys SET status = 499").unwrap();
}
