//! The problems that the body of each endpoint may decide on, and the value of `retry` that follows. The OpenAPI document, the
//! problem pages and docs/errors.md are made of this data.
//!
//! Not listed: the problems that follow from a route and its policy, for example a missing key or a 503.

use std::fmt::Write as _;

use crate::http::problems::{
    ALL, CARD_DECLINED, CHARGE_NOT_REFUNDABLE, DATABASE_UNAVAILABLE, ENTITLEMENT_INACTIVE, GATEWAY_FAILED,
    INVALID_REQUEST, KEY_EXPIRED, Kind, MIXED_CURRENCIES, NOT_FOUND, ORDER_NOT_CANCELABLE, ORDER_NOT_PAYABLE,
    OUT_OF_STOCK, PAYMENT_IN_PROGRESS, PRECONDITION_FAILED, Problem, QUOTA_EXCEEDED, REFUND_EXCEEDS_CHARGE, Retry,
    UNKNOWN_PRODUCT,
};
use crate::server::policies;

/// The problems of each route. A route is a method and a path template.
static DECIDED: &[(&str, &[&Problem])] = &[
    ("PUT /v1/products/{sku}", &[&OUT_OF_STOCK, &PRECONDITION_FAILED]),
    ("POST /v1/orders", &[&OUT_OF_STOCK, &UNKNOWN_PRODUCT, &MIXED_CURRENCIES]),
    ("POST /v1/orders/{id}/cancel", &[&NOT_FOUND, &ORDER_NOT_CANCELABLE, &PAYMENT_IN_PROGRESS]),
    (
        "POST /v1/charges",
        &[&CARD_DECLINED, &GATEWAY_FAILED, &NOT_FOUND, &ORDER_NOT_PAYABLE, &PAYMENT_IN_PROGRESS, &KEY_EXPIRED],
    ),
    (
        "POST /v1/charges/{id}/refunds",
        &[
            &GATEWAY_FAILED,
            &NOT_FOUND,
            &CHARGE_NOT_REFUNDABLE,
            &REFUND_EXCEEDS_CHARGE,
            &PAYMENT_IN_PROGRESS,
            &KEY_EXPIRED,
        ],
    ),
    ("POST /v1/entitlements", &[&INVALID_REQUEST]),
    ("POST /v1/entitlements/{id}/consume", &[&NOT_FOUND, &QUOTA_EXCEEDED, &ENTITLEMENT_INACTIVE]),
    ("POST /v1/entitlements/{id}/revoke", &[&NOT_FOUND, &ENTITLEMENT_INACTIVE]),
    ("GET /health/ready", &[&DATABASE_UNAVAILABLE]),
];

/// The problems that the body of this route may decide on.
#[must_use]
pub fn decided_at(route: &str) -> &'static [&'static Problem] {
    DECIDED.iter().find(|(of, _)| *of == route).map_or(&[], |(_, problems)| problems)
}

/// The values that `retry` of a problem may have at this route. If the policy stores failures, a 404 has two values: a path
/// id that is no UUID is refused before the body, and that refusal is not stored.
#[must_use]
pub fn retries_at(route: &str, problem: &Problem) -> Vec<Retry> {
    let unstored = problem.retry(false);
    let Some(policy) = policies::of_route(route) else { return vec![unstored] };
    let decided = problem.retry_under(policy);
    match decided_at(route).iter().any(|own| own.slug == problem.slug) {
        false => vec![unstored],
        true if problem.slug == NOT_FOUND.slug && decided != unstored && route.contains("{id}") => {
            vec![decided, unstored]
        }
        true => vec![decided],
    }
}

/// The values of `retry` of a problem, each with its routes. A value without routes holds at every route.
#[must_use]
pub fn retries(problem: &Problem) -> Vec<(Retry, Vec<&'static str>)> {
    let mut advice: Vec<(Retry, Vec<&str>)> = Vec::new();
    for (route, _) in DECIDED.iter().filter(|(_, decided)| decided.iter().any(|own| own.slug == problem.slug)) {
        let retry = retries_at(route, problem)[0];
        match advice.iter_mut().find(|(same, _)| *same == retry) {
            Some((_, routes)) => routes.push(route),
            None => advice.push((retry, vec![route])),
        }
    }
    match advice.as_mut_slice() {
        [] => vec![(problem.retry(false), Vec::new())],
        [(_, routes)] => {
            routes.clear();
            advice
        }
        _ => {
            advice.sort();
            advice
        }
    }
}

/// The table in docs/errors.md.
#[must_use]
pub fn markdown() -> String {
    let mut table = String::from(
        "| problem | status | `retry` | what it means | what to do | kept for retries |\n|---|---|---|---|---|---|\n",
    );
    for problem in ALL {
        let Problem { slug, status, kind, meaning, remedy, .. } = problem;
        let kept = match kind {
            Kind::Before | Kind::Reused => "no: the body did not run",
            Kind::Final => "if the endpoint caches failures",
            Kind::Transient => "no: the cause passes",
            Kind::Outcome => "yes, with the charge or refund",
            Kind::Late => "no, but every retry gets it again",
            Kind::Broken => "no, never",
        };
        let said: Vec<_> = retries(problem).into_iter().map(|(retry, _)| format!("`{}`", retry.as_str())).collect();
        // Writing to a string can't fail.
        let _ = writeln!(table, "| `{slug}` | {status} | {} | {meaning} | {remedy} | {kept} |", said.join(" or "));
    }
    table
}
