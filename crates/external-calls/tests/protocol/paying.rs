// SPDX-License-Identifier: MIT OR Apache-2.0
//! Payments that go well, and payments whose answer or COMMIT is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::fines::{ACCOUNT, ANOTHER_ACCOUNT};
use crate::hook::At;
use crate::office::{Office, json_of};
use crate::provider::Does;
use external_calls::{Counts, Step};
use idempotency_testing::Proxy;

#[tokio::test]
async fn a_payment_is_made_once_and_replayed() {
    let office = Office::open();
    let fine = office.fine("AB-1");

    let paid = office.pay("k", fine).await;

    assert_eq!((paid.status, paid.is_replay()), (201, false));
    assert_eq!(json_of(&paid), json!({"fine": fine, "outcome": "Paid"}));
    let expires = paid.header("Idempotency-Expires").map(str::to_owned);
    assert!(expires.is_some());
    office.assert_paid_once("k", fine).await;
    let replay = office.pay("k", fine).await;
    assert_eq!(replay.reply(), paid.reply());
    assert_eq!(replay.header("Idempotency-Expires").map(str::to_owned), expires);
    assert_eq!(office.provider.sendings().len(), 1);
    assert_eq!(office.provider.sendings()[0].body, json!({"fine": fine, "plate": "AB-1", "cents": 2000}));
}

#[tokio::test]
async fn a_lost_reply_is_a_202_that_a_pass_resolves() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    office.provider.script("AB-1", [Does::PayAndLose]);

    let unknown = office.pay("k", fine).await;

    assert_eq!((unknown.status, unknown.is_replay()), (202, false));
    assert_eq!(json_of(&unknown), json!({"fine": fine, "status": "paying", "note": ""}));
    assert!(unknown.header("Retry-After").is_some() && unknown.header("Idempotency-Expires").is_none());
    assert_eq!(office.run_once().await.taken, 0, "the external call is not due yet");
    office.let_leases_end();
    let done = office.another_process().run_once().await;
    assert_eq!((done.taken, done.resolved), (1, 1));
    office.assert_paid_once("k", fine).await;
    let sendings = office.provider.sendings();
    assert_eq!((sendings.len(), &sendings[0]), (2, &sendings[1]), "both sendings are the same");
    assert_eq!(office.run_once().await.taken, 0);
}

#[tokio::test]
async fn a_5xx_is_repeated_at_once_and_its_payment_is_made() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    office.provider.script("AB-1", [Does::Answer(500), Does::Answer(503)]);

    assert_eq!(office.pay("k", fine).await.status, 201);

    office.assert_paid_once("k", fine).await;
    assert_eq!(office.provider.sendings().len(), 3);
}

#[tokio::test]
async fn after_a_lost_answer_to_the_first_commit_the_call_is_sent_once() {
    let (office, proxy) = behind_a_proxy();
    let fine = office.fine("AB-1");
    office.hook.once(At::Step(Step::Claimed), move || proxy.lose_answer_of_next_commit());

    let paid = office.pay("k", fine).await;

    assert_eq!((paid.status, paid.is_replay()), (201, false));
    office.assert_paid_once("k", fine).await;
    assert_eq!(office.provider.sendings().len(), 1);
}

#[tokio::test]
async fn after_a_lost_answer_to_the_second_commit_the_outcome_is_found() {
    let (office, proxy) = behind_a_proxy();
    let fine = office.fine("AB-1");
    office.hook.once(At::Step(Step::Applied), move || proxy.lose_answer_of_next_commit());

    let paid = office.pay("k", fine).await;

    assert_eq!((paid.status, paid.is_replay()), (201, false));
    assert!(paid.header("Idempotency-Expires").is_some());
    office.assert_paid_once("k", fine).await;
    assert_eq!(office.provider.sendings().len(), 1);
    assert_eq!(office.count("external_calls WHERE attempts = 1"), 1);
    let Counts { resolved, unknown, .. } = office.resolver.counts();
    assert_eq!(
        (resolved.load(Ordering::Relaxed), unknown.load(Ordering::Relaxed)),
        (1, 0),
        "the external call counts as resolved"
    );
}

/// A trigger that kills the backend of the first transaction with a receipt, during its COMMIT and before the commit takes
/// effect. A rollback does not reset the sequence, so the second transaction commits.
const KILL_FIRST_COMMIT: &str = "CREATE SEQUENCE commits; \
    CREATE FUNCTION kill_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      IF nextval('commits') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER kill_first AFTER INSERT ON receipts DEFERRABLE INITIALLY DEFERRED \
      FOR EACH ROW EXECUTE FUNCTION kill_first()";

