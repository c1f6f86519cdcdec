//! The fourteen faults of docs/verify.md, one at a time in a service that is otherwise right: a run with all options
//! finds each, even if the count shows effects late.

use std::time::Duration;

use futures_util::future::join_all;
use idempotency_verify::Status;

use crate::toy::{Defect, Manner};
use crate::{command_line, finding, report, toys};

/// As late as the count of a service that uses a search index or a replica.
pub const LAG: Duration = Duration::from_millis(300);

/// The page with the table of the faults.
const PAGE: &str = include_str!("../../../../docs/verify.md");

/// The fault and its findings, if the check did not fail.
async fn missed(defect: Defect, check: &str, lag: Duration) -> Option<String> {
    let (toy, replica) = toys(defect, Manner { lag, ..Manner::default() });
    let line = command_line(&toy, &replica, &["--profile", "this", "--watch", "0"]);
    let seen = report(&line).await.unwrap();
    assert!(seen.requests_sent <= seen.requests_announced, "{}", seen.summary());
    let finding = finding(&seen, check);
    (finding.status != Status::Fail).then(|| format!("{defect:?}: {finding:?}"))
}

/// The runs mostly wait, so all faults run at once.
async fn all_are_found(lag: Duration) {
    let runs = FAULTS.iter().map(|(defect, check)| missed(*defect, check, lag));
    let missed: Vec<_> = join_all(runs).await.into_iter().flatten().collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

const FAULTS: [(Defect, &str); 14] = [
    // The key is ignored.
    (Defect::KeyIgnored, "replay-one-effect"),
    // The record is looked up first and written later.
    (Defect::NoLock, "duplicates-one-effect"),
    (Defect::LockPerProcess, "replicas-one-effect"),
    // The effect commits before the record.
    (Defect::WorkCanceledHalfway, "leave-fin-one-effect"),
    // The record commits before the effect.
    (Defect::WorkLost, "leave-rst-one-effect"),
    (Defect::KeyStuckWithoutClient, "leave-fin-retry"),
    (Defect::KeySharedBetweenAccounts, "accounts-apart"),
    (Defect::BodyNotCompared, "other-body"),
    (Defect::PathNotCompared, "other-path"),
    (Defect::ReplyRebuilt, "replay-after-change"),
    (Defect::ReplayIs200, "replay-status"),
    (Defect::ServerErrorStored, "server-error-key"),
    (Defect::ServerErrorLeavesEffect, "server-error-effect"),
    (Defect::FailureLeavesEffect, "failure-no-effect"),
];

#[tokio::test]
async fn each_fault_is_found() {
    all_are_found(Duration::ZERO).await;
}

#[tokio::test]
async fn each_fault_is_found_where_the_count_is_late() {
    all_are_found(LAG).await;
}

#[test]
fn the_page_lists_these_faults() {
    let (_, table) = PAGE.split_once("<!-- faults:begin -->").unwrap();
    let (table, _) = table.split_once("<!-- faults:end -->").unwrap();
    let last_cell =
        |row: &str| row.trim_end_matches(" |").rsplit("| ").next().map(|cell| cell.trim_matches('`').to_owned());
    let rows: Vec<_> = table.lines().filter(|line| line.ends_with("` |")).filter_map(last_cell).collect();
    assert_eq!(rows, FAULTS.map(|(_, check)| check));
}
