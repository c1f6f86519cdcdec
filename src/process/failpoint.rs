//! Named failpoints of a debug build, for the crash matrix in `tests/api/crashes.rs`.
//!
//! `FAILPOINT=<name>` aborts the process at the point of this name. The process does not unwind or clean up, as with `kill -9`.
//! In a release build, a failpoint is empty and costs nothing.

/// Every failpoint, in the order in which a charge or a refund passes them.
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

/// Aborts if `FAILPOINT` names this point.
#[cfg(debug_assertions)]
pub fn failpoint(name: &str) {
    use std::sync::LazyLock;
    static FAILPOINT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("FAILPOINT").ok());
    if FAILPOINT.as_deref() == Some(name) {
        log::warn!("crashing at {name}, as FAILPOINT says");
        std::process::abort();
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn failpoint(_: &str) {}
