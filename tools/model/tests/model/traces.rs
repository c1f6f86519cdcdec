//! Traces of the program are allowed by the model, and traces that the program must never have are refused.

use idempotent_payments_model::trace_file::follow_text;

fn allowed(text: &str) {
    match follow_text(text) {
        Ok(allowed) => assert!(allowed.is_whole, "{text}"),
        Err(why) => panic!("{why}, in\n{text}"),
    }
}

/// The model refuses this step, and not an earlier one.
fn refused(text: &str, step: &str) {
    let why = follow_text(text).expect_err(text);
    assert!(why.starts_with("the model does not allow") && why.ends_with(step), "{why}, in\n{text}");
}

const TWO: &str = "record requests=0a,1a\n";

#[test]
fn a_request_and_its_duplicate_in_another_process() {
    allowed(&format!(
        "{TWO}0 Begins\n1 Begins\n0 Claimed\n1 MetTransaction\n0 BodyRan\n0 Recorded\n1 Begins\n0 Committed\n\
         1 MetRecord {{ provisional: false }}\n0 Answered Fresh\n1 Answered Replay"
    ));
}

#[test]
fn a_step_may_be_told_after_another_process_saw_its_effect() {
    allowed(&format!(
        "{TWO}0 Begins\n0 Claimed\n0 BodyRan\n0 Recorded\n1 Begins\n1 MetRecord {{ provisional: false }}\n\
         1 Answered Replay\n0 Committed\n0 Answered Fresh"
    ));
}

#[test]
fn the_primary_key_refuses_a_snapshot_older_than_its_lock() {
    // Request 1 takes its snapshot before request 0 commits, and its lock after that.
    let both = "0 Begins\n1 Begins\n0 Claimed\n0 BodyRan\n0 Recorded\n0 Committed\n1 Claimed\n1 BodyRan\n";
    allowed(&format!(
        "{TWO}{both}1 Failed\n1 Begins\n1 MetRecord {{ provisional: false }}\n0 Answered Fresh\n1 Answered Replay"
    ));
    refused(&format!("{TWO}{both}1 Recorded"), "1 Recorded");
}

#[test]
fn a_record_comes_after_the_claim_and_the_body() {
    refused(&format!("{TWO}0 Begins\n0 Recorded"), "0 Recorded");
    refused(&format!("{TWO}0 Begins\n0 Claimed\n0 Recorded"), "0 Recorded");
    refused(&format!("{TWO}0 Begins\n0 Claimed\n0 BodyRan\n0 Committed"), "0 Committed");
    refused(&format!("{TWO}0 Claimed"), "0 Claimed");
}

#[test]
fn two_transactions_never_hold_one_key() {
    // While the first one holds it, the claim of the second one meets a transaction.
    refused(&format!("{TWO}0 Begins\n0 Claimed\n1 Begins\n1 Claimed"), "1 Claimed");
    // After COMMIT, its new snapshot meets the record.
    refused(
        &format!("{TWO}0 Begins\n0 Claimed\n0 BodyRan\n0 Recorded\n0 Committed\n1 Begins\n1 MetTransaction"),
        "1 MetTransaction",
    );
}

#[test]
fn a_follower_needs_a_leader_and_a_lost_answer_needs_a_loss() {
    refused("record requests=0a,1a\n0 Waits\n1 Waits", "0 Waits");
    let lost = "0 Begins\n0 Claimed\n0 BodyRan\n0 Recorded\n0 Failed\n";
    let knows = "0 Begins\n0 MetRecord { provisional: false }\n0 Answered Fresh";
    refused(&format!("record requests=0a\n{lost}"), "0 Failed");
    allowed(&format!("record requests=0a losses=1\n{lost}{knows}"));
}

#[test]
fn only_the_body_s_own_request_answers_without_the_marker() {
    let both =
        "0 Begins\n0 Claimed\n0 BodyRan\n0 Recorded\n0 Committed\n1 Begins\n1 MetRecord { provisional: false }\n";
    refused(&format!("{TWO}{both}1 Answered Fresh"), "1 Answered Fresh");
    refused(&format!("{TWO}{both}0 Answered Replay"), "0 Answered Replay");
    let other = both.replace("1a", "1b");
    refused(&format!("record requests=0a,1b\n{other}1 Answered Replay"), "1 Answered Replay");
}

#[test]
fn a_trace_ends_when_every_request_has_its_answer() {
    let why = follow_text(&format!("{TWO}0 Begins\n0 Claimed")).expect_err("requests are open");
    assert_eq!(why, "the model can't be at rest after the last step");
}

#[test]
fn the_handler_gets_no_answer_and_a_resolver_finishes() {
    allowed("call\n1 Begun\n1 Sending\n1 Called\n1 GivenBack\n2 Leased\n2 Sending\n2 Called\n2 Applied\n2 Recorded");
    // A holder that was suspended writes nothing, and does not say that it did.
    let next = "call\n1 Begun\n1 Sending\n1 Called\n2 Leased\n2 Sending\n2 Called\n2 Applied\n2 Recorded\n";
    allowed(&format!("{next}1 GivenBack"));
    refused(&format!("{next}1 Recorded"), "1 Recorded");
    // A COMMIT whose answer is lost: the second run finds the record.
    allowed("call\n1 Begun\n1 Sending\n1 Called\n1 Applied\n1 Recorded");
    allowed("call\n1 Begun\n1 Sending\n1 Called\n1 Applied\n1 Applied\n1 Recorded");
}

#[test]
fn an_old_lease_never_applies_after_a_newer_one() {
    let taken = "call\n1 Begun\n1 Sending\n1 Called\n2 Leased\n";
    refused(&format!("{taken}1 Applied"), "1 Applied");
    refused(&format!("{taken}2 Sending\n2 Called\n2 Applied\n2 Recorded\n1 Applied"), "1 Applied");
    // Nor is a lease taken on a resolved call.
    refused("call\n1 Begun\n1 Sending\n1 Called\n1 Applied\n1 Recorded\n2 Leased", "2 Leased");
}

#[test]
fn an_outcome_is_applied_after_the_call_and_a_lease_comes_in_its_order() {
    refused("call\n1 Begun\n1 Applied", "1 Applied");
    refused("call\n1 Begun\n1 Sending\n1 Applied", "1 Applied");
    refused("call\n1 Begun\n1 Sending\n1 Called\n1 Recorded", "1 Recorded");
    refused("call\n1 Begun\n2 Sending", "2 Sending");
    // Two holders at once, each with a lease that is not over: possible only if time passes in between.
    allowed("call\n1 Begun\n1 Sending\n2 Leased\n2 Sending\n2 Called\n2 Applied\n2 Recorded\n1 Called\n1 GivenBack");
}

#[test]
fn a_text_that_is_not_a_trace_is_refused() {
    for (text, why) in [
        ("", "the file is empty"),
        ("records requests=0a", "there is no model records"),
        ("record requests=2a", "requests=2a is no setting of a record"),
        ("record requests=0a\n1 Begins", "line 2 is no step: 1 Begins"),
        ("call\n0 Begun", "line 2 is no step: 0 Begun"),
        ("call\n13 Leased", "line 2 is no step: 13 Leased"),
        ("call fast\n", "fast is no setting of a call"),
    ] {
        assert_eq!(follow_text(text).expect_err(text), why);
    }
}
