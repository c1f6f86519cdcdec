// SPDX-License-Identifier: MIT OR Apache-2.0
#![doc = include_str!("../README.md")]

mod document;
mod faults;
mod members;
mod nested;
mod object;
mod rules;
#[cfg(test)]
mod tests;

pub use self::document::Document;
pub use self::faults::Faults;
pub use self::members::{Member, Members};
pub use self::nested::{Map, list, map, nested};
pub use self::object::{Object, read, read_query};
pub use self::rules::{Form, Int, Rule, Text, boolean, int, one_of, text, time, uuid};

/// What the code that `object!` writes needs, so that a crate which uses the macro need not depend on it.
#[doc(hidden)]
pub mod private {
    pub use {idempotency, serde_json, utoipa};
}
