// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pool of PostgreSQL connections for a service with accounts: r2d2's pool, and what it lacks. README.md says which
//! file adds what.
//!
//! # What it guarantees
//! - Accounts take turns. One account takes neither all connections nor the whole queue, if there are two connections
//!   or more.
//! - Work waits for its turn without a thread, for at most two seconds. After that it is refused, and never begins. The
//!   caller has an answer within eight seconds of the turn, even if the database is silent.
//! - Work that has begun runs to its end, even if its caller has left. A panic in it is caught.
//! - A connection that is dead, stale or read-only does no more work.
//! - Readiness waits behind no work.
//! - For each cause, however many requests meet it, the log has one line when the database stops serving, one a minute,
//!   and one when it is over.
//!
//! # What it does not do
//! - Work does not run again, except for reads ([`Pool::read`]). Only the work knows whether it may run twice.

mod cause;
mod connections;
mod holder;
mod outage;
mod pool;
mod readiness;
mod runner;
mod server;
mod threads;
mod turns;
mod url;

use uuid::Uuid;

pub use self::cause::{Cause, one_line};
pub use self::outage::Outages;
pub use self::pool::{Load, Pool, Settings};
pub use self::turns::{ByLoad, Refusals};
pub use self::url::with_client_limits;

/// The account of background work that belongs to no account: the resolver's looks, sweeps. It takes turns like any
/// account.
pub const NOBODY: Uuid = Uuid::nil();

/// The account of work that only measures or records, such as gauges: a slow query must not keep the resolver's look from
/// the last free connection.
pub const NOTES: Uuid = Uuid::from_u128(2);

/// The account of the work that finds out whose request it is. Under [`NOBODY`], background work would keep it from the last
/// free connection, so an account that is stuck could keep out another whose credential is not known yet.
pub const AUTHENTICATION: Uuid = Uuid::from_u128(1);
