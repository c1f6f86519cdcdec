//! What a handler uses: the account that asks, the typed body, the page of a list, and the problem document of a failure.

pub mod auth;
mod body;
pub mod endpoint;
mod error;
mod list;
pub mod problems;
mod shape;

pub use self::body::{Checked, Id, Json, Keyed, NoBody, is_slug, printable, slug, time};
pub use self::error::{ApiError, RETRY_ADVICE};
pub use self::list::{After, By, NoFilter, Page, Paging};
