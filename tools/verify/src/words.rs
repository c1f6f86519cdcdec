//! The words of the command line: the profile, the form of a key, and the promise about failures.

use clap::ValueEnum;
use serde::Serialize;

/// The author whose rules decide what is required.
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
    /// The profile's name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Stripe => "stripe",
            Self::This => "this",
        }
    }

    /// The author's name for a reader: `the draft`, `Stripe`, `this project`.
    #[must_use]
    pub fn author(self) -> &'static str {
        match self {
            Self::Draft => "the draft",
            Self::Stripe => "Stripe",
            Self::This => "this project",
        }
    }
}

/// The form of a key in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyForm {
    /// `Idempotency-Key: abc`, as Stripe's clients send it
    Bare,
    /// `Idempotency-Key: "abc"`, as the draft writes it
    Quoted,
}

/// What the service's documentation says about the key of a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailurePromise {
    /// The failure is stored: a retry gets the failure again
    Stored,
    /// The key is free: a retry runs again
    Free,
}
