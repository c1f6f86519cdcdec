//! A model of the two protocols, the idempotency record and the external call, small enough to visit every state.

pub mod call;
pub mod check;
pub mod page;
pub mod record;
pub mod scenarios;
pub mod story;
pub mod switches;
pub mod trace;
pub mod trace_file;
