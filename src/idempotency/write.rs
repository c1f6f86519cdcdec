//! What is written together with the record, by one statement.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::{Error as DieselError, QueryResult};

/// The business writes of a decision, to stand before the record's INSERT: `WITH name AS (INSERT ..), ..`.
///
/// Its text should come from a small number of fixed ones (see [`Statement`](super::Statement)): PostgreSQL plans each once a
/// connection.
pub trait Write: QueryFragment<Pg> + QueryId + Send {
    /// Whether the database refused this because what was read has changed since: then it is read and decided again.
    ///
    /// Say yes only to a refusal that a fresh read explains, or the request is decided again in vain and fails.
    fn is_outdated(&self, _refusal: &DieselError) -> bool {
        false
    }
}

/// The record alone.
#[derive(Clone, Copy, Debug, QueryId)]
pub(super) struct NoWrite;

impl QueryFragment<Pg> for NoWrite {
    fn walk_ast<'b>(&'b self, _: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        Ok(())
    }
}

impl Write for NoWrite {}
