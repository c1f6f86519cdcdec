//! The problems that the bodies of operations decide on. Those that follow from a route and its policy are not here.

use crate::problems::{
    CARD_DECLINED, CHARGE_NOT_REFUNDABLE, DATABASE_UNAVAILABLE, ENTITLEMENT_INACTIVE, GATEWAY_FAILED, INVALID_REQUEST,
    KEY_EXPIRED, MIXED_CURRENCIES, NOT_FOUND, ORDER_NOT_CANCELABLE, ORDER_NOT_PAYABLE, OUT_OF_STOCK, Problem,
    QUOTA_EXCEEDED, REFUND_EXCEEDS_CHARGE, SETTLEMENT_IN_PROGRESS, UNKNOWN_PRODUCT,
};

/// By method and path template.
static OWN: &[(&str, &[&Problem])] = &[
    ("PUT /v1/products/{sku}", &[&OUT_OF_STOCK]),
    ("POST /v1/orders", &[&OUT_OF_STOCK, &UNKNOWN_PRODUCT, &MIXED_CURRENCIES]),
    ("POST /v1/orders/{id}/cancel", &[&ORDER_NOT_CANCELABLE, &SETTLEMENT_IN_PROGRESS]),
    (
        "POST /v1/charges",
        &[&CARD_DECLINED, &GATEWAY_FAILED, &NOT_FOUND, &ORDER_NOT_PAYABLE, &SETTLEMENT_IN_PROGRESS, &KEY_EXPIRED],
    ),
    (
        "POST /v1/charges/{id}/refunds",
        &[&GATEWAY_FAILED, &CHARGE_NOT_REFUNDABLE, &REFUND_EXCEEDS_CHARGE, &SETTLEMENT_IN_PROGRESS, &KEY_EXPIRED],
    ),
    ("POST /v1/entitlements", &[&INVALID_REQUEST]),
    ("POST /v1/entitlements/{id}/consume", &[&QUOTA_EXCEEDED, &ENTITLEMENT_INACTIVE]),
    ("POST /v1/entitlements/{id}/revoke", &[&ENTITLEMENT_INACTIVE]),
    ("GET /health/ready", &[&DATABASE_UNAVAILABLE]),
];

/// What the operation at this route decides on.
pub fn of_route(route: &str) -> &'static [&'static Problem] {
    OWN.iter().find(|(of, _)| *of == route).map_or(&[], |(_, problems)| problems)
}
