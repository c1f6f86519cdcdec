//! What a handler uses: the account that asks, the typed body, the page of a list, and the problem document of a failure.

pub mod auth;
mod body;
mod error;
mod faults;
mod list;
mod object;
pub mod problems;
pub mod rules;

pub use self::body::{Checked, Id, Json, Keyed, NoBody};
pub use self::error::ApiError;
pub use self::faults::Faults;
pub use self::list::{After, By, NoFilter, Page, Paging, no_parameters};
pub(crate) use self::object::object;
pub use self::object::{Document, Members, Object, referred, schema_of};
