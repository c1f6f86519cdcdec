// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work that panics, work whose caller leaves, and servers that take no connection.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{Connection, SimpleConnection};
use fair_pool::{Cause, NOBODY, Pool};
use idempotency::{Database as _, Error};
use idempotency_testing::{Proxy, count, eventually};
use tokio::time::{sleep, timeout};

use crate::{Failed, fresh_database, pool};

async fn work(pool: &Pool) -> Result<(), Failed> {
    pool.run(NOBODY, |conn| Ok(conn.batch_execute("SELECT 1")?)).await
}

#[tokio::test]
async fn after_a_panic_the_pool_still_works() {
    let url = fresh_database();
    // One connection: if the panic kept its turn, or left its transaction open, the next work would fail.
    let pool = pool(&url, 1);

    let panicked = pool.run(NOBODY, |conn| {
        conn.transaction(|conn| -> Result<(), Failed> {
            conn.batch_execute("DELETE FROM items")?;
            panic!("this panic is part of a test")
        })
    });
    assert!(matches!(panicked.await, Err(Failed::Refused(Error::Panicked))));

    let works = pool.run(NOBODY, |conn| Ok::<_, Failed>(conn.batch_execute("BEGIN; COMMIT")?)).await;
    assert!(works.is_ok());
    assert_eq!(count(&url, "items"), 1);
}

/// No caller is left when the work's time is up.
#[tokio::test]
async fn work_whose_caller_has_left_is_given_up_too() {
    let proxy = Proxy::start();
    let pool = pool(&proxy.url(&fresh_database()), 1);
    work(&pool).await.unwrap();
    proxy.pause();
    assert!(timeout(Duration::from_secs(1), work(&pool)).await.is_err());
    proxy.resume_for_new_connections();
    assert!(work(&pool).await.is_err(), "the only connection is still silent");

    let works = async { while work(&pool).await.is_err() {} };
    timeout(Duration::from_secs(12), works).await.unwrap();

    assert_eq!(pool.load().given_up, 1);
}

/// The test of a connection that has rested is never answered.
#[tokio::test]
async fn a_connection_that_went_silent_while_it_rested_is_given_up_and_replaced() {
    let proxy = Proxy::start();
    let pool = pool(&proxy.url(&fresh_database()), 1);
    work(&pool).await.unwrap();
    sleep(Duration::from_millis(1100)).await;
    proxy.pause();
    assert!(work(&pool).await.is_err());
    proxy.resume_for_new_connections();

    let works = async { while work(&pool).await.is_err() {} };
    timeout(Duration::from_secs(3), works).await.unwrap();
}

/// r2d2 has three threads. A pooler may accept a connection, and never answer its first statement.
#[tokio::test]
async fn a_server_that_goes_silent_after_the_handshake_does_not_keep_the_pool_from_connecting() {
    let proxy = Proxy::start();
    let pool = pool(&proxy.url(&fresh_database()), 1);
    let silences = async {
        for _ in 0..4 {
            proxy.pause_after(b"SET TIME ZONE");
            while !proxy.is_paused() {
                assert!(work(&pool).await.is_err());
            }
            proxy.resume_for_new_connections();
        }
        while work(&pool).await.is_err() {}
    };

    timeout(Duration::from_secs(20), silences).await.unwrap();

    eventually("four threads wait for ever", || pool.load().given_up >= 4).await;
}

/// libpq gives each address two seconds, as long as work waits for a connection.
#[tokio::test]
async fn the_second_address_of_a_host_is_used_if_the_first_is_silent() {
    // The kernel takes the connections, and nobody answers them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("{},127.0.0.1:", silent.local_addr().unwrap());
    let url = Proxy::start().url(&fresh_database()).replace("127.0.0.1:", &silent);
    let pool = pool(&url, 2);

    let works = async { while work(&pool).await.is_err() {} };
    timeout(Duration::from_secs(8), works).await.unwrap();
}

/// A replica once tried to connect 4,171 times in 45 seconds.
#[tokio::test]
async fn however_much_work_waits_each_connection_is_tried_once_a_second() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://payments@{}/payments?sslmode=disable", listener.local_addr().unwrap());
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let counts = Arc::clone(&made);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            counts.fetch_add(1, Ordering::Relaxed);
            // Reads the client's first message, and closes the connection instead of answering.
            let _ = client.unwrap().read(&mut [0; 1024]);
        }
    });
    let pool = pool(&url, 8);
    let began = Instant::now();
    let mut works = 0;
    while began.elapsed() < Duration::from_secs(6) {
        let failed = futures_util::future::join_all((0..24).map(|_| work(&pool))).await;
        assert!(failed.iter().all(Result::is_err));
        works += 24;
    }

    let made = made.load(Ordering::Relaxed);

    assert!(works > 40, "only {works} pieces of work");
    // Eight connections, three more for work that was given up, and that of the readiness check: at once, twice within the
    // first two seconds, then once a second.
    assert!((10..=12 * (1 + 2 + 6)).contains(&made), "{made} connections for {works} pieces of work");
    eventually("the cause is known", || pool.outages().on() == [Cause::Unreachable]).await;

    // Nobody waits any more: only the readiness check tries.
    let before = counted.load(Ordering::Relaxed);
    sleep(Duration::from_secs(4)).await;
    let later = counted.load(Ordering::Relaxed) - before;
    assert!(later <= 10, "{later} connections that nobody waits for");
}
