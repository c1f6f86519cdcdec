//! Named crash points of a debug build, for the crash matrix in `tests/api/crashes.rs`.
//!
//! `CRASH_AT=<name>` aborts the process at the point of this name. The process does not unwind or clean up, as with `kill -9`.
//! In a release build, a crash point is empty and costs nothing.

/// Every crash point, in the order in which a charge or a refund passes them.
pub const POINTS: [&str; 8] = [
    "before-claim",
    "after-claim",
    "after-commit-1",
    "before-call",
    "after-call",
    "before-commit-2",
    "after-commit-2",
    "before-answer",
];

/// Aborts if `CRASH_AT` names this point.
#[cfg(debug_assertions)]
pub fn crash_point(name: &str) {
    use std::sync::LazyLock;
    static CRASH_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("CRASH_AT").ok());
    if CRASH_AT.as_deref() == Some(name) {
        log::warn!("crashing at {name}, as CRASH_AT says");
        std::process::abort();
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn crash_point(_: &str) {}
