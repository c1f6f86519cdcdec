//! The process: its log, its traces, its end, the message about a wrong setting, and the failpoints of a debug build.

pub mod failpoint;
pub mod logging;
pub mod shutdown;
#[cfg(feature = "otel")]
pub mod traces;
pub mod wrong;
