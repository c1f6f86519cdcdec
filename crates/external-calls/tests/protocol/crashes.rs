// SPDX-License-Identifier: MIT OR Apache-2.0
//! A task dies at each step, as if with its process. A pass finishes the work, and the money moves once.

use crate::hook::At;
use crate::office::Office;
use crate::provider::Does;
use external_calls::Step;

#[tokio::test]
async fn a_crash_at_any_step_is_finished_by_a_pass_with_one_payment() {
    for (step, answered, sent) in [
        (Step::Begun, 500, 0),
        (Step::Sending, 202, 0),
        (Step::Called, 202, 1),
        (Step::Applied, 202, 1),
        // The outcome is recorded, and the request reads its record.
        (Step::Recorded, 201, 1),
    ] {
        let office = Office::open();
        let fine = office.fine("AB-1");
        office.hook.once(At::Step(step), move || panic!("a crash at {step:?}"));

        let answer = office.pay("k", fine).await;

        assert_eq!((answer.status, office.provider.sendings().len()), (answered, sent), "{step:?}");
        let recorded = i64::from(step == Step::Recorded);
        assert_eq!(office.count("receipts"), recorded, "{step:?}");
        office.let_leases_end();
        let done = office.another_process().run_once().await;
        assert_eq!((done.taken, done.resolved), if recorded == 0 { (1, 1) } else { (0, 0) }, "{step:?}");
        office.assert_paid_once("k", fine).await;
    }
}

#[tokio::test]
async fn a_request_reports_its_steps_and_a_replay_and_a_failure_report_theirs() {
    let office = Office::open();
    let (paid, unknown) = (office.fine("AB-1"), office.unknown_payment("unknown", Does::Answer(410)).await);
    office.hook.places();

    assert_eq!(office.pay("k", paid).await.status, 201);
    let [received, claimed, answering] = [Step::Received, Step::Claimed, Step::Answering].map(At::Step);
    let [begun, sending, called] = [Step::Begun, Step::Sending, Step::Called].map(At::Step);
    let [applied, recorded] = [Step::Applied, Step::Recorded].map(At::Step);
    let all = [received, claimed, begun, sending, called, At::Apply, applied, recorded, answering];
    assert_eq!(office.hook.places(), all);
    assert_eq!(office.pay("k", paid).await.status, 201);
    assert_eq!(office.hook.places(), [received, answering]);
    // The fine is still being paid.
    assert_eq!(office.pay("another", unknown).await.status, 409);
    assert_eq!(office.hook.places(), [received, claimed]);
}

#[tokio::test]
async fn a_crash_leaves_the_external_call_alone_for_no_longer_than_a_lease() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    office.hook.once(At::Step(Step::Sending), || panic!("a crash"));

    assert_eq!(office.pay("k", fine).await.status, 202);

    assert_eq!(office.count("external_calls WHERE next_attempt_at = created_at + interval '5 seconds'"), 1);
    assert_eq!(office.another_process().run_once().await.taken, 0, "the dead holder's lease still runs");
}
