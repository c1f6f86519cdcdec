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
mod object;
pub mod problems;
pub mod rules;

pub use self::body::{Id, Json, NoBody};
pub use self::document::{Document, referred, schema_of};
pub use self::error::{ApiError, RETRY_ADVICE};
pub use self::faults::Faults;
pub use self::list::{After, By, NoFilter, Page, Paging, no_parameters};
pub(crate) use self::object::object;
pub use self::object::{Members, Object, checked_body};
pub use idempotency::Keyed;
