//! The words of the command line: whose rules count, how a key is written, and what a service says of failures.

use clap::ValueEnum;
use serde::Serialize;

/// Whose rules decide what is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// draft-ietf-httpapi-idempotency-key-header: each MUST and SHOULD that a client can see
    Draft,
    /// What Stripe documents for version 1 of its API
    Stripe,
    /// What this project promises
    This,
}

impl Profile {
    /// As a reader sees the profile: `the draft`, `Stripe`, `this project`.
    #[must_use]
    pub fn author(self) -> &'static str {
        match self {
            Self::Draft => "the draft",
            Self::Stripe => "Stripe",
            Self::This => "this project",
        }
    }
}

/// How a key stands in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyForm {
    /// `Idempotency-Key: abc`, as Stripe's clients send it
    Bare,
    /// `Idempotency-Key: "abc"`, as the draft writes it
    Quoted,
}

/// What the service's documentation says of a failed request's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailurePromise {
    /// The failure is stored: a retry gets the failure again
    Stored,
    /// The key is free: a retry runs again
    Free,
}
