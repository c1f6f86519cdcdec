// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sweeper deletes expired records and nothing else, even beside requests and other sweepers.

use diesel::connection::{Connection, InstrumentationEvent, SimpleConnection};

use crate::support::{at_once, connect, count, execute};
use crate::toy::{MAKE, Workshop, make};
use idempotency::{SWEEP_BATCH, Swept, sweep, sweep_lag};

/// Adds `number` records of three accounts. Each has a reply of this status and expires at `expires_at`.
fn add_records(workshop: &Workshop, prefix: &str, number: u32, status: u16, expires_at: &str) {
    let insert = format!(
        "INSERT INTO idempotency_keys \
           (account_id, scope, key, id, route, request_id, fingerprint_version, fingerprint, status, body, expires_at) \
         SELECT lpad(to_hex(n % 3 + 1), 32, '0')::uuid, 'account', '{prefix} ' || n, gen_random_uuid(), 'POST /toys', gen_random_uuid(), 1, \
           decode(repeat('00', 32), 'hex'), {status}, '', {expires_at} FROM generate_series(1, {number}) AS n"
    );
    execute(&workshop.url, &insert);
}

fn records(workshop: &Workshop, prefix: &str) -> i64 {
    count(&workshop.url, &format!("idempotency_keys WHERE key LIKE '{prefix} %'"))
}

/// Sweeps on a new connection until no expired record is left.
fn sweep_all(url: &str) -> usize {
    let mut conn = connect(url);
    let mut deleted = 0;
    loop {
        let swept = sweep(&mut conn).unwrap();
        deleted += swept.deleted;
        if !swept.more {
            return deleted;
        }
    }
}

#[tokio::test]
async fn a_sweep_deletes_expired_records_of_all_accounts_and_nothing_else() {
    let workshop = Workshop::open();
    add_records(&workshop, "expired", 30, 201, "now()");
    add_records(&workshop, "live", 30, 201, "now() + interval '1 minute'");
    add_records(&workshop, "provisional", 30, 202, "NULL");

    let Swept { deleted, more } = sweep(&mut connect(&workshop.url)).unwrap();

    assert_eq!((deleted, more), (30, false));
    let left = ["expired", "live", "provisional"].map(|prefix| records(&workshop, prefix));
    assert_eq!(left, [0, 30, 30]);
}

#[tokio::test]
async fn the_lag_is_the_time_since_the_oldest_record_expired() {
    let workshop = Workshop::open();
    add_records(&workshop, "live", 2, 201, "now() + interval '1 minute'");
    add_records(&workshop, "provisional", 2, 202, "NULL");
    assert_eq!(sweep_lag(&mut connect(&workshop.url)).unwrap().as_secs(), 0);
    add_records(&workshop, "expired", 9, 201, "now() - n * interval '1 hour'");

    assert_eq!(sweep_lag(&mut connect(&workshop.url)).unwrap().as_secs() / 3600, 9);

    sweep_all(&workshop.url);
    assert_eq!(sweep_lag(&mut connect(&workshop.url)).unwrap().as_secs(), 0);
}

#[tokio::test]
async fn a_sweep_is_bounded_and_says_whether_there_is_more() {
    let workshop = Workshop::open();
    add_records(&workshop, "expired", u32::from(SWEEP_BATCH) + 1, 201, "now()");
    let mut conn = connect(&workshop.url);

    let first = sweep(&mut conn).unwrap();
    let second = sweep(&mut conn).unwrap();

    assert_eq!((first.deleted, first.more), (usize::from(SWEEP_BATCH), true));
    assert_eq!((second.deleted, second.more), (1, false));
}

/// Each account's records are deleted by a statement. The pool would give up a sweep of thousands of accounts.
#[tokio::test]
async fn a_sweep_over_slow_accounts_ends_early_and_says_that_there_is_more() {
    let workshop = Workshop::open();
    add_records(&workshop, "expired", 3, 201, "now()");
    execute(
        &workshop.url,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.2); RETURN NULL; END'; \
         CREATE TRIGGER slow AFTER DELETE ON idempotency_keys FOR EACH STATEMENT EXECUTE FUNCTION slow()",
    );
    let mut conn = connect(&workshop.url);

    let (first, second) = (sweep(&mut conn).unwrap(), sweep(&mut conn).unwrap());

    assert_eq!([(first.deleted, first.more), (second.deleted, second.more)], [(2, true), (1, false)]);
}

