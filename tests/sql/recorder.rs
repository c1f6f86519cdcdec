//! Records each SQL text that the program sends, with Diesel's instrumentation.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

static TEXTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Every URL of the program's connections contains this text. The tests' own connections don't have it.
const PROGRAM: &str = "application_name=payments";

/// Records the statements of connections that are opened from now on.
pub fn start() {
    set_default_instrumentation(|| Some(Box::new(Recorder { is_programs: None }))).unwrap();
}

/// The recorded texts, without their binds.
pub fn texts() -> BTreeSet<String> {
    TEXTS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A URL for a connection that counts as the program's. For functions that a command runs on its own connection.
pub fn as_program(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{PROGRAM}")
}

struct Recorder {
    /// None if the recorder did not see the connection open. Only the program sets a recorder on an open connection.
    is_programs: Option<bool>,
}

impl Instrumentation for Recorder {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => {
                self.is_programs = Some(url.contains(PROGRAM));
            }
            InstrumentationEvent::StartQuery { query, .. } if self.is_programs.unwrap_or(true) => {
                let text = query.to_string();
                let sql = text.split_once(" -- binds: ").map_or(text.as_str(), |(sql, _)| sql);
                TEXTS.lock().unwrap_or_else(PoisonError::into_inner).insert(sql.to_owned());
            }
            _ => {}
        }
    }
}
