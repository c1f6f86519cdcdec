//! The policies as data. `GET /v1/policies`, the OpenAPI document and the tables in README and docs are made of this data.

use std::fmt::Write as _;
use std::time::Duration;

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::Page;
use crate::http::auth::Account;
use crate::shop::charges::CREATE_CHARGE;
use crate::shop::entitlements::{CONSUME_ENTITLEMENT, GRANT_ENTITLEMENT, REVOKE_ENTITLEMENT};
use crate::shop::orders::{CANCEL_ORDER, CREATE_ORDER};
use crate::shop::refunds::CREATE_REFUND;
use idempotency::{Failures, Policy, Scope};

/// Every policy, in the order of the routes. The handlers run the same constants.
pub const ALL: [&Policy; 7] = [
    &CREATE_ORDER,
    &CANCEL_ORDER,
    &CREATE_CHARGE,
    &CREATE_REFUND,
    &GRANT_ENTITLEMENT,
    &CONSUME_ENTITLEMENT,
    &REVOKE_ENTITLEMENT,
];

/// The policy of a route, for example of `POST /v1/orders`, if the route has a policy.
#[must_use]
pub fn of_route(route: &str) -> Option<&'static Policy> {
    ALL.into_iter().find(|policy| policy.route == route)
}

/// The policy of one endpoint.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PolicyData {
    /// Method and path template.
    route: &'static str,
    /// The key space in which a key is unique.
    scope: ScopeName,
    /// What happens to a failure of the request.
    failures: FailureData,
    /// For how many seconds a success is replayed, counted from the moment when the success became final.
    success_ttl_seconds: u64,
    /// For how many seconds a duplicate waits for the request in flight.
    wait_seconds: u64,
}

/// The key space in which a key is unique.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScopeName {
    /// One key space over all account-scoped routes.
    Account,
    /// One key space for each route.
    Route,
    /// One key space for each route with its path ids.
    Resource,
}

/// What happens to a failure of the request itself.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct FailureData {
    /// Whether failures are stored.
    kind: FailureKind,
    /// For how many seconds a failure is replayed. Absent if failures are not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure_ttl_seconds: Option<u64>,
}

/// Whether failures are stored.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// A failure leaves nothing, and a retry runs the request again.
    SuccessOnly,
    /// A failure's reply is stored and replayed.
    CacheFailures,
}

impl From<&Policy> for PolicyData {
    fn from(policy: &Policy) -> Self {
        let scope = match policy.scope {
            Scope::Account => ScopeName::Account,
            Scope::Route => ScopeName::Route,
            Scope::Resource => ScopeName::Resource,
        };
        let failures = match policy.failures {
            Failures::SuccessOnly => FailureData { kind: FailureKind::SuccessOnly, failure_ttl_seconds: None },
            Failures::CacheFailures { failure_ttl } => {
                FailureData { kind: FailureKind::CacheFailures, failure_ttl_seconds: Some(failure_ttl.as_secs()) }
            }
        };
        Self {
            route: policy.route,
            scope,
            failures,
            success_ttl_seconds: policy.success_ttl.as_secs(),
            wait_seconds: policy.wait.as_secs(),
        }
    }
}

/// `GET /v1/policies`: all policies on one page.
#[utoipa::path(get, path = "/v1/policies", operation_id = "listPolicies", tag = "Idempotency", summary = "What a retry does, per endpoint",
    description = "Every policy, from the constants that the handlers run.",
    responses((status = 200, body = Page<PolicyData>, description = "All policies")))]
pub async fn list(_: Account) -> HttpResponse {
    HttpResponse::Ok().json(Page { data: ALL.map(PolicyData::from).to_vec(), has_more: false })
}

/// The table in README and docs.
#[must_use]
pub fn markdown() -> String {
    let mut table = String::from(
        "| endpoint | key is unique per | failures | success is replayed for | a duplicate waits |\n|---|---|---|---|---|\n",
    );
    for policy in ALL {
        let scope = word(policy.scope);
        let failures = match policy.failures {
            Failures::SuccessOnly => "success-only".to_owned(),
            Failures::CacheFailures { failure_ttl } => format!("cache-failures {}", span(failure_ttl)),
        };
        // Writing to a string can't fail.
        let _ = writeln!(
            table,
            "| `{}` | {scope} | {failures} | {} | {} |",
            policy.route,
            span(policy.success_ttl),
            span(policy.wait)
        );
    }
    table
}

/// A scope in one word.
#[must_use]
pub fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Account => "account",
        Scope::Route => "route",
        Scope::Resource => "resource",
    }
}

fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds >= 3600 && seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds => format!("{seconds} s"),
    }
}
