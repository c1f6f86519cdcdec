// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bodies that fail: which failures are stored, and what stays in the database.

use std::time::Duration;

use crate::support::{at_once, count, eventually, eventually_blocked};
use crate::toy::{MAKE, MAKE_OR_REMEMBER, Runs, ToyError, Workshop, insert, make, stock};
use idempotency::{Error, Failures, MAX_BODY, Policy, Reply};

#[tokio::test]
async fn cache_failures_leaves_no_rows_yet_replays_the_failure() {
    let workshop = Workshop::open();
    let fail = || {
        workshop.send(MAKE_OR_REMEMBER, "key", "ball", |conn, toy| {
            insert(conn, toy)?;
            Err(ToyError::Impossible)
        })
    };

    let first = fail().await.unwrap();
    let retry = fail().await.unwrap();

    assert_eq!((first.status, first.is_replay()), (409, false));
    // The reply's body contains the first request's instance.
    assert_eq!(retry.reply(), first.reply());
    assert_eq!(retry.header("Idempotency-Expires"), first.header("Idempotency-Expires"));
    assert!(retry.is_replay());
    assert_eq!((workshop.toys(), workshop.records()), (0, 1));
}

#[tokio::test]
async fn a_stored_failure_expires_after_its_own_time_to_live_and_the_body_runs_again() {
    const SHORT: Policy =
        Policy { failures: Failures::CacheFailures { failure_ttl: Duration::from_millis(200) }, ..MAKE };
    let workshop = Workshop::open();
    let failed = workshop.send(SHORT, "key", "ball", |_, _| Err(ToyError::Impossible)).await.unwrap();
    assert_eq!(failed.status, 409);

    eventually("the failure expires", || count(&workshop.url, "idempotency_keys WHERE expires_at <= now()") == 1).await;
    let again = workshop.send(SHORT, "key", "ball", make).await.unwrap();

    assert_eq!((again.status, again.is_replay()), (201, false));
    // The success has the time to live of a success.
    assert_eq!(count(&workshop.url, "idempotency_keys WHERE expires_at > now() + interval '59 minutes'"), 1);
}

#[tokio::test]
async fn success_only_leaves_nothing_of_a_failure_and_frees_the_key() {
    let workshop = Workshop::open();
    let failed = workshop.send(MAKE, "key", "ball", |conn, toy| {
        insert(conn, toy)?;
        Err(ToyError::Impossible)
    });

    assert!(matches!(failed.await, Err(ToyError::Impossible)));
    assert_eq!((workshop.toys(), workshop.records()), (0, 0));

    // The key is free for any request, even with another body.
    let next = workshop.send(MAKE, "key", "doll", make).await.unwrap();
    assert_eq!((next.status, next.is_replay()), (201, false));
}

#[tokio::test]
async fn a_transient_failure_is_never_stored() {
    for policy in [MAKE, MAKE_OR_REMEMBER] {
        let workshop = Workshop::open();
        let failed = workshop.send(policy, "key", "ball", |conn, toy| {
            insert(conn, toy)?;
            Err(ToyError::Closed)
        });

        assert!(matches!(failed.await, Err(ToyError::Closed)));
        assert_eq!((workshop.toys(), workshop.records()), (0, 0));
        assert!(!workshop.send(policy, "key", "ball", make).await.unwrap().is_replay());
    }
}

#[tokio::test]
async fn a_failure_of_the_database_is_never_stored() {
    for policy in [MAKE, MAKE_OR_REMEMBER] {
        let workshop = Workshop::open();
        let failed = workshop.send(policy, "key", "ball", |conn, toy| {
            insert(conn, toy)?;
            diesel::RunQueryDsl::execute(diesel::sql_query("SELECT 1 / 0"), conn)?;
            make(conn, toy)
        });

        assert!(matches!(failed.await, Err(ToyError::Database(_))));
        assert_eq!((workshop.toys(), workshop.records()), (0, 0));
        assert!(!workshop.send(policy, "key", "ball", make).await.unwrap().is_replay());
    }
}

#[tokio::test]
async fn a_5xx_that_a_body_replies_is_never_stored() {
    for policy in [MAKE, MAKE_OR_REMEMBER] {
        let workshop = Workshop::open();
        let failed = workshop.send(policy, "key", "ball", |conn, toy| {
            insert(conn, toy)?;
            Ok(Reply::json(503, &"sorry")?)
        });

        assert!(matches!(failed.await, Err(ToyError::Database(_))));
        assert_eq!((workshop.toys(), workshop.records()), (0, 0));
    }
}

#[tokio::test]
async fn a_reply_over_the_limit_fails_loudly_and_rolls_back() {
    let long = |length: usize| {
        move |conn: &mut _, toy: &_| {
            insert(conn, toy)?;
            Ok(Reply { status: 200, content_type: None, location: None, body: vec![b'x'; length].into() })
        }
    };
    let workshop = Workshop::open();

    let over = workshop.send(MAKE, "over", "ball", long(MAX_BODY + 1)).await;
    assert!(matches!(over, Err(ToyError::Idempotency(Error::ReplyTooLarge(_)))), "{over:?}");
    assert_eq!((workshop.toys(), workshop.records()), (0, 0));

    let at_limit = workshop.send(MAKE, "at the limit", "ball", long(MAX_BODY)).await.unwrap();
    assert_eq!(at_limit.body.len(), MAX_BODY);
}

#[tokio::test]
async fn a_panic_in_the_body_frees_the_key_and_the_pool_works_on() {
    // One connection: if the panic left an open transaction, the next request would fail.
    let workshop = Workshop::open_on(crate::support::fresh_database(), 1);
    for policy in [MAKE, MAKE_OR_REMEMBER] {
        let panicked = workshop.send(policy, "key", "ball", |conn, toy| {
            insert(conn, toy)?;
            panic!("this panic is part of a test")
        });

        assert!(matches!(panicked.await, Err(ToyError::Idempotency(Error::Panicked))));
        assert_eq!((workshop.toys(), workshop.records()), (0, 0));
    }
    assert!(!workshop.make("key").await.is_replay());
}

#[tokio::test]
async fn duplicates_that_were_waiting_share_a_failure() {
    let workshop = Workshop::open();
    let runs = Runs::default();
    let shelf = workshop.hold_shelf(1);
    let fail = {
        let (workshop, runs) = (workshop.clone(), runs.clone());
        move |_| {
            let runs = runs.clone();
            workshop.send(MAKE, "key", "ball", move |conn, _| {
                runs.is_first();
                stock(conn, 1)?;
                Err(ToyError::Impossible)
            })
        }
    };

    let (answers, ()) = tokio::join!(at_once(20, fail), async {
        // All twenty tasks ran before this line, so all followers have joined the flight.
        eventually_blocked(&workshop.url, 1).await;
        drop(shelf);
    });

    assert!(answers.iter().all(|answer| matches!(answer, Err(ToyError::Impossible))), "{answers:?}");
    assert_eq!(runs.so_far(), 1);
    assert_eq!(workshop.records(), 0);
}
