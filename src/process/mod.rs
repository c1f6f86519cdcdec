//! The process: its log, its traces, its end, and the failpoints of a debug build.

pub mod failpoint;
pub mod logging;
pub mod shutdown;
#[cfg(feature = "otel")]
pub mod traces;
