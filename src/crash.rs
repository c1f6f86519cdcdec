//! Named places at which a debug build can be made to crash, for the crash matrix in `tests/api/crashes.rs`.
//!
//! `CRASH_AT=<name>` aborts the process there, without unwinding or clean-up, as `kill -9` would. In a release build the
//! call is empty and costs nothing.

/// Every point that the code names, in the order in which a charge or a refund passes them.
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

/// Aborts if the environment asks for a crash here.
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
