//! docs/proof.md and docs/proof-stories.md say what the checker finds now.

use std::path::{Path, PathBuf};

use idempotent_payments_model::page;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

#[test]
fn the_page_has_todays_numbers() {
    let page = std::fs::read_to_string(docs().join("proof.md")).unwrap();
    assert!(page == page::filled(&page).unwrap(), "run `model page docs`: the page's tables are of another model");
}

#[test]
fn the_stories_are_todays() {
    let stories = std::fs::read_to_string(docs().join("proof-stories.md")).unwrap();
    assert!(stories == page::stories(), "run `model page docs`: the stories are of another model");
}
