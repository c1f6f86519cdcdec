//! What a handler uses: the account that asks, the typed body, the page of a list, and the problem document of a failure.

pub mod auth;
mod body;
mod document;
pub mod endpoint;
mod error;
mod faults;
mod forms;
mod list;
mod maps;
mod member;
mod nested;
mod object;
pub mod problems;
mod rule;

pub use self::auth::Account;
pub use self::body::{Id, Json, NoBody};
pub use self::document::Document;
pub(crate) use self::endpoint::{Endpoint, endpoint};
pub use self::error::{ApiError, OrNotFound, RETRY_ADVICE};
pub use self::faults::Faults;
pub(crate) use self::list::first_id_at;
pub use self::list::{After, By, NoFilter, Page, Paging, query};
pub(crate) use self::object::object;
pub use self::object::{Members, Object, checked_body, documented};
pub use idempotency::Keyed;

/// The rules for the values that clients send. A rule says a limit once: it checks the value, and it documents the limit.
pub mod rules {
    pub use super::forms::{Form, is_slug};
    pub(crate) use super::forms::{slug, time, uuid};
    pub use super::maps::Map;
    pub(crate) use super::maps::map;
    pub(crate) use super::nested::{list, nested};
    pub use super::rule::{Int, Rule, Text};
    pub(crate) use super::rule::{boolean, int, one_of, text};
}
