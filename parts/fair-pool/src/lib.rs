// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pool of connections to PostgreSQL for a service with accounts: r2d2's, and what r2d2 lacks. README.md says what that is, and
//! in which file.
//!
//! # What it guarantees
//! - Accounts take turns. One account takes neither all connections nor the whole queue, if there are two connections or more.
//! - Work waits for its turn for at most two seconds, without a thread, and is else refused and never begins. Eight seconds after its
//!   turn the caller has an answer, also if the database is silent.
//! - Work that has begun runs to its end, even if its caller has left. A panic in it is caught.
//! - A connection that is dead, stale or read-only does no more work.
//! - Readiness waits behind no work.
//! - For each cause the log has one line when the database stops serving, one a minute, and one when it is over, for any number of
//!   requests.
//!
//! # What it does not do
//! - Work does not run again, except for reads ([`Pool::read`]). Only the work knows whether it may run twice.

mod cause;
mod connection;
mod holder;
mod outage;
mod pool;
mod readiness;
mod server;
mod slots;
mod turns;

use uuid::Uuid;

pub use self::cause::{Cause, one_line};
pub use self::outage::Outages;
pub use self::pool::{Load, Pool, Settings};
pub use self::server::with_client_limits;
pub use self::turns::{ByLoad, Refusals};

/// The account of work that belongs to no account: the resolver's looks, sweeps, authentication. It takes turns as any account.
pub const NOBODY: Uuid = Uuid::nil();

/// The account of work that only takes notes, such as gauges. Authentication must not wait for it: if it were [`NOBODY`]'s, a look
/// that a silent database holds would keep [`NOBODY`] from the last free connection of a small pool.
pub const NOTES: Uuid = Uuid::from_u128(1);
