//! A payments API that a client can retry without fear.
//!
//! The two patterns are crates: [`idempotency`] (keys, records, replies) and [`external_calls`] (calls to a system
//! outside whose outcome must become known and recorded). The gateway's client is a crate too, [`stripe_gateway`]. This
//! crate is the service that uses them. From top to bottom:
//! - [`commands`]: the command line, and what each command does.
//! - [`demo`]: the demo's accounts, and what its stage needs of the API.
//! - [`server`]: from a connection to the routes, with the pages and the OpenAPI document.
//! - [`shop`]: the business. Products, orders, payments, entitlements, events.
//! - [`http`]: what a handler uses: the account, the body, the page of a list, the problem.
//! - [`db`] and [`process`]: the database and its migrations; log, traces, shutdown, failpoints.

pub mod commands;
pub mod db;
pub mod demo;
pub mod http;
pub mod process;
mod schema;
pub mod server;
pub mod shop;
