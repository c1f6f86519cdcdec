//! Where the code of each step is, so that the page can link it.

use std::collections::BTreeMap;

/// Each step with its file, and with the text of its line there.
const PLACES: [(&str, &str, &str); 23] = [
    ("before-claim", "crates/external-calls/src/resolver.rs", "Step::Received"),
    ("after-claim", "crates/external-calls/src/resolver.rs", "Step::Claimed"),
    ("before-commit-1", "crates/idempotency/src/transaction.rs", "let record = store::record("),
    ("after-commit-1", "crates/external-calls/src/resolver.rs", "Step::Begun"),
    ("before-call", "crates/external-calls/src/resolve.rs", "Step::Sending"),
    ("after-call", "crates/external-calls/src/resolve.rs", "Step::Called"),
    ("before-commit-2", "crates/external-calls/src/resolve.rs", "Step::Applied"),
    ("after-commit-2", "crates/external-calls/src/resolve.rs", "Step::Recorded"),
    ("before-answer", "crates/external-calls/src/resolver.rs", "Step::Answering"),
    ("received", "src/shop/payments.rs", "pub async fn create_charge("),
    ("waits", "crates/idempotency/src/run.rs", "observe(Step::Waits)"),
    ("begins", "crates/idempotency/src/transaction.rs", "pub fn run("),
    ("claimed", "crates/idempotency/src/store.rs", "pub(crate) fn claim("),
    ("met_transaction", "crates/idempotency/src/run.rs", "Ok(Ended::InFlight) => {"),
    ("met_record", "crates/idempotency/src/run.rs", "fn answer_with("),
    ("statement", "src/shop/charges.rs", "pub(crate) fn insert("),
    ("recorded", "crates/idempotency/src/store.rs", "pub(crate) fn record("),
    ("leased", "crates/external-calls/src/lease.rs", "pub(super) fn take("),
    ("given_back", "crates/external-calls/src/lease.rs", "pub(super) fn give_back("),
    ("call", "parts/stripe-gateway/src/stripe.rs", "async fn send_once("),
    ("applied", "src/shop/charges.rs", "pub(crate) fn apply("),
    ("finalized", "crates/idempotency/src/store.rs", "pub fn finalize("),
    ("naive", "src/demo/naive.rs", "async fn charge("),
];

/// The path and the line of each step. `source` has the API's files by their paths in the repository.
pub fn places(source: impl Fn(&str) -> Option<String>) -> BTreeMap<&'static str, String> {
    let place = |(name, path, text): &(&'static str, &str, &str)| {
        let line = source(path)?.lines().position(|line| line.contains(text))? + 1;
        Some((*name, format!("{path}:{line}")))
    };
    PLACES.iter().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_every_step_is_there() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let places = places(|path| std::fs::read_to_string(format!("{root}/{path}")).ok());
        assert_eq!(places.len(), PLACES.len(), "{places:#?}");
    }

    #[test]
    fn the_recordings_name_the_files_of_the_steps() {
        let recorded =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/server/pages/assets/stage/recordings/stage.json");
        let recorded: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(recorded).unwrap()).unwrap();
        let files: BTreeMap<_, _> = PLACES.iter().map(|(name, path, _)| (*name, *path)).collect();
        assert_eq!(recorded["code"], serde_json::json!(files));
    }
}
