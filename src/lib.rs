//! A payments API that a client can retry without fear.
//!
//! The map. Imports run one way, from the top of this list to its end:
//! - `main` starts the server. `http` names every route.
//! - The features: for example `orders`, `charges`, `refunds`. A feature reads top to bottom: policy, wire types, handlers,
//!   queries.
//! - The features use `auth`, `wire`, `error`, `db`, `gateway` and `schema`.
//! - [`settlement`] calls a system outside. It imports only [`idempotency`], and can be copied with it.
//! - [`idempotency`] holds keys, records and replies. It knows nothing about payments, and can be copied alone.

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