#[tokio::test]
async fn a_connection_killed_at_the_second_commit_records_the_outcome_again_and_sends_nothing_again() {
    let office = Office::open();
    office.execute(KILL_FIRST_COMMIT);
    let fine = office.fine("AB-1");

    let paid = office.pay("k", fine).await;

    assert_eq!((paid.status, paid.is_replay()), (201, false));
    office.assert_paid_once("k", fine).await;
    assert_eq!((office.provider.sendings().len(), office.count("external_calls WHERE attempts = 1")), (1, 1));
}

/// An office that reaches its database through a proxy that can fail.
fn behind_a_proxy() -> (Office, Arc<Proxy>) {
    let (direct, proxy) = (Office::open(), Arc::new(Proxy::start()));
    let office = Office::open_on(proxy.url(&direct.url), direct.provider.clone());
    (office, proxy)
}

#[tokio::test]
async fn one_key_of_two_accounts_is_two_payments() {
    let office = Office::open();
    let (one, other) = (office.fine_of(ACCOUNT, "AB-1"), office.fine_of(ANOTHER_ACCOUNT, "AB-1"));

    assert_eq!(office.pay_as(ACCOUNT, "k", one).await.status, 201);
    assert_eq!(office.pay_as(ANOTHER_ACCOUNT, "k", other).await.status, 201);

    let books = office.provider.books();
    assert_eq!(books.len(), 2);
    assert_ne!(books[0], books[1]);
    assert_eq!((office.status(one), office.status(other)), ("paid".to_owned(), "paid".to_owned()));
}

#[tokio::test]
async fn resolving_one_accounts_key_leaves_anothers_record_alone() {
    let office = Office::open();
    let (one, other) = (office.fine_of(ACCOUNT, "AB-1"), office.fine_of(ANOTHER_ACCOUNT, "AB-2"));
    for (account, plate, fine) in [(ACCOUNT, "AB-1", one), (ANOTHER_ACCOUNT, "AB-2", other)] {
        office.provider.script(plate, [Does::Answer(429)]);
        assert_eq!(office.pay_as(account, "k", fine).await.status, 202);
    }
    office.execute(&format!("UPDATE external_calls SET next_attempt_at = now() WHERE account_id = '{ACCOUNT}'"));

    assert_eq!(office.run_once().await.resolved, 1);

    assert_eq!(office.pay_as(ACCOUNT, "k", one).await.status, 201);
    assert_eq!(office.pay_as(ANOTHER_ACCOUNT, "k", other).await.status, 202);
    assert_eq!(office.count(&format!("idempotency_keys WHERE status = 202 AND account_id = '{ANOTHER_ACCOUNT}'")), 1);
    assert_eq!((office.count("receipts"), office.status(other).as_str()), (1, "paying"));
}

#[tokio::test]
async fn the_time_to_live_counts_from_the_external_call() {
    let office = Office::open();
    office.unknown_payment("k", Does::PayAndLose).await;
    office.execute("UPDATE idempotency_keys SET created_at = created_at - interval '50 minutes'");
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 1);

    let whole_hour = "expires_at BETWEEN now() + interval '55 minutes' AND now() + interval '1 hour'";
    assert_eq!(office.count(&format!("idempotency_keys WHERE status = 201 AND {whole_hour}")), 1);
}

/// Recording an outcome needs its provisional record. The record is deleted, or is final already.
#[tokio::test]
async fn an_outcome_without_its_provisional_record_is_not_recorded_and_ends_up_parked() {
    let losses = [
        "DELETE FROM idempotency_keys",
        "UPDATE idempotency_keys SET status = 201, expires_at = now() + interval '1 day'",
    ];
    for loss in losses {
        let office = Office::open();
        let fine = office.unknown_payment("k", Does::PayAndLose).await;
        office.execute(loss);
        office.execute("UPDATE external_calls SET attempts = 3");
        for (attempts, parked) in [(4, 0), (5, 1)] {
            office.let_leases_end();
            let done = office.run_once().await;
            assert_eq!((done.taken, done.resolved), (1, 0), "{loss}");
            assert_eq!((office.count("receipts"), office.status(fine).as_str()), (0, "paying"), "{loss}");
            let open = "resolved_at IS NULL AND next_attempt_at > now() + interval '1 second'";
            assert_eq!(office.count(&format!("external_calls WHERE {open} AND attempts = {attempts}")), 1, "{loss}");
            assert_eq!(office.count("external_calls WHERE parked_at IS NOT NULL"), parked, "{loss}");
        }
    }
}
