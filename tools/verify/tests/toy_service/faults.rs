//! The fourteen faults of docs/verify.md, one at a time in a service that is right: a run with all options finds each one, also if
//! the count shows effects late.

use std::time::Duration;

use idempotency_verify::Status;

use crate::toy::{Defect, Manner};
use crate::{command_line, finding, report, toys};

/// As late as the count of a service that counts in a search index or on a replica.
pub const LAG: Duration = Duration::from_millis(300);

/// The page with the table of the faults.
const PAGE: &str = include_str!("../../../../docs/verify.md");

async fn is_found(defect: Defect, check: &str, lag: Duration) {
    let (toy, replica) = toys(defect, Manner { lag, ..Manner::default() });
    let line = command_line(&toy, &replica, &["--profile", "this", "--watch", "0"]);
    let seen = report(&line).await.unwrap();
    let finding = finding(&seen, check);
    assert_eq!(finding.status, Status::Fail, "{defect:?} with a lag of {lag:?}: {:#?}", seen.findings);
    assert!(seen.requests_sent <= seen.requests_announced, "{}", seen.summary());
}

/// Two tests for each line: the fault is found, with and without a lag.
macro_rules! faults {
    ($($fault:ident: $defect:ident => $check:literal;)*) => {
        const CHECKS: &[&str] = &[$($check),*];
        $(
            mod $fault {
                use super::*;

                #[tokio::test]
                async fn is_found_at_once() {
                    is_found(Defect::$defect, $check, Duration::ZERO).await;
                }

                #[tokio::test]
                async fn is_found_with_a_lag() {
                    is_found(Defect::$defect, $check, LAG).await;
                }
            }
        )*
    };
}

faults! {
    the_key_is_ignored: KeyIgnored => "replay-one-effect";
    the_record_is_looked_up_first_and_written_later: NoLock => "duplicates-one-effect";
    the_lock_is_in_the_memory_of_one_process: LockPerProcess => "replicas-one-effect";
    the_effect_commits_before_the_record: WorkCanceledHalfway => "leave-fin-one-effect";
    the_record_commits_before_the_effect: WorkLost => "leave-rst-one-effect";
    the_key_stays_in_flight_without_its_client: KeyStuckWithoutClient => "leave-fin-retry";
    two_accounts_share_a_key: KeySharedBetweenAccounts => "accounts-apart";
    the_fingerprint_lacks_the_body: BodyNotCompared => "other-body";
    the_fingerprint_lacks_the_path: PathNotCompared => "other-path";
    the_reply_is_built_from_the_row_as_it_is_now: ReplyRebuilt => "replay-after-change";
    the_status_is_not_stored: ReplayIs200 => "replay-status";
    a_5xx_is_stored: ServerErrorStored => "server-error-key";
    a_5xx_leaves_its_effect: ServerErrorLeavesEffect => "server-error-effect";
    a_refusal_leaves_its_effect: FailureLeavesEffect => "failure-no-effect";
}

#[test]
fn the_page_lists_these_faults() {
    let (_, table) = PAGE.split_once("<!-- faults:begin -->").unwrap();
    let (table, _) = table.split_once("<!-- faults:end -->").unwrap();
    let last_cell =
        |row: &str| row.trim_end_matches(" |").rsplit("| ").next().map(|cell| cell.trim_matches('`').to_owned());
    let rows: Vec<_> = table.lines().filter(|line| line.ends_with("` |")).filter_map(last_cell).collect();
    assert_eq!(rows, CHECKS);
}
