//! What a reconciliation tells.

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

/// A difference.
#[derive(Clone, Debug, Serialize)]
pub struct Difference<'a> {
    /// What differs.
    pub finding: Finding,
    /// `charge` or `refund`.
    pub kind: &'static str,
    /// The account.
    pub account_id: Uuid,
    /// The path of our charge or refund, if there is one.
    pub location: Option<String>,
    /// The id of the gateway's object, if it is known.
    pub gateway_id: Option<&'a str>,
    /// The name of both.
    pub reference: &'a str,
    /// Our side.
    pub here: Option<&'a Ours>,
    /// The gateway's side.
    pub there: Option<&'a Entry>,
}
