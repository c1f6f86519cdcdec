//! What a handler uses: the account that asks, the typed body, the page of a list, and the problem document of a failure.

pub mod auth;
mod body;
pub mod endpoint;
mod error;
mod list;
pub mod problems;

pub use self::auth::Account;
pub use self::body::{Id, Json, NoBody};
pub(crate) use self::endpoint::{Endpoint, endpoint};
pub use self::error::{ApiError, OrNotFound, RETRY_ADVICE};
pub(crate) use self::list::first_id_at;
pub use self::list::{After, By, NoFilter, Page, Paging, query};
pub use idempotency::Keyed;
