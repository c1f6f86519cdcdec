//! A right history passes, and for each rule a wrong one is refused by this rule alone.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod right;
mod shrinking;
mod wrong;
