//! The program writes SQL with Diesel's query builder. Raw SQL is the exception, and each place has a reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The signs of raw SQL in the source.
const RAW: [&str; 5] = ["sql_query(", "push_sql(", "dsl::sql::<", "batch_execute(", ".sql("];

/// The places that may have raw SQL, with the reason. A place is the beginning of a path.
const PLACES: [(&str, &str); 8] = [
    ("crates/idempotency/src/store.rs", "the claim joins a function's result, and Diesel can't express the join"),
    ("crates/idempotency/src/sweep.rs", "a row's place (ctid), and a DELETE with a CTE that skips locked rows"),
    ("crates/idempotency/src/support.rs", "a partial index's condition"),
    ("src/shop/events.rs", "a window function in an UPDATE .. FROM gives the positions"),
    ("parts/fair-pool/src", "the settings and plans of a connection"),
    ("src/db", "the settings of the connections that migrate"),
    (
        "src/demo",
        "the tables of the demo's schema; empties the tables of the local sandbox, and reads their names from the catalogue",
    ),
    (
        "src/commands",
        "the server's encoding and limits, the settings of a command's own connection, and the reset of the local cluster",
    ),
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
fn raw_sql_is_only_in_places_with_a_written_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "crates/idempotency/src", "crates/external-calls/src", "parts/fair-pool/src"] {
        sources(&root.join(folder), &mut files);
    }
    let mut used = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let raw: Vec<_> = text.lines().filter(|line| RAW.iter().any(|raw| line.contains(raw))).collect();
        let place = PLACES.iter().position(|(place, _)| name.starts_with(place));
        if !raw.is_empty() {
            assert!(place.is_some(), "{name} has raw SQL, but PLACES has no reason for it: {raw:#?}");
            used.extend(place);
        }
    }
    assert_eq!(used.len(), PLACES.len(), "a place of PLACES has no raw SQL: only {used:?} have");
}
