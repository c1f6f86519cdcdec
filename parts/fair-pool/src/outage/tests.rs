// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a line is due, without a database and without a clock.

use super::*;

fn after(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

fn met(outages: &Outages, cause: Cause, now: Instant) -> Option<Line> {
    outages.met(cause, now, || "why".to_owned())
}

#[test]
fn ten_minutes_of_one_cause_log_a_line_a_minute_and_one_at_the_end() {
    let (outages, start) = (Outages::default(), Instant::now());
    let times = 23_000;

    let told = (0..times).filter_map(|number| {
        let line = met(&outages, Cause::ReadOnly, after(start, number * 26));
        outages.count_refused(Cause::ReadOnly);
        line
    });
    let told: Vec<_> = told.collect();

    // At minutes 0 to 9: the last work comes two seconds before minute 10.
    assert_eq!(told.len(), 10, "{told:#?}");
    assert_eq!((told[0].text.as_str(), told[0].level), ("the database is read-only: why", Level::Error));
    assert_eq!(told[1].text, "the database is read-only, for 60 s now: why");
    let end = outages.end(after(start, 610_000));
    assert_eq!(end.len(), 1, "{end:#?}");
    assert_eq!((end[0].text.as_str(), end[0].level), ("over after 598.0 s: the database is read-only", Level::Warn));
    assert_eq!((end[0].times, end[0].requests), (times, times));
    assert_eq!((outages.refused(Cause::ReadOnly), outages.refused(Cause::Queue)), (times, 0));
}

#[test]
fn another_cause_within_the_same_minute_has_its_own_line() {
    let (outages, now) = (Outages::default(), Instant::now());
    let causes: Vec<_> = Cause::ALL.into_iter().filter(|cause| *cause != Cause::LockTimeout).collect();
    for cause in &causes {
        assert!(met(&outages, *cause, now).is_some(), "{cause:?}");
        assert!(met(&outages, *cause, now).is_none(), "{cause:?}");
    }
    assert_eq!(outages.on(), causes);
}

#[test]
fn other_words_of_a_server_that_refuses_connections_are_news_after_a_while() {
    let (outages, start) = (Outages::default(), Instant::now());
    let met =
        |ms, words: &str| outages.met(Cause::Unreachable, after(start, ms), || words.to_owned()).map(|line| line.text);

    assert_eq!(met(0, "connection refused").unwrap(), "the database can't be reached: connection refused");
    assert_eq!((met(5_000, "starting up"), met(9_900, "starting up")), (None, None));
    assert_eq!(met(10_000, "starting\nup").unwrap(), "the database can't be reached, for 10 s now: starting up");
    assert_eq!(met(21_000, "starting up"), None);
}

#[test]
fn a_cause_is_over_when_nothing_has_met_it_for_ten_seconds_and_then_counts_as_new() {
    let (outages, start) = (Outages::default(), Instant::now());
    for cause in [Cause::Unreachable, Cause::DiskFull] {
        assert!(met(&outages, cause, start).is_some());
    }
    met(&outages, Cause::DiskFull, after(start, 4_000));
    assert!(outages.end(after(start, 9_900)).is_empty());

    assert_eq!(outages.end(after(start, 10_000))[0].text, "over after 0.0 s: the database can't be reached");
    assert_eq!(outages.on(), [Cause::DiskFull]);
    assert!(outages.end(after(start, 13_900)).is_empty());
    assert_eq!(outages.end(after(start, 14_000))[0].text, "over after 4.0 s: the database has no room left");
    assert!(outages.on().is_empty() && outages.end(after(start, 90_000)).is_empty());
    assert!(met(&outages, Cause::Unreachable, after(start, 90_000)).is_some());
}

#[test]
fn the_line_about_a_lock_waits_for_its_holder() {
    let (outages, start) = (Outages::default(), Instant::now());
    assert!(!outages.owes_lock(start));
    assert!(met(&outages, Cause::LockTimeout, start).is_none());
    assert!(outages.owes_lock(start));

    let line = outages.tell_lock(Some("process 7 holds it"), after(start, 900)).unwrap();

    assert_eq!(line.text, "requests wait too long for a lock in the database: why; process 7 holds it");
    assert!(!outages.owes_lock(after(start, 61_000)), "nobody has met a lock since");
    met(&outages, Cause::LockTimeout, after(start, 61_000));
    assert!(outages.owes_lock(after(start, 61_000)));
}
