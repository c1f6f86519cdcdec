//! Shapes that the wire has and the code doesn't: strings that the database's CHECKs hold to a few words.

use utoipa::ToSchema;

/// Where an order stands.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Made, and not paid.
    Pending,
    /// Paid by a charge.
    Paid,
    /// Canceled before it was paid.
    Canceled,
    /// Paid and given back whole.
    Refunded,
}

/// Where a charge or refund stands.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum PaymentStatus {
    /// The gateway's outcome is not known yet.
    Processing,
    /// The money moved.
    Succeeded,
    /// No money moved.
    Failed,
}