#[tokio::test]
async fn a_sweep_skips_records_that_another_transaction_has_locked() {
    let workshop = Workshop::open();
    add_records(&workshop, "expired", 10, 201, "now()");
    let mut other = connect(&workshop.url);
    other.batch_execute("BEGIN; SELECT FROM idempotency_keys WHERE key = 'expired 7' FOR UPDATE").unwrap();

    // A sweep that waited for the lock would fail here, and not wait for ever.
    let mut sweeper = connect(&workshop.url);
    sweeper.batch_execute("SET lock_timeout = '2s'").unwrap();
    assert_eq!(sweep(&mut sweeper).unwrap().deleted, 9);
    other.batch_execute("ROLLBACK").unwrap();

    assert_eq!(sweep(&mut connect(&workshop.url)).unwrap().deleted, 1);
}

/// Must fail if the deleting statement does not check the expiry again.
#[tokio::test]
async fn a_live_record_in_the_place_of_an_expired_record_is_not_swept() {
    let workshop = Workshop::open();
    add_records(&workshop, "old", 1, 201, "now()");
    let at_first_place = "idempotency_keys WHERE ctid = '(0,1)'";
    assert_eq!(count(&workshop.url, at_first_place), 1);
    let mut conn = connect(&workshop.url);
    let meanwhile = workshop.clone();
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        // Another sweeper and a request run between the search for candidates and the deletion.
        if let InstrumentationEvent::StartQuery { query, .. } = event
            && query.to_string().contains("DELETE")
        {
            execute(&meanwhile.url, "DELETE FROM idempotency_keys");
            execute(&meanwhile.url, "VACUUM idempotency_keys");
            add_records(&meanwhile, "new", 1, 201, "now() + interval '1 minute'");
        }
    });

    assert_eq!(sweep(&mut conn).unwrap().deleted, 0);

    assert_eq!((records(&workshop, "new"), count(&workshop.url, at_first_place)), (1, 1));
}

#[tokio::test]
async fn many_sweepers_beside_takeovers_and_traffic_delete_only_expired_records() {
    const CONTESTED: usize = 60;
    let workshop = Workshop::open();
    // These records expire first, so sweepers and takeovers contend for them.
    add_records(&workshop, "contested", 3 * 60, 201, "now() - interval '1 hour'");
    add_records(&workshop, "expired", 8_000, 201, "now()");
    add_records(&workshop, "live", 100, 201, "now() + interval '1 minute'");
    add_records(&workshop, "provisional", 100, 202, "NULL");
    let url = workshop.url.clone();
    let sweepers = at_once(3, move |_| {
        let url = url.clone();
        async move { tokio::task::spawn_blocking(move || sweep_all(&url)).await.unwrap() }
    });
    let (takers, traders) = (workshop.clone(), workshop.another_process());
    let takeovers = at_once(CONTESTED, move |number| {
        // The contested records of the first account have the numbers 3, 6, 9 and so on.
        takers.send(MAKE, &format!("contested {}", 3 * (number + 1)), "ball", make)
    });
    let traffic = at_once(CONTESTED, move |number| traders.send(MAKE, &format!("traffic {number}"), "ball", make));

    let (_, takeovers, traffic) = tokio::join!(sweepers, takeovers, traffic);

    let answers: Vec<_> = takeovers.into_iter().chain(traffic).map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| !answer.is_replay()));
    // A sweeper skips a record that a takeover or another sweeper has locked. A last sweep deletes skipped records that are still
    // expired.
    sweep_all(&workshop.url);
    let left = ["contested", "expired", "traffic", "live", "provisional"].map(|prefix| records(&workshop, prefix));
    assert_eq!(left, [60, 0, 60, 100, 100]);
    assert_eq!(workshop.toys(), 120);
}
