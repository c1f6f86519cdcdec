//! The business. A feature reads top to bottom: policy, body, handler, queries.

pub mod charges;
pub mod entitlements;
pub mod erasure;
pub mod events;
mod ledger;
pub mod metadata;
pub mod orders;
pub mod payments;
mod processing;
pub mod products;
pub mod reconciliation;
pub mod refunds;
pub mod status;
pub mod webhooks;

use crate::gateway::currency;
use crate::http::rules::{Text, text};
use crate::http::{ApiError, Endpoint};

/// The endpoints of all features, in the order of the OpenAPI document.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let features = [
        products::endpoints(),
        orders::endpoints(),
        payments::endpoints(),
        charges::reads::endpoints(),
        refunds::reads::endpoints(),
        entitlements::endpoints(),
        entitlements::reads::endpoints(),
        events::endpoints(),
    ];
    features.into_iter().flatten().collect()
}

/// The merchant's name for its customer. A constraint of the tables has the same limit.
const CUSTOMER: Text = text(255);

/// The gateway can't express every amount of every currency.
///
/// # Errors
/// 422 invalid-request, pointing at the member that the amount comes from.
fn check_expressible(amount: i64, code: &str, pointer: &str) -> Result<(), ApiError> {
    if currency::to_gateway(amount, code).is_some() {
        return Ok(());
    }
    let detail = format!("the gateway takes only multiples of {} in {code}", currency::step(code));
    Err(ApiError::invalid_member(pointer, detail))
}
