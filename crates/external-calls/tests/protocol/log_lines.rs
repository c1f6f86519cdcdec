// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the resolver's log says when it can't look.

use std::sync::Mutex;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use tokio::time::sleep;

use crate::office::Office;

/// Keeps the lines about a missing table, which only this test removes.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        if line.contains("can't look") && line.contains("\"external_calls\" does not exist") {
            self.0.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

fn lines() -> usize {
    LINES.0.lock().unwrap().len()
}

/// The clock is paused: tokio advances it whenever nothing runs, not even a statement.
#[tokio::test(start_paused = true)]
async fn a_resolver_that_can_not_look_says_so_each_minute() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Warn);
    let office = Office::open();
    office.execute("ALTER TABLE external_calls RENAME TO elsewhere");
    let background = tokio::spawn(office.resolver.clone().run_in_background());

    sleep(Duration::from_secs(150)).await;
    assert_eq!(lines(), 3);

    // A look that succeeds ends the outage, and the next outage is logged at once.
    office.execute("ALTER TABLE elsewhere RENAME TO external_calls");
    sleep(Duration::from_secs(10)).await;
    office.execute("ALTER TABLE external_calls RENAME TO elsewhere");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(lines(), 4);
    background.abort();
}
