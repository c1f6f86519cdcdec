// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service supplies: its pool, its error type, and how its bodies are read.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::sync::Arc;

use diesel::pg::PgConnection;
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, FieldError};
use crate::observer::Observer;
use crate::reply::Reply;
use crate::single_flight::SingleFlight;

/// Where transactions run: a pool of connections, and the requests in flight in this process.
pub trait Database: Clone + Send + Sync + 'static {
    /// Runs `work` with a connection, off the async threads. `work` runs to its end, even if nobody waits for it any
    /// longer.
    ///
    /// After a failure the connection may be dead, so the pool must test a connection before it hands it out again. A connection
    /// that answers may be useless too, so run `work` through [`watched`](crate::watched). `account_id` says whose work this
    /// is, so that a pool can be fair. A simple pool ignores it.
    fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static;

    /// The requests in flight in this process: one [`SingleFlight`] for each database, shared by all clones.
    fn single_flight(&self) -> &SingleFlight;

    /// The observer of each step. By default there is none.
    fn observer(&self) -> Option<Arc<dyn Observer>> {
        None
    }
}

/// What a body fails with: the service's error type.
pub trait Failure: From<Error> + From<diesel::result::Error> + Clone + Debug + Display + Send + Sync + 'static {
    /// Whether the failure is an answer to the request, which a policy may store. A failure that passes by itself, one
    /// that means something is broken (a 5xx), and one that the database caused are not.
    fn is_final(&self) -> bool;

    /// The database error that caused the failure. After some of them the transaction runs again: see [`fault`](crate::fault).
    fn database_error(&self) -> Option<&diesel::result::Error>;

    /// The failure as a reply, for a policy that stores it. `instance` names this occurrence in a problem document.
    fn reply(&self, instance: Uuid) -> Reply;
}

/// How a typed body is made from JSON. Implement it once for all bodies of a service, on top of the service's validation.
pub trait Body: Sized {
    /// Checks the shape: types, ranges, unknown and missing members.
    ///
    /// # Errors
    /// All that is wrong, each with a JSON pointer. If a member is missing, the pointer names its place.
    fn parse(json: &Value) -> Result<Self, Vec<FieldError>>;
}
