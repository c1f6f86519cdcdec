//! Our side: charges and refunds, by their references and by their time.

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

use crate::gateway::books::Book;
use crate::schema::{charges, refunds};
use crate::shop::status::PaymentStatus;

/// A charge or a refund.
#[derive(Clone, Debug, Queryable)]
pub struct Ours {
    /// UUIDv7.
    pub id: Uuid,
    /// Its name at the gateway.
    pub reference: String,
    /// The id of the gateway's object, once it is known. What 0.1.0 made has none.
    pub gateway_id: Option<String>,
    /// What became of the money, as the merchant was told.
    pub status: PaymentStatus,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Ours {
    /// Its path in the API.
    pub fn location(&self, book: Book) -> String {
        match book {
            Book::Payments => crate::shop::charges::location(self.id),
            Book::Refunds => crate::shop::refunds::location(self.id),
        }
    }
}

/// The same query on both tables, whose columns have the same names.
macro_rules! rows_of {
    ($table:ident, $account_id:expr) => {
        $table::table.filter($table::account_id.eq($account_id)).select((
            $table::id,
            $table::reference,
            $table::gateway_id,
            $table::status,
            $table::amount,
            $table::currency,
            $table::created_at,
        ))
    };
}

/// Those with these references. An index has them.
pub fn by_reference(
    conn: &mut PgConnection,
    book: Book,
    account_id: Uuid,
    references: &[&str],
) -> QueryResult<Vec<Ours>> {
    match book {
        Book::Payments => rows_of!(charges, account_id).filter(charges::reference.eq_any(references)).load(conn),
        Book::Refunds => rows_of!(refunds, account_id).filter(refunds::reference.eq_any(references)).load(conn),
    }
}

/// The next rows of an account, oldest first: from the id `from` on, before the id `before`.
pub fn next(
    conn: &mut PgConnection,
    book: Book,
    account_id: Uuid,
    (from, before): (Uuid, Uuid),
    rows: i64,
) -> QueryResult<Vec<Ours>> {
    match book {
        Book::Payments => rows_of!(charges, account_id)
            .filter(charges::id.ge(from))
            .filter(charges::id.lt(before))
            .order(charges::id)
            .limit(rows)
            .load(conn),
        Book::Refunds => rows_of!(refunds, account_id)
            .filter(refunds::id.ge(from))
            .filter(refunds::id.lt(before))
            .order(refunds::id)
            .limit(rows)
            .load(conn),
    }
}

/// The least id of this time: a UUIDv7 begins with its milliseconds.
pub fn first_id(at: DateTime<Utc>) -> Uuid {
    Uuid::from_u128(u128::from(at.timestamp_millis().max(0).unsigned_abs()) << 80)
}
