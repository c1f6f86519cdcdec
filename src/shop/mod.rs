//! The business. CONTRIBUTING.md says where the parts of a feature are.

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

use crate::http::{ApiError, Endpoint};
use checked_body::{Form, Text, text};
use serde_json::json;
use stripe_gateway::currency;

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

/// The longest name for machines. A constraint of the tables has the same limit.
const MAX_SLUG: usize = 64;

/// A name for machines, such as a SKU or a feature.
const SLUG: Form<String> = Form {
    parse: |text| {
        let is_slug = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        ((1..=MAX_SLUG).contains(&text.len()) && text.bytes().all(is_slug)).then(|| text.to_owned())
    },
    fault: "must be 1 to 64 of the characters A-Z a-z 0-9 . _ -",
    schema: || {
        let pattern = format!("^[A-Za-z0-9._-]{{1,{MAX_SLUG}}}$");
        json!({"type": "string", "minLength": 1, "maxLength": MAX_SLUG, "pattern": pattern})
    },
};

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
