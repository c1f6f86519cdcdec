//! Traces: every attempt of every test tells of its steps. `.ci/model` holds each trace against the model of the protocol, so that
//! the model can't drift from the code.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use external_calls::{Attempt, Step};

/// Whether the traces of an earlier run are deleted.
static IS_FRESH: Mutex<bool> = Mutex::new(false);

/// Adds a step to the trace of a call: one file for each provider, that is each test, and each reference.
pub fn tell(provider: &str, attempt: &Attempt<'_>, step: Step) {
    // A test whose task panics holds nothing half done.
    let mut is_fresh = IS_FRESH.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("call-traces");
    if !*is_fresh {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        *is_fresh = true;
    }
    let number = provider.rsplit('/').nth(1).unwrap_or_default();
    let path = directory.join(format!("{number}-{}.txt", &attempt.reference[..8]));
    let begins = !path.exists();
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    if begins {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        writeln!(file, "call\n# {test}").unwrap();
    }
    writeln!(file, "{} {step:?}", attempt.number).unwrap();
}
