//! What a reconciliation tells.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::compare::Finding;
use super::ours::Ours;
use crate::gateway::books::Entry;

/// What was compared so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Totals {
    /// Our charges and refunds.
    pub here: u64,
    /// The gateway's objects that this API made.
    pub there: u64,
    /// The gateway's objects that another program made.
    pub foreign: u64,
    /// What is open here, and is no difference.
    pub open: u64,
    /// The differences.
    pub differences: u64,
}

/// One side of a difference.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The side's own word.
    pub status: String,
    /// In minor units. None: the gateway's amount is none of ours.
    pub amount: Option<i64>,
    /// ISO 4217.
    pub currency: String,
    /// When that side made it.
    pub created_at: DateTime<Utc>,
}

/// A difference.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// What differs.
    pub finding: Finding,
    /// `charge` or `refund`.
    pub kind: &'static str,
    /// The account.
    pub account_id: Uuid,
    /// The path of our charge or refund, if there is one.
    pub location: Option<String>,
    /// The id of the gateway's object, if it is known.
    pub gateway_id: Option<String>,
    /// The name of both.
    pub reference: String,
    /// Our side.
    pub here: Option<Side>,
    /// The gateway's side.
    pub there: Option<Side>,
}

impl From<&Ours> for Side {
    fn from(row: &Ours) -> Self {
        let (status, currency) = (row.status.as_str().to_owned(), row.currency.clone());
        Self { status, amount: Some(row.amount), currency, created_at: row.created_at }
    }
}

impl From<&Entry> for Side {
    fn from(entry: &Entry) -> Self {
        let Entry { status, amount, currency, created_at, .. } = entry.clone();
        Self { status, amount, currency, created_at }
    }
}
