// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers that are no outcome: an object that is still pending, a stored error, a reference that was used for another call. And
//! hints, which only make the resolver look.

use crate::fines::ACCOUNT;
use crate::hook::At;
use crate::office::Office;
use crate::provider::Does;
use crate::support::eventually;
use external_calls::{Hinted, Step};

fn reference(office: &Office) -> String {
    office.provider.sendings()[0].reference.clone()
}

#[tokio::test]
async fn a_pending_object_is_looked_up_for_as_long_as_it_takes_and_never_sent_again() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::Answer(202)).await;
    for _ in 0..7 {
        office.let_leases_end();
        assert_eq!(office.run_once().await.resolved, 0);
    }

    // The cap is five attempts.
    let open = "attempts = 8 AND looks = 8 AND parked_at IS NULL AND outside_id IS NOT NULL";
    assert_eq!(office.count(&format!("external_calls WHERE {open}")), 1);
    assert_eq!(office.provider.sendings().len(), 1);
    office.provider.carry_out(&reference(&office));
    office.let_leases_end();
    assert_eq!(office.run_once().await.resolved, 1);
    office.assert_paid_once("k", fine).await;
    assert_eq!(office.provider.sendings().len(), 1);
}

#[tokio::test]
async fn a_call_whose_object_is_gone_is_parked_and_never_sent_again() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(202)).await;
    office.provider.lose_objects();
    for _ in 0..6 {
        office.let_leases_end();
        assert_eq!(office.run_once().await.resolved, 0);
    }

    // The cap is five attempts. The first did not count: it named the object.
    assert_eq!(office.count("external_calls WHERE parked_at IS NOT NULL AND attempts - looks = 5"), 1);
    assert_eq!(office.provider.sendings().len(), 1);
}

#[tokio::test]
async fn a_pending_object_is_not_sent_again_when_its_key_is_forgotten() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(202)).await;
    office.age("30 hours");
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 0);

    assert_eq!((office.provider.sendings().len(), office.count("external_calls WHERE looks = 2")), (1, 1));
}

#[tokio::test]
async fn a_stored_error_is_only_looked_up_while_the_key_lives_and_then_sent_once_more() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::Answer(501)).await;
    for _ in 0..7 {
        office.let_leases_end();
        assert_eq!(office.run_once().await.resolved, 0);
    }
    assert_eq!((office.provider.sendings().len(), office.provider.looks()), (1, 8));
    assert_eq!(office.count("external_calls WHERE attempts = 8 AND looks = 8 AND parked_at IS NULL"), 1);
    office.age("24 hours");
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 1);

    assert_eq!((office.provider.sendings().len(), office.provider.looks()), (2, 9));
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn a_stored_error_that_comes_again_after_the_key_was_forgotten_ends_up_parked() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(501)).await;
    office.age("24 hours");
    office.provider.script("k", [Does::Answer(501); 5]);
    for counted in 1..=5 {
        assert_eq!(office.count("external_calls WHERE parked_at IS NULL"), 1, "{counted}");
        // No sending is in flight: each was answered long ago.
        office.execute("UPDATE external_calls SET unanswered_at = now() - interval '2 minutes'");
        office.let_leases_end();
        assert_eq!(office.run_once().await.taken, 1);
    }
    assert_eq!(office.count("external_calls WHERE parked_at IS NOT NULL AND attempts - looks = 5"), 1);
}

#[tokio::test]
async fn a_reference_that_was_used_for_another_call_is_parked_at_once() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(410)).await;

    assert_eq!(office.count("external_calls WHERE parked_at IS NOT NULL AND attempts = 1"), 1);
    office.let_leases_end();
    assert_eq!(office.run_once().await.taken, 0);
}

#[tokio::test]
async fn a_hint_makes_a_call_due_that_waits_out_a_pause() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::PayAndLose).await;
    eventually("the lease is given back", || office.count("external_calls WHERE NOT leased") == 1).await;
    office.execute("UPDATE external_calls SET next_attempt_at = now() + interval '10 minutes'");
    assert_eq!(office.run_once().await.taken, 0);

    assert_eq!(office.resolver.hint(ACCOUNT, reference(&office)).await.unwrap(), Hinted::Open);

    assert_eq!(office.run_once().await.resolved, 1);
    office.assert_paid_once("k", fine).await;
    let again = office.resolver.hint(ACCOUNT, reference(&office)).await.unwrap();
    assert!(matches!(again, Hinted::Resolved(_)), "{again:?}");
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn a_hint_ends_no_lease_and_makes_the_call_due_when_its_holder_gives_it_back() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    office.provider.script("AB-1", [Does::HoldThenAnswer(429)]);
    let meanwhile = async {
        office.provider.until_sent(1).await;
        assert_eq!(office.resolver.hint(ACCOUNT, reference(&office)).await.unwrap(), Hinted::Open);
        assert_eq!(office.another_process().run_once().await.taken, 0, "the hint ended the lease");
        office.provider.release();
    };

    let (answer, ()) = tokio::join!(office.pay("k", fine), meanwhile);

    assert_eq!(answer.status, 202);
    assert_eq!(office.count("external_calls WHERE next_attempt_at <= now() AND NOT hinted AND NOT leased"), 1);
    assert_eq!(office.run_once().await.resolved, 1);
}

#[tokio::test]
async fn a_hint_for_a_holder_that_vanished_is_heeded_when_its_lease_ends() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    office.hook.once(At::Step(Step::Called), || panic!("a crash"));
    assert_eq!(office.pay("k", fine).await.status, 202);

    assert_eq!(office.resolver.hint(ACCOUNT, reference(&office)).await.unwrap(), Hinted::Open);

    assert_eq!(office.count("external_calls WHERE next_attempt_at > now() AND hinted"), 1, "the lease has an end");
    assert_eq!(office.run_once().await.taken, 0);
    office.let_leases_end();
    assert_eq!(office.run_once().await.resolved, 1);
}

#[tokio::test]
async fn a_hint_for_nobody_or_for_a_parked_call_changes_nothing() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(410)).await;
    let known = reference(&office);
    for (account, reference) in
        [(crate::fines::ANOTHER_ACCOUNT, known.clone()), (ACCOUNT, "nobody".to_owned()), (ACCOUNT, String::new())]
    {
        assert_eq!(office.resolver.hint(account, reference).await.unwrap(), Hinted::Unknown);
    }
    let before = office.count("external_calls WHERE parked_at IS NOT NULL AND next_attempt_at > now()");
    assert_eq!((before, office.resolver.hint(ACCOUNT, known).await.unwrap()), (1, Hinted::Open));
    assert_eq!(office.count("external_calls WHERE parked_at IS NOT NULL AND next_attempt_at > now()"), 1);
    assert_eq!(office.run_once().await.taken, 0);
}
