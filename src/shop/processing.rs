//! `processing` of a charge or a refund: the progress of its external call. The object's own table has no such column.

use diesel::deserialize::Queryable;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::Text;
use uuid::Uuid;

use external_calls::{Progress, progress};

/// `processing` as a row has it: not known. Diesel reads it from the status column, which the row has anyway.
#[derive(Clone, Copy, Debug)]
pub struct Unset;

impl Queryable<Text, Pg> for Unset {
    type Row = String;

    fn build(_: String) -> diesel::deserialize::Result<Self> {
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
    /// The reference of its external call while it is processing.
    fn open_call(&self) -> Option<&str>;

    /// Sets `processing`.
    fn show(&mut self, processing: Progress);

    /// The row as it is now.
    fn reload(&self, conn: &mut PgConnection, account_id: Uuid) -> QueryResult<Self>;
}

/// Fills in the progress of these rows' external calls.
pub(crate) fn show_progress<P: Processed>(
    conn: &mut PgConnection,
    account_id: Uuid,
    rows: &mut [P],
) -> QueryResult<()> {
    let references: Vec<_> = rows.iter().filter_map(P::open_call).collect();
    if references.is_empty() {
        return Ok(());
    }
    let open = progress(conn, account_id, &references)?;
    for row in rows {
        let Some(reference) = row.open_call() else { continue };
        match open.get(reference) {
            Some(progress) => row.show(*progress),
            // It was resolved between the two statements, so the row is final by now.
            None => *row = row.reload(conn, account_id)?,
        }
    }
    Ok(())
}
