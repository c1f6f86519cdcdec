// SPDX-License-Identifier: MIT OR Apache-2.0
//! If one connection turns out to be useless, all connections that are as old are closed.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::Integer;
use fair_pool::{NOBODY, Pool};
use idempotency::Database as _;
use idempotency_testing::{count, eventually, execute};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{Failed, fresh_database, pool};

diesel::table! {
    items (id) {
        id -> Integer,
        name -> Text,
    }
}

const CONNECTIONS: u32 = 8;

fn names(conn: &mut PgConnection) -> Result<Vec<String>, Failed> {
    Ok(items::table.select(items::name).load(conn)?)
}

/// Reads once over each connection, all at the same time. Each read has its own account, so that no read waits.
async fn read_over_each(pool: &Pool) -> Vec<bool> {
    let meeting = Arc::new(Barrier::new(CONNECTIONS as usize));
    let reads = (1..=CONNECTIONS).map(|account| {
        let meeting = Arc::clone(&meeting);
        pool.run(Uuid::from_u128(account.into()), move |conn| {
            meeting.wait();
            names(conn)
        })
    });
    futures_util::future::join_all(reads).await.iter().map(Result::is_ok).collect()
}

#[tokio::test]
async fn one_stale_plan_closes_every_connection_of_the_same_age() {
    let url = fresh_database();
    let pool = pool(&url, CONNECTIONS);
    assert_eq!(read_over_each(&pool).await, [true; CONNECTIONS as usize]);
    execute(&url, "ALTER TABLE items ALTER name TYPE varchar(300)");

    assert!(pool.read(Uuid::nil(), names).await.is_ok(), "a read runs again");

    assert_eq!(read_over_each(&pool).await, [true; CONNECTIONS as usize]);
}

/// r2d2's pool lives as long as one of its connections is in use, and would keep the idle ones.
const OPEN: &str = "pg_stat_activity WHERE datname = current_database() AND application_name = 'fair-pool-tests'";

#[tokio::test]
async fn the_idle_connections_are_closed_at_once_even_while_work_still_runs_over_one_of_the_same_age() {
    let url = fresh_database();
    let pool = pool(&url, CONNECTIONS);
    assert_eq!(read_over_each(&pool).await, [true; CONNECTIONS as usize]);
    let (ends, until) = mpsc::channel::<()>();
    let (begins, has_begun) = mpsc::channel();
    let runs = pool.clone();
    let long = tokio::spawn(async move {
        let work = move |conn: &mut PgConnection| {
            begins.send(()).unwrap();
            let _ = until.recv();
            names(conn)
        };
        runs.run(Uuid::from_u128(1), work).await
    });
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();

    execute(&url, "ALTER TABLE items ALTER name TYPE varchar(300)");
    assert!(pool.read(Uuid::nil(), names).await.is_ok());

    // That of the long work, that of the read, and that of the readiness check if there was one.
    eventually("the idle connections are closed", || count(&url, OPEN) <= 3).await;
    drop(ends);
    assert!(long.await.unwrap().is_err(), "its plan is stale too");
}

fn pid(conn: &mut PgConnection) -> Result<i32, Failed> {
    Ok(diesel::select(diesel::dsl::sql::<Integer>("pg_backend_pid()")).get_result(conn)?)
}

async fn process(pool: &Pool) -> i32 {
    pool.run(NOBODY, pid).await.unwrap()
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the work blocks a thread of the pool")]
async fn work_that_is_given_up_costs_the_others_their_connections_only_if_it_holds_half_of_them() {
    let pool = pool(&fresh_database(), 3);
    let slow = |account: u128| {
        pool.run(Uuid::from_u128(account), |_| {
            thread::sleep(Duration::from_secs(12));
            Ok::<_, Failed>(())
        })
    };
    let later = async {
        sleep(Duration::from_secs(1)).await;
        slow(2).await
    };
    let between = async {
        eventually("both run", || pool.load().busy == 2).await;
        let before = process(&pool).await;
        eventually("the first is given up", || pool.load().given_up == 1).await;
        assert_eq!(process(&pool).await, before);
        eventually("the second is given up", || pool.load().given_up == 2).await;
        assert_ne!(process(&pool).await, before);
    };

    let (first, second, ()) = tokio::join!(slow(1), later, between);

    assert!(first.is_err() && second.is_err());
}

/// Work that holds its connection until the other end is dropped, and then names the connection's process.
fn held(pool: &Pool, account: u128) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<i32, Failed>>) {
    let (ends, until) = mpsc::channel::<()>();
    let pool = pool.clone();
    let work = async move {
        pool.run(Uuid::from_u128(account), move |conn| {
            let _ = until.recv();
            pid(conn)
        })
        .await
    };
    (ends, tokio::spawn(work))
}

#[tokio::test]
async fn work_that_was_given_up_takes_no_connection_from_the_turns_of_others() {
    let pool = pool(&fresh_database(), 3);
    let (_never_ends, _) = held(&pool, 9);
    eventually("it is given up", || pool.load().given_up == 1 && pool.load().busy == 0).await;

    let meeting = Arc::new(Barrier::new(3));
    let all = (1..=3).map(|account| {
        let meeting = Arc::clone(&meeting);
        pool.run(Uuid::from_u128(account), move |conn| {
            meeting.wait();
            names(conn)
        })
    });
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
}

/// Work that was given up and ends makes the count of such work smaller.
#[tokio::test]
async fn a_pool_that_was_replaced_takes_no_connection_back() {
    let url = fresh_database();
    let pool = pool(&url, 3);
    let ((first_ends, _), (_never_ends, _)) = (held(&pool, 1), held(&pool, 2));
    // The third is younger, so it is not given up with them.
    sleep(Duration::from_secs(4)).await;
    let (later_ends, later) = held(&pool, 3);
    eventually("two are given up", || pool.load().given_up == 2).await;
    let fresh = process(&pool).await;
    drop(first_ends);
    eventually("one has ended", || pool.load().given_up == 1).await;

    drop(later_ends);
    let third = later.await.unwrap().unwrap();

    eventually("the third work's connection is closed", || count(&url, &format!("{OPEN} AND pid = {third}")) == 0)
        .await;
    assert_eq!(process(&pool).await, fresh);
}
