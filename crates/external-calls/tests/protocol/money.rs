// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules for outcomes decide about money: when a refusal means that no money moved, and when the resolver must look at the
//! provider's books before it sends a call again.

use crate::hook::At;
use crate::office::{Office, json_of};
use crate::provider::Does;
use external_calls::Step;

/// No outcome is recorded, and the fine is still `paying`.
fn assert_undecided(office: &Office, fine: i64) {
    assert_eq!((office.count("receipts"), office.status(fine).as_str()), (0, "paying"));
    assert_eq!(office.count("external_calls WHERE resolved_at IS NULL"), 1);
}

#[tokio::test]
async fn a_refusal_after_a_sending_that_still_hangs_is_no_failure_and_the_payment_is_found() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::HoldThenPay).await;
    office.provider.script("k", [Does::Answer(400)]);
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 0, "the call was refused, and the books are empty");

    assert_undecided(&office, fine);
    assert_eq!(office.pay("k", fine).await.status, 202);
    assert_eq!(office.pay("another", fine).await.status, 409);
    // Now the first sending pays.
    office.provider.release();
    office.provider.until_paid(1).await;
    office.provider.script("k", [Does::Answer(400)]);
    office.let_leases_end();
    assert_eq!(office.run_once().await.resolved, 1, "the call was refused, and the books have the payment");
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn a_refusal_of_the_very_first_sending_is_a_failure_at_once() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    office.provider.script("AB-1", [Does::Answer(400)]);

    let refused = office.pay("k", fine).await;

    assert_eq!((refused.status, &json_of(&refused)["outcome"]), (402, &"Refused".into()));
    assert_eq!((office.provider.sendings().len(), office.provider.looks()), (1, 1));
    assert_eq!(office.pay("k", fine).await.reply(), refused.reply());
    let ten_minutes = "expires_at BETWEEN now() + interval '9 minutes' AND now() + interval '10 minutes'";
    assert_eq!(
        office.count(&format!("idempotency_keys WHERE status = 402 AND {ten_minutes}")),
        1,
        "a failure's lifetime"
    );
    assert_eq!((office.count("receipts"), office.status(fine).as_str()), (1, "unpaid"));
    assert_eq!(office.pay("another", fine).await.status, 201);
}

#[tokio::test]
async fn a_refusal_counts_once_the_last_sending_without_an_answer_is_long_past() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::HoldThenAnswer(500)).await;
    office.provider.script("k", [Does::Answer(400), Does::Answer(400), Does::Answer(400)]);
    for wait in ["40 seconds", "30 seconds"] {
        office.age(wait);
        office.let_leases_end();
        assert_eq!(office.run_once().await.resolved, 0, "less than 75 s after the unanswered sending");
        assert_undecided(&office, fine);
    }
    office.age("10 seconds");
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 1);

    assert_eq!(office.pay("k", fine).await.status, 402);
    assert_eq!((office.status(fine).as_str(), office.provider.books().len()), ("unpaid", 0));
}

#[tokio::test]
async fn a_holder_that_vanished_counts_as_a_sending_without_an_answer() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    office.hook.once(At::Step(Step::Sending), || panic!("a crash"));
    assert_eq!(office.pay("k", fine).await.status, 202);
    office.provider.script("AB-1", [Does::Answer(400), Does::Answer(400), Does::Answer(400)]);
    office.let_leases_end();
    assert_eq!(office.run_once().await.resolved, 0, "the vanished holder's call may still arrive");
    // Ten minutes later another holder vanishes, with a new lease.
    let another = office.another_process();
    another.hook.once(At::Step(Step::Sending), || panic!("a crash"));
    office.age("10 minutes");
    office.let_leases_end();
    assert_eq!(another.run_once().await.resolved, 0);
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 0, "the second holder's call may still arrive");

    assert_undecided(&office, fine);
    office.age("76 seconds");
    office.let_leases_end();
    assert_eq!(office.run_once().await.resolved, 1);
    assert_eq!(office.pay("k", fine).await.status, 402);
}

#[tokio::test]
async fn a_refusal_after_a_5xx_is_no_failure_yet() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    office.provider.script("AB-1", [Does::Answer(502), Does::Answer(400)]);

    assert_eq!(office.pay("k", fine).await.status, 202);

    assert_undecided(&office, fine);
    office.let_leases_end();
    assert_eq!(office.run_once().await.resolved, 1);
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn past_the_lifetime_of_its_key_a_call_is_looked_up_and_not_sent_again() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::PayAndLose).await;
    office.provider.forget_keys();
    office.age("23 hours 1 minute");
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 1);

    assert_eq!((office.provider.sendings().len(), office.provider.looks()), (1, 1));
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn past_the_lifetime_of_its_key_a_call_that_the_books_dont_have_is_sent() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::Answer(429)).await;
    office.provider.forget_keys();
    office.age("23 hours 1 minute");
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 1);

    assert_eq!((office.provider.sendings().len(), office.provider.looks()), (2, 1));
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn past_the_lifetime_of_its_key_no_call_is_sent_while_an_earlier_sending_may_still_arrive() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::HoldThenPay).await;
    office.provider.forget_keys();
    office.execute("UPDATE external_calls SET created_at = created_at - interval '24 hours'");
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 0, "the first sending may still arrive");

    assert_eq!((office.provider.sendings().len(), office.provider.looks()), (1, 1));
    office.provider.release();
    office.provider.until_paid(1).await;
    office.let_leases_end();
    assert_eq!(office.run_once().await.resolved, 1);
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn within_the_lifetime_of_its_key_a_call_is_sent_again_without_a_look() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::PayAndLose).await;
    office.age("22 hours 59 minutes");
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 1);

    assert_eq!((office.provider.sendings().len(), office.provider.looks()), (2, 0));
    office.assert_paid_once("k", fine).await;
}

/// The outcome is known. So only its transaction runs again, and nothing is sent again.
#[tokio::test]
async fn a_serialization_failure_runs_the_second_transaction_again() {
    let office = Office::open();
    let fine = office.fine("k");
    office.execute(
        "CREATE SEQUENCE tries; \
         CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF nextval('tries') = 1 THEN RAISE 'could not serialize' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER refuse_once BEFORE UPDATE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION refuse_once()",
    );

    assert_eq!(office.pay("k", fine).await.status, 201);

    assert_eq!(office.provider.sendings().len(), 1);
    assert_eq!(office.count("external_calls WHERE attempts = 1 AND resolved_at IS NOT NULL"), 1);
    assert_eq!(office.count("receipts"), 1);
}
