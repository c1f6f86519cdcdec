//! What a body ends with: its reply, or its reply and a write that it leaves to the record's statement.
//!
//! A write left to the end costs no round trip of its own. It runs when nothing can be decided any more, so it is for rows
//! that need only be inserted; it runs outside the savepoint of [`Failures::CacheFailures`](super::Failures), and where it
//! fails, the whole transaction does.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;

use super::reply::Reply;

/// What a body may return: a [`Reply`], or a reply with its last write.
pub trait Ending {
    /// The last write: `WITH name AS (INSERT ..), ..`, of fixed text (see [`Statement`](super::Statement)).
    type Write: QueryFragment<Pg> + QueryId + Send;

    /// Takes both apart.
    fn into_parts(self) -> (Reply, Self::Write);
}

impl Ending for Reply {
    type Write = NoWrite;

    fn into_parts(self) -> (Reply, NoWrite) {
        (self, NoWrite)
    }
}

impl<W: QueryFragment<Pg> + QueryId + Send> Ending for (Reply, W) {
    type Write = W;

    fn into_parts(self) -> (Reply, W) {
        self
    }
}

/// Everything is written already.
#[derive(Clone, Copy, Debug, QueryId)]
pub struct NoWrite;

impl QueryFragment<Pg> for NoWrite {
    fn walk_ast<'b>(&'b self, _: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        Ok(())
    }
}
