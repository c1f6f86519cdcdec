//! A payments API that a client can retry without fear.
//!
//! The map, arrows running one way: `main` starts what `http` routes; `http` names every route; a feature (`orders`,
//! `products`, `events`) reads top to bottom: policy, wire types, handlers, queries; features stand on `auth`, `wire`,
//! `error`, `db` and `schema`; these stand on [`idempotency`], which knows nothing of payments and can be lifted.

pub mod advice;
pub mod auth;
pub mod charges;
pub mod config;
mod crash;
pub mod db;
pub mod demo;
pub mod dev_postgres;
pub mod drain;
pub mod entitlements;
pub mod erasure;
pub mod error;
pub mod events;
pub mod gateway;
pub mod health;
pub mod http;
pub mod idempotency;
pub mod idempotency_keys;
pub mod logging;
pub mod metrics;
pub mod openapi;
pub mod orders;
pub mod pages;
pub mod payments;
pub mod policies;
pub mod problems;
pub mod products;
pub mod refunds;
pub mod sandbox;
mod schema;
pub mod settlement;
pub mod status;
#[cfg(feature = "otel")]
pub mod traces;
pub mod verify;
pub mod wire;
