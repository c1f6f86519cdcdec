//! The model holds, each of its rules is needed, and the pages say so.
#![expect(clippy::expect_used, reason = "a test fails by a panic")]

mod page;
mod switches;
mod traces;
mod worlds;
