//! `processing` of a charge or a refund: how far its external call is. The table of the object has no such column.

use diesel::deserialize::Queryable;
use diesel::dsl::AsExprOf;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable};
use uuid::Uuid;

use external_calls::{Progress, progress};

/// What a row selects in the place of `processing`: NULL.
pub type NoColumn = AsExprOf<Option<bool>, Nullable<Bool>>;

/// As [`NoColumn`].
pub fn no_column() -> NoColumn {
    None::<bool>.into_sql::<Nullable<Bool>>()
}

/// `processing` as a row has it: unset.
#[derive(Clone, Copy, Debug)]
pub struct Unset;

impl Queryable<Nullable<Bool>, Pg> for Unset {
    type Row = Option<bool>;

    fn build(_: Option<bool>) -> diesel::deserialize::Result<Self> {
        Ok(Self)
    }
}

impl From<Unset> for Option<Progress> {
    fn from(_: Unset) -> Self {
        None
    }
}

/// A charge or a refund.
pub(crate) trait Processed: Sized {
    /// The name of its external call, as long as it is processing.
    fn open_call(&self) -> Option<&str>;

    /// Sets `processing`.
    fn show(&mut self, processing: Progress);

    /// The row as it is now.
    fn reload(&self, conn: &mut PgConnection, account_id: Uuid) -> QueryResult<Self>;
}

/// Rows with the progress of their external calls.
pub(crate) fn with_progress<P: Processed>(
    conn: &mut PgConnection,
    account_id: Uuid,
    rows: Vec<P>,
) -> QueryResult<Vec<P>> {
    let references: Vec<_> = rows.iter().filter_map(P::open_call).collect();
    let open = progress(conn, account_id, &references)?;
    let shown = |mut row: P| {
        let Some(reference) = row.open_call() else { return Ok(row) };
        match open.get(reference) {
            Some(progress) => row.show(*progress),
            // It was resolved between the two statements, so the row is final by now.
            None => row = row.reload(conn, account_id)?,
        }
        Ok(row)
    };
    rows.into_iter().map(shown).collect()
}
