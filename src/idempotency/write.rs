//! What is written together with the record, by one statement.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::{Error as DieselError, QueryResult};

/// The business writes of a decision, to stand before the record's INSERT: `WITH name AS (INSERT ..), ..`.
///
/// All of them see the rows as they were before any of them, so two can't write one row. One that finds no row to write is no
/// error: have the row counted, and let what depends on it be null where it may not be.
///
/// Derive [`QueryId`] only where the text is always the same: Diesel then takes the type for the text, and would send the
/// first one that it saw. With `HAS_STATIC_QUERY_ID = false` it looks at the text. Let there be few, for PostgreSQL plans each
/// once a connection.
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
