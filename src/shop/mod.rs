//! The business. A feature reads top to bottom: policy, body, handler, queries.

pub mod charges;
pub mod entitlements;
pub mod erasure;
pub mod events;
pub mod metadata;
pub mod orders;
pub mod payments;
mod processing;
pub mod products;
pub mod reconciliation;
pub mod refunds;
pub mod status;
pub mod webhooks;

use crate::http::rules::{Text, text};

/// The merchant's name for its customer. A constraint of the tables has the same limit.
const CUSTOMER: Text = text(255);
