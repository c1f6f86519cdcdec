//! SQL of fixed text with its binds in order, for query fragments that PostgreSQL plans once a connection.
//!
//! Diesel sends an UPDATE, a `Vec` of rows and `sql_query` unprepared each time; a
//! [`QueryFragment`](diesel::query_builder::QueryFragment) of one's own it prepares, and knows again by its type where that
//! has a static `QueryId`, or else by its text.

use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::HasSqlType;

/// Writes a statement into a `walk_ast`: each [`Statement::bind`] takes the place of the next `?` of the text.
pub struct Statement<'a, 'b> {
    out: AstPass<'a, 'b, Pg>,
    rest: &'static str,
}

impl<'a, 'b> Statement<'a, 'b> {
    /// Begins with a text in which every `?` stands for a bind.
    #[must_use]
    pub fn new(out: AstPass<'a, 'b, Pg>, text: &'static str) -> Self {
        Self { out, rest: text }
    }

    /// The next bind.
    ///
    /// # Errors
    /// Where the value does not serialize.
    pub fn bind<T, U>(&mut self, value: &'b U) -> QueryResult<()>
    where
        Pg: HasSqlType<T>,
        U: ToSql<T, Pg> + ?Sized,
    {
        let (text, rest) = self.rest.split_once('?').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.out.push_sql(text);
        self.out.push_bind_param::<T, U>(value)
    }

    /// What stands behind the last bind.
    pub fn end(mut self) {
        self.out.push_sql(self.rest);
    }
}
