//! A toy service with one defect at a time: the check for the defect fails on it, and passes on a toy without the
//! defect.

use idempotency_verify::{Profile, Status, checks};

use crate::toy::{Defect, Manner, Toy};
use crate::{command_line, finding, has_rule, report, toys, with_status, words};

async fn fails(defect: Defect, check: &str, more: &[&str]) {
    // The defects of stored failures need a toy that stores failures.
    let stores = matches!(defect, Defect::FailureReplayedAs422 | Defect::FailureMadeAgainButKept);
    let manner = Manner { stores_failures: stores, ..Manner::default() };
    let (toy, replica) = toys(defect, manner);
    let (right, right_replica) = toys(Defect::None, manner);
    let more = [&["--profile", "this", "--watch", "0", "--only", check], more].concat();
    let (line, right_line) = (command_line(&toy, &replica, &more), command_line(&right, &right_replica, &more));
    let (seen, seen_right) = tokio::join!(report(&line), report(&right_line));
    let (seen, seen_right) = (seen.unwrap(), seen_right.unwrap());
    let finding = finding(&seen, check);
    assert_eq!(finding.status, Status::Fail, "{defect:?}: {finding:?}");
    assert!(finding.advice.is_some_and(|advice| !advice.is_empty()), "{finding:?}");
    assert_eq!(with_status(&seen_right, Status::Pass).len(), 1, "the toy without the defect: {seen_right:?}");
}

/// One test for each line: the toy has the defect, and the check fails.
macro_rules! defects {
    ($($claim:ident: $defect:ident => $check:literal $(with [$($more:literal),*])?;)*) => {
        const DEFECTS: &[&str] = &[$($check),*];
        $(
            #[tokio::test]
            async fn $claim() {
                fails(Defect::$defect, $check, &[$($($more),*)?]).await;
            }
        )*
    };
}

defects! {
    a_server_that_works_without_a_key_is_found: KeyNotRequired => "key-required";
    an_empty_key_that_counts_is_found: EmptyKeyTaken => "key-empty";
    a_limit_below_255_is_found: ShortKeysOnly => "key-255";
    a_missing_limit_is_found: LongKeysTaken => "key-256";
    the_first_of_two_keys_taken_is_found: FirstOfTwoKeysTaken => "key-twice";
    a_key_of_any_bytes_is_found: AnyBytesTaken => "key-non-ascii";
    a_refused_quoted_key_is_found: QuotedRefused => "key-quoted";
    a_refused_bare_key_is_found: BareRefused => "key-bare" with ["--key-form", "quoted"];
    quotes_that_make_another_key_are_found: QuotedIsAnotherKey => "key-quoted-is-bare";
    another_status_on_a_retry_is_found: ReplayIs200 => "replay-status";
    a_replay_that_differs_is_found: ReplyDiffers => "replay-body";
    a_reply_that_is_built_from_the_row_as_it_is_now_is_found: ReplyRebuilt => "replay-after-change";
    a_lost_location_is_found: LocationLost => "replay-location";
    an_ignored_key_is_found: KeyIgnored => "replay-one-effect";
    a_missing_marker_is_found: MarkerMissing => "replay-marker";
    a_marker_on_every_answer_is_found: MarkerAlways => "replay-marker";
    a_missing_expiry_is_found: ExpiryMissing => "replay-expiry";
    a_reply_that_caches_may_store_is_found: ReplyCacheable => "replay-cache-control";
    members_compared_in_order_are_found: MemberOrderCompared => "same-json-other-order";
    compared_white_space_is_found: WhiteSpaceCompared => "same-json-other-space";
    a_body_that_is_not_compared_is_found: BodyNotCompared => "other-body";
    a_reuse_that_forgets_the_first_reply_is_found: ReuseForgetsTheFirst => "other-body-keeps-the-first";
    a_path_that_is_not_compared_is_found: PathNotCompared => "other-path";
    a_method_that_is_not_compared_is_found: MethodNotCompared => "other-method";
    a_missing_lock_is_found: NoLock => "duplicates-one-effect";
    duplicates_with_replies_of_their_own_are_found: DuplicatesAnswerThemselves => "duplicates-one-reply";
    duplicates_that_fail_are_found: LosersFail => "duplicates-no-5xx";
    a_conflict_that_does_not_say_when_is_found: ConflictWithoutRetryAfter => "duplicates-in-flight";
    a_lock_in_one_process_is_found: LockPerProcess => "replicas-one-effect";
    work_that_a_closed_connection_cancels_halfway_is_found: WorkCanceledHalfway => "leave-fin-one-effect";
    work_that_a_reset_connection_cancels_halfway_is_found: WorkCanceledHalfway => "leave-rst-one-effect";
    work_that_a_closed_connection_loses_is_found: WorkLost => "leave-fin-one-effect";
    work_that_a_reset_connection_loses_is_found: WorkLost => "leave-rst-one-effect";
    a_key_that_a_closed_connection_leaves_stuck_is_found: KeyStuckWithoutClient => "leave-fin-retry";
    a_key_that_a_reset_connection_leaves_stuck_is_found: KeyStuckWithoutClient => "leave-rst-retry";
    a_failure_with_another_status_on_a_retry_is_found: FailureReplayedAs422 => "failure-repeated";
    a_marked_failure_whose_key_is_free_is_found: FailureMarkedButFree => "failure-key";
    a_failure_made_again_whose_key_is_kept_is_found: FailureMadeAgainButKept => "failure-key";
    a_stored_failure_is_found_where_a_free_key_is_promised: FailureStored => "failure-promise" with ["--failures", "free"];
    a_failure_that_leaves_an_effect_is_found: FailureLeavesEffect => "failure-no-effect";
    a_stored_5xx_is_found: ServerErrorStored => "server-error-key";
    a_5xx_that_leaves_an_effect_is_found: ServerErrorLeavesEffect => "server-error-effect";
    a_key_shared_between_accounts_is_found: KeySharedBetweenAccounts => "accounts-apart";
    a_problem_without_a_page_is_found: ProblemWithoutPage => "problem-links";
    a_refusal_that_is_no_problem_document_is_found: ProblemIsPlainJson => "problem-documents";
    a_problem_without_advice_is_found: ProblemWithoutAdvice => "problem-advice";
}

