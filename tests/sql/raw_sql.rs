//! SQL is Diesel's query builder. Raw SQL is the exception, and each place says why.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What raw SQL looks like in the source.
const RAW: [&str; 5] = ["sql_query(", "push_sql(", "dsl::sql::<", "batch_execute(", ".sql("];

/// Where it may stand, as the beginning of a path in `src/`, and why.
const PLACES: [(&str, &str); 9] = [
    ("idempotency/store.rs", "the claim joins a function's result, for which Diesel has no words"),
    (
        "idempotency/records.rs",
        "a row's place (ctid), a DELETE with a CTE that skips what is locked, a partial index's condition",
    ),
    ("events.rs", "positions are given by a window function, in an UPDATE .. FROM"),
    ("db", "settings of a connection, its plans, and the lock of migrations"),
    ("erasure.rs", "looks into bytes and JSON for a name"),
    ("demo.rs", "empties the tables of the local sandbox, which only the catalogue knows"),
    ("config/check.rs", "what the server is: its encoding, its limits"),
    ("commands", "settings of a command's own connection, and the reset of the local cluster"),
    ("sandbox", "the gateway's own books, which stand for a system outside"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn raw_sql_stands_only_where_a_reason_is_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut used = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let raw: Vec<_> = text.lines().filter(|line| RAW.iter().any(|raw| line.contains(raw))).collect();
        let place = PLACES.iter().position(|(place, _)| name.starts_with(place));
        if !raw.is_empty() {
            assert!(place.is_some(), "src/{name} has raw SQL, and PLACES no reason: {raw:#?}");
            used.extend(place);
        }
    }
    assert_eq!(used.len(), PLACES.len(), "a reason for no raw SQL: only {used:?} are used");
}
