// SPDX-License-Identifier: MIT OR Apache-2.0
//! An external call whose outcome stays unknown is parked. A person sees the parked external call and resumes it.

use std::sync::atomic::Ordering;

use crate::fines::{ACCOUNT, NEVER_FINAL, PAY, QUICK, UNRECORDABLE};
use crate::office::Office;
use crate::provider::Does;
use crate::support::{connect, eventually};
use external_calls::{backlog, backlog_by_account, open_calls, progress};
use idempotency::{Address, Key};

/// Sets the number of attempts of the open external calls, and makes them due.
fn let_attempts_pass(office: &Office, attempts: i32) {
    office.execute(&format!("UPDATE external_calls SET attempts = {attempts} WHERE resolved_at IS NULL"));
    office.let_leases_end();
}

fn parked_calls(office: &Office) -> i64 {
    backlog(&mut connect(&office.url)).unwrap().parked
}

#[tokio::test]
async fn an_external_call_that_stays_unknown_is_parked_until_somebody_resumes_it() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::Answer(429)).await;
    office.provider.script("k", [Does::Answer(429)]);
    let_attempts_pass(&office, QUICK.max_attempts - 1);
    assert_eq!(parked_calls(&office), 0);

    assert_eq!(office.run_once().await.taken, 1);

    assert_eq!(office.resolver.counts().parked.load(Ordering::Relaxed), 1);
    let in_sight = open_calls(&mut connect(&office.url), None, true, 10).unwrap();
    assert_eq!(in_sight.len(), 1);
    assert_eq!((in_sight[0].account_id, in_sight[0].key.as_str()), (ACCOUNT, "k"));
    assert_eq!((in_sight[0].location.clone(), in_sight[0].attempts), (format!("/fines/{fine}"), QUICK.max_attempts));
    assert_eq!(parked_calls(&office), 1);
    let reference = in_sight[0].reference.clone();
    assert!(progress(&mut connect(&office.url), ACCOUNT, &[&reference]).unwrap()[&reference].parked);
    // A parked external call waits for a person, even after few attempts.
    let_attempts_pass(&office, 1);
    assert_eq!(
        (office.run_once().await.taken, office.provider.sendings().len()),
        (0, 2),
        "the resolver took a parked external call"
    );
    assert_eq!((office.pay("k", fine).await.status, office.pay("another", fine).await.status), (202, 409));

    let resumed = office.resolver.run_once(true).await.unwrap();

    assert_eq!((resumed.taken, resumed.resolved), (1, 1));
    assert_eq!(parked_calls(&office), 0);
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn the_resolver_in_the_background_leaves_what_is_parked() {
    let office = Office::open();
    let parked = office.unknown_payment("parked", Does::Answer(429)).await;
    let_attempts_pass(&office, QUICK.max_attempts);
    office.run_once().await;
    assert_eq!(parked_calls(&office), 1);
    let background = tokio::spawn(office.resolver.clone().run_in_background());

    // Two background looks that found something.
    for key in ["one", "two"] {
        office.unknown_payment(key, Does::Answer(429)).await;
        office.let_leases_end();
        eventually("the due call is resolved", || {
            office.count(&format!("external_calls WHERE key = '{key}' AND resolved_at IS NOT NULL")) == 1
        })
        .await;
    }

    background.abort();
    let untouched = format!("key = 'parked' AND parked_at IS NOT NULL AND attempts = {}", QUICK.max_attempts);
    assert_eq!(office.count(&format!("external_calls WHERE {untouched}")), 1);
    assert_eq!(office.count(&format!("receipts WHERE fine_id = {parked}")), 0);
}

