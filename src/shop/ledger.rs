//! Our ledger of charges and refunds: their rows by reference and by time, for comparison with the gateway's books.

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::Serialize;
use uuid::Uuid;

use crate::schema::{charges, refunds};
use crate::shop::status::PaymentStatus;
use stripe_gateway::Book;

/// The charges or the refunds of an account.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    /// `Payments` means the charges.
    pub book: Book,
    /// The account.
    pub account_id: Uuid,
}

/// A charge or a refund. Its status is what the merchant sees, and its amount is in minor units.
#[derive(Clone, Debug, Queryable, Serialize)]
pub struct Ours {
    #[serde(skip)]
    pub id: Uuid,
    #[serde(skip)]
    pub reference: String,
    /// None if it is not known yet, or if release 0.1.0 made the row.
    #[serde(skip)]
    pub gateway_id: Option<String>,
    pub status: PaymentStatus,
    pub amount: i64,
    pub currency: String,
    pub created_at: DateTime<Utc>,
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

impl Ledger {
    /// The rows with these references, by an index.
    pub fn by_reference(self, conn: &mut PgConnection, references: &[&str]) -> QueryResult<Vec<Ours>> {
        match self.book {
            Book::Payments => {
                rows_of!(charges, self.account_id).filter(charges::reference.eq_any(references)).load(conn)
            }
            Book::Refunds => {
                rows_of!(refunds, self.account_id).filter(refunds::reference.eq_any(references)).load(conn)
            }
        }
    }

    /// The next rows, oldest first: from the id `from` on, before the id `before`.
    pub fn next(self, conn: &mut PgConnection, from: Uuid, before: Uuid, rows: i64) -> QueryResult<Vec<Ours>> {
        match self.book {
            Book::Payments => rows_of!(charges, self.account_id)
                .filter(charges::id.ge(from))
                .filter(charges::id.lt(before))
                .order(charges::id)
                .limit(rows)
                .load(conn),
            Book::Refunds => rows_of!(refunds, self.account_id)
                .filter(refunds::id.ge(from))
                .filter(refunds::id.lt(before))
                .order(refunds::id)
                .limit(rows)
                .load(conn),
        }
    }

    /// `charge` or `refund`.
    pub const fn kind(self) -> &'static str {
        match self.book {
            Book::Payments => "charge",
            Book::Refunds => "refund",
        }
    }

    /// The path of a row in the API.
    pub fn location(self, id: Uuid) -> String {
        match self.book {
            Book::Payments => crate::shop::charges::location(id),
            Book::Refunds => crate::shop::refunds::location(id),
        }
    }
}
