//! The policies as data: for `GET /v1/policies`, the page of the policies, and the table in the docs.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;

use super::table::Table;
use crate::http::Page;
use crate::http::auth::Account;
use crate::http::endpoint::{Api, Endpoint, endpoint};
use idempotency::{Failures, Policy};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_list, list)]
}

/// `GET /v1/policies`: all policies on one page.
#[utoipa::path(get, path = "/v1/policies", operation_id = "listPolicies", tag = "Idempotency", summary = "List policies",
    description = "Returns what each endpoint does with a retry: the data that the server itself follows.",
    responses((status = 200, body = Page<Policy>, description = "Every policy, on one page")))]
pub async fn list(_: Account, api: Data<Api>) -> HttpResponse {
    HttpResponse::Ok().json(Page { data: api.policies().copied().collect(), has_more: false })
}

/// The policies as a table, one row each.
#[must_use]
pub fn table(api: &Api) -> Table {
    let row = |policy: &Policy| {
        let failures = match policy.failures {
            Failures::SuccessOnly => "success-only".to_owned(),
            Failures::CacheFailures { failure_ttl } => format!("cache-failures {}", span(failure_ttl)),
        };
        vec![
            format!("`{}`", policy.route),
            policy.scope.as_str().to_owned(),
            failures,
            span(policy.success_ttl),
            span(policy.wait),
        ]
    };
    Table {
        columns: &["endpoint", "key is unique per", "failures", "success is replayed for", "a duplicate waits"],
        rows: api.policies().map(row).collect(),
    }
}

fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds >= 3600 && seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds => format!("{seconds} s"),
    }
}