/// For example, each attempt crashes its process, so that nobody gives the lease back.
#[tokio::test]
async fn an_external_call_whose_attempts_never_end_is_parked() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::Answer(429)).await;
    let_attempts_pass(&office, QUICK.max_attempts);

    assert_eq!(office.run_once().await.taken, 0);

    assert_eq!((parked_calls(&office), office.provider.sendings().len()), (1, 1));
    assert_eq!(office.resolver.counts().parked.load(Ordering::Relaxed), 1);
    assert_eq!(office.resolver.run_once(true).await.unwrap().resolved, 1);
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn a_lease_that_cannot_be_taken_is_counted_and_is_no_attempt() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(429)).await;
    office.execute("ALTER TABLE external_calls ADD CONSTRAINT once CHECK (attempts < 2)");
    office.let_leases_end();
    let unknown = || office.resolver.counts().unknown.load(Ordering::Relaxed);
    let before = unknown();

    let done = office.run_once().await;

    assert_eq!((done.taken, done.resolved, done.not_taken, unknown()), (0, 0, 1, before + 1));
    assert_eq!(office.count("external_calls WHERE attempts = 1"), 1);
}

/// The count sends an operator to the external system.
#[tokio::test]
async fn an_attempt_that_a_database_outage_ends_is_not_counted_as_unknown() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(429)).await;
    office.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$; \
         CREATE TRIGGER fail BEFORE UPDATE ON external_calls FOR EACH ROW WHEN (new.attempts > 1) EXECUTE FUNCTION fail()",
    );
    office.let_leases_end();
    let unknown = || office.resolver.counts().unknown.load(Ordering::Relaxed);
    let before = unknown();

    let done = office.run_once().await;

    assert_eq!((done.taken, done.resolved, unknown()), (0, 0, before));
    office.execute("DROP TRIGGER fail ON external_calls");
    office.provider.script("k", [Does::Answer(429)]);
    assert_eq!((office.run_once().await.taken, unknown()), (1, before + 1));
}

#[tokio::test]
async fn an_outcome_that_the_service_cannot_record_is_counted_as_unknown_and_ends_up_parked() {
    for plate in [UNRECORDABLE, NEVER_FINAL] {
        let office = Office::open();
        let fine = office.fine(plate);

        assert_eq!(office.pay("k", fine).await.status, 202);

        assert_eq!(office.resolver.counts().unknown.load(Ordering::Relaxed), 1, "{plate}");
        assert_eq!((office.count("receipts"), office.status(fine).as_str()), (0, "paying"), "{plate}");
        for _ in 1..QUICK.max_attempts {
            office.let_leases_end();
            office.run_once().await;
        }
        assert_eq!(parked_calls(&office), 1, "{plate}");
    }
}

#[tokio::test]
async fn a_resumed_external_call_that_stays_unknown_is_parked_again() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(429)).await;
    office.provider.script("k", [Does::Answer(429)]);
    let_attempts_pass(&office, QUICK.max_attempts);
    office.run_once().await;

    let resumed = office.resolver.run_once(true).await.unwrap();

    assert_eq!((resumed.taken, resumed.resolved), (1, 0));
    let again = format!("parked_at IS NOT NULL AND attempts = {}", QUICK.max_attempts + 1);
    assert_eq!(office.count(&format!("external_calls WHERE {again}")), 1);
}

#[tokio::test]
async fn a_run_that_resumes_takes_all_that_is_parked() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(429)).await;
    // More than one background look takes. The copies have no record, so their outcomes can't be recorded.
    office.execute(&format!(
        "INSERT INTO external_calls (account_id, reference, scope, key, request_id, call, location, next_attempt_at) \
         SELECT account_id, 'copy-' || n, scope, 'copy-' || n, request_id, call, location, now() \
         FROM external_calls, generate_series(1, 250) AS n WHERE account_id = '{ACCOUNT}'"
    ));
    office.execute("UPDATE external_calls SET parked_at = now()");

    let resumed = office.resolver.run_once(true).await.unwrap();

    assert_eq!((resumed.taken, resumed.resolved, resumed.not_taken), (251, 1, 0));
    assert_eq!(office.count("external_calls WHERE parked_at IS NOT NULL"), 0);
}