#[test]
fn every_check_has_a_defect_that_it_finds() {
    let without: Vec<_> = checks().map(|(_, check)| check.name).filter(|name| !DEFECTS.contains(name)).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[tokio::test]
async fn a_profile_requires_what_its_author_says_and_only_notes_the_rest() {
    let (toy, replica) = toys(Defect::ServerErrorStored, Manner::default());
    for (profile, name, status) in [
        (Profile::This, "this", Status::Fail),
        (Profile::Stripe, "stripe", Status::Pass),
        (Profile::Draft, "draft", Status::Note),
    ] {
        let line = command_line(&toy, &replica, &["--profile", name, "--only", "server-error-key"]);
        let seen = report(&line).await.unwrap();
        let finding = finding(&seen, "server-error-key");
        assert_eq!(finding.status, status, "{finding:?}");
        assert_eq!(has_rule(finding, profile), status != Status::Note);
        assert_eq!(seen.failed(), status == Status::Fail);
    }
}

#[tokio::test]
async fn a_check_that_a_profile_only_recommends_warns() {
    let (toy, replica) = toys(Defect::EmptyKeyTaken, Manner::default());
    let line = command_line(&toy, &replica, &["--profile", "draft", "--only", "key-empty"]);
    let seen = report(&line).await.unwrap();
    assert_eq!(with_status(&seen, Status::Warn).len(), 1, "{seen:?}");
    assert!(!seen.failed());
}

#[tokio::test]
async fn a_check_without_its_options_is_skipped_and_gives_the_reason() {
    let toy = Toy::start(Defect::None);
    let line = words(["POST", &format!("{}/things", toy.base), "--body", r#"{"customer":"ada"}"#, "--profile", "this"]);
    let seen = report(&line).await.unwrap();
    let mut skipped = with_status(&seen, Status::Skip);
    skipped.retain(|(_, why)| !why.starts_with("needs --"));
    assert!(skipped.is_empty(), "{skipped:?}");
    for check in
        ["other-body", "other-path", "replicas-one-effect", "leave-fin-one-effect", "failure-key", "accounts-apart"]
    {
        assert_eq!(finding(&seen, check).status, Status::Skip, "{check}");
    }
    assert_eq!(finding(&seen, "duplicates-one-effect").status, Status::Pass);
    assert!(!seen.failed(), "{:?}", with_status(&seen, Status::Fail));
}

#[tokio::test]
async fn without_a_count_a_second_effect_shows_in_the_replies() {
    let toy = Toy::start(Defect::NoLock);
    let line =
        words(["POST", &format!("{}/things", toy.base), "--body", r#"{"customer":"ada"}"#, "--only", "duplicates"]);
    let seen = report(&line).await.unwrap();
    assert_eq!(finding(&seen, "duplicates-one-effect").status, Status::Fail, "{seen:?}");
}
