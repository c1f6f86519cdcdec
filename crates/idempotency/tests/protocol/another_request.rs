// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two requests under one key, in flight at the same time: nobody knows yet which of them the key belongs to.

use std::time::{Duration, Instant};

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::support::{connect, count, eventually_blocked};
use crate::toy::{MAKE, NewToy, Response, Runs, ToyError, Workshop, make, stock};
use idempotency::Error;

/// The request in flight may turn out to be the wrong one, so the other one is not refused before there is a record.
#[tokio::test]
async fn another_request_under_a_key_in_flight_waits_for_its_end() {
    for succeeds in [true, false] {
        let workshop = Workshop::open();
        let shelf = workshop.hold_shelf(1);
        let first = workshop.send(MAKE, "key", "ball", move |conn, toy| {
            stock(conn, 1)?;
            if succeeds { make(conn, toy) } else { Err(ToyError::Impossible) }
        });
        let other = async {
            eventually_blocked(&workshop.url, 1).await;
            let (other, ()) = tokio::join!(workshop.send(MAKE, "key", "doll", make), async {
                tokio::task::yield_now().await;
                drop(shelf);
            });
            other
        };

        let (first, other): (Result<Response, _>, _) = tokio::join!(first, other);

        if succeeds {
            assert_eq!(first.unwrap().status, 201);
            assert!(matches!(other, Err(ToyError::Idempotency(Error::KeyReused))), "{other:?}");
        } else {
            assert!(matches!(first, Err(ToyError::Impossible)));
            assert_eq!(other.unwrap().status, 201);
        }
        assert_eq!((workshop.toys(), workshop.records()), (1, 1));
    }
}

/// The other request reaches this process first, but the key belongs to the retry.
#[tokio::test]
async fn a_retry_that_another_request_under_its_key_precedes_gets_its_reply() {
    let workshop = Workshop::open();
    let first = workshop.make("key").await;
    for _ in 0..50 {
        let (other, retry) =
            tokio::join!(workshop.send(MAKE, "key", "doll", make), workshop.send(MAKE, "key", "ball", make));
        assert!(matches!(other, Err(ToyError::Idempotency(Error::KeyReused))), "{other:?}");
        assert_eq!(retry.unwrap().reply(), first.reply());
    }
}

/// The same while another process is still running the retry's first request, so that nobody here knows whose key it
/// is.
#[tokio::test]
async fn a_retry_beside_another_request_waits_for_what_another_process_makes_of_the_key() {
    let workshop = Workshop::open();
    let here = workshop.another_process();
    let shelf = workshop.hold_shelf(1);
    let first = tokio::spawn(workshop.send(MAKE, "key", "ball", |conn, toy| {
        stock(conn, 1)?;
        make(conn, toy)
    }));
    eventually_blocked(&workshop.url, 1).await;

    let (other, retry, ()) =
        tokio::join!(here.send(MAKE, "key", "doll", make), here.send(MAKE, "key", "ball", make), async {
            drop(shelf);
        });

    assert!(matches!(other, Err(ToyError::Idempotency(Error::KeyReused))), "{other:?}");
    assert_eq!(retry.unwrap().reply(), first.await.unwrap().unwrap().reply());
    assert_eq!((workshop.toys(), workshop.records()), (1, 1));
}

/// A failure of one request is no answer to the other. Which of the two comes first is a matter of chance: hence eight
/// rounds.
#[tokio::test]
async fn a_request_does_not_share_the_failure_of_another_request_under_its_key() {
    let workshop = Workshop::open();
    let here = workshop.another_process();
    for round in 0..8 {
        let key = format!("key-{round}");
        let shelf = workshop.hold_shelf(1);
        let elsewhere = tokio::spawn(workshop.send(MAKE, &key, "train", |conn, _| {
            stock(conn, 1)?;
            Err(ToyError::Impossible)
        }));
        eventually_blocked(&workshop.url, 1).await;
        let runs = Runs::default();
        let fail = {
            let runs = runs.clone();
            move |_: &mut PgConnection, _: &NewToy| {
                runs.is_first();
                Err(ToyError::Impossible)
            }
        };
        let until_failed = async {
            drop(shelf);
            while runs.so_far() == 0 {
                tokio::task::yield_now().await;
            }
            // This blocks the one thread, so that the failure is there when the ball's request looks up.
            let open = "pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
            while count(&workshop.url, open) > 0 {}
        };

        let (other, request) = (here.send(MAKE, &key, "doll", fail), here.send(MAKE, &key, "ball", make));
        let (other, request, ()) = tokio::join!(other, request, until_failed);

        // A request that fails answers with the key's record, if the ball's request has written it by then.
        for failed in [elsewhere.await.unwrap(), other] {
            let own_or_refused = [ToyError::Impossible.to_string(), Error::KeyReused.to_string()];
            assert!(own_or_refused.contains(&failed.as_ref().unwrap_err().to_string()), "{failed:?}");
        }
        // The ball's request is refused if the doll's request held the key just then.
        assert!(matches!(request, Ok(_) | Err(ToyError::Idempotency(Error::KeyReused))), "{request:?}");
    }
}

/// A transaction that fails and runs again does not hold the key in between. Here a stranger's transaction gets the key's lock then.
#[tokio::test]
async fn another_request_is_not_refused_while_the_transaction_that_held_the_key_waits_to_run_again() {
    let workshop = Workshop::open();
    let digest = crate::locks::address("key").digest();
    let lock = i64::from_be_bytes(*digest.first_chunk().unwrap());
    let mut stranger = connect(&workshop.url);
    let (url, runs) = (workshop.url.clone(), Runs::default());
    let leader = tokio::spawn(workshop.send(MAKE, "key", "doll", move |conn, toy| {
        if runs.is_first() {
            let waits = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            while count(&url, waits) == 0 {}
            let why: Box<String> = Box::new("a boxed cause".to_owned());
            return Err(DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, why).into());
        }
        make(conn, toy)
    }));
    let stranger = tokio::task::spawn_blocking(move || {
        eventually_claimed(&mut stranger, lock);
        stranger
    });
    let mut stranger = stranger.await.unwrap();

    // The leader notices a moment after the stranger that its transaction is gone. From then on the other request
    // waits.
    let deadline = Instant::now() + Duration::from_secs(1);
    let wait = Duration::from_millis(300);
    while let Ok(other) = tokio::time::timeout(wait, workshop.send(MAKE, "key", "ball", make)).await {
        assert!(Instant::now() < deadline, "the other request is refused, but nobody here holds the key: {other:?}");
        tokio::task::yield_now().await;
    }

    stranger.batch_execute("ROLLBACK").unwrap();
    assert_eq!(leader.await.unwrap().unwrap().status, 201);
}

/// Waits for the key's lock while the leader's transaction has it, and holds it once that transaction has rolled back.
fn eventually_claimed(conn: &mut PgConnection, lock: i64) {
    conn.batch_execute("BEGIN").unwrap();
    let held = format!("SELECT pg_try_advisory_lock({lock}) AND pg_advisory_unlock({lock}) AS free");
    while diesel::sql_query(&held).get_result::<Free>(conn).unwrap().free {}
    conn.batch_execute(&format!("SELECT pg_advisory_xact_lock({lock})")).unwrap();
}

#[derive(diesel::QueryableByName)]
struct Free {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    free: bool,
}