/// For example, another release wrote the call in another form.
#[tokio::test]
async fn a_call_that_this_release_cant_read_is_not_sent_and_ends_up_parked() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::Answer(429)).await;
    office.execute(r#"UPDATE external_calls SET call = '{"unheard": "of"}'"#);
    let_attempts_pass(&office, QUICK.max_attempts - 1);

    assert_eq!((office.run_once().await.resolved, office.provider.sendings().len()), (0, 1));

    assert_eq!(parked_calls(&office), 1);
    assert_eq!(office.pay("k", fine).await.status, 202, "the retry gets the stored 202");
}

#[tokio::test]
async fn the_table_refuses_an_external_call_that_is_neither_open_nor_resolved() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(429)).await;
    for (change, constraint) in [
        ("resolved_at = now()", "external_calls_open_is_leased"),
        ("next_attempt_at = NULL", "external_calls_open_is_leased"),
        ("resolved_at = now(), next_attempt_at = NULL, parked_at = now()", "external_calls_only_open_is_parked"),
        ("attempts = 0", "external_calls_attempts_check"),
    ] {
        let update = diesel::sql_query(format!("UPDATE external_calls SET {change}"));
        let refused = diesel::RunQueryDsl::execute(update, &mut connect(&office.url)).unwrap_err();
        assert!(refused.to_string().contains(constraint), "{change}: {refused}");
    }
}

#[tokio::test]
async fn the_backlog_has_a_size_an_age_and_its_accounts() {
    let office = Office::open();
    let conn = &mut connect(&office.url);
    let empty = backlog(conn).unwrap();
    assert_eq!((empty.open, empty.oldest, empty.parked), (0, None, 0));
    let paid = office.fine("paid");
    office.pay("paid", paid).await;
    for (key, minutes) in [("old", 3), ("older", 7), ("oldest", 9)] {
        office.unknown_payment(key, Does::Answer(429)).await;
        let age =
            format!("UPDATE external_calls SET created_at = now() - interval '{minutes} min' WHERE key = '{key}'");
        office.execute(&age);
    }
    office.execute("UPDATE external_calls SET parked_at = now() WHERE key = 'oldest'");

    let now = backlog(conn).unwrap();

    // Parked calls are counted apart, and would make the age useless.
    assert_eq!((now.open, now.parked), (2, 1));
    assert_eq!(now.oldest.unwrap().as_secs() / 60, 7);
    let accounts = backlog_by_account(conn, None, 10).unwrap();
    assert_eq!(accounts.iter().map(|of| (of.account_id, of.open, of.parked)).collect::<Vec<_>>(), [(ACCOUNT, 2, 1)]);
    let keys = |conn: &mut _, account, only_parked, rows| {
        let calls = open_calls(conn, account, only_parked, rows).unwrap();
        calls.into_iter().map(|call| call.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(conn, None, false, 2), ["oldest", "older"]);
    assert_eq!(keys(conn, Some(ACCOUNT), true, 9), ["oldest"]);
    assert_eq!(keys(conn, Some(uuid::Uuid::nil()), false, 9), [""; 0]);
}

/// Each process resolves its own part.
#[tokio::test]
async fn the_resolver_in_the_background_leaves_what_is_not_its_own() {
    let office = Office::open();
    office.unknown_payment("others", Does::Answer(429)).await;
    office.unknown_payment("mine", Does::Answer(429)).await;
    let others = Address::new(ACCOUNT, &PAY, &[], &Key::parse(b"others").unwrap()).unwrap().reference();
    let background = tokio::spawn(office.resolver.clone().run_in_background_for(move |asked| asked != others));
    office.let_leases_end();

    eventually("its own call is resolved", || {
        office.count("external_calls WHERE key = 'mine' AND resolved_at IS NOT NULL") == 1
    })
    .await;

    background.abort();
    assert_eq!(office.count("external_calls WHERE key = 'others' AND resolved_at IS NULL AND attempts = 1"), 1);
}
