//! Traces: every attempt of every test reports its steps. `.ci/model` checks each trace against the model of the
//! protocol, so that the model can't drift from the code.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use external_calls::Step;

/// Whether the traces of an earlier run are deleted, and the providers whose traces are not kept.
static KEPT: Mutex<(bool, BTreeSet<String>)> = Mutex::new((false, BTreeSet::new()));

/// Keeps no trace of this test: it sets the numbers of leases by SQL, which no process does.
pub fn forget(provider: &str) {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).1.insert(provider.to_owned());
    let number = format!("{}-", number(provider));
    for file in fs::read_dir(directory()).into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with(&number) {
            fs::remove_file(file.path()).unwrap();
        }
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("call-traces")
}

/// A provider's number is in its URL.
fn number(provider: &str) -> &str {
    provider.rsplit('/').nth(1).unwrap_or_default()
}

/// Adds a step under a lease to the trace of a call: one file for each provider, that is each test, and each reference.
pub fn tell(provider: &str, reference: &str, attempt: i32, step: Step) {
    // A task that panics leaves nothing half done under this lock.
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.1.contains(provider) {
        return;
    }
    let directory = directory();
    if !kept.0 {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        kept.0 = true;
    }
    let path = directory.join(format!("{}-{}.txt", number(provider), &reference[..8]));
    let begins = !path.exists();
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    if begins {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        writeln!(file, "call\n# {test}").unwrap();
    }
    writeln!(file, "{attempt} {step:?}").unwrap();
}
