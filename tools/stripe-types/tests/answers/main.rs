//! The sandbox's answers, read by async-stripe's types. async-stripe generates them from Stripe's OpenAPI document: a member that
//! Stripe always sends must be there, with its type. A value that Stripe's document doesn't list becomes `Unknown`, and fails the
//! test. A client that understands the sandbox therefore understands Stripe.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod errors;
mod events;
mod objects;
mod sandbox;
