//! The problems of each endpoint, and the values of `retry` that follow. The OpenAPI document, the problem pages and
//! the table in docs/errors.md are generated from this data.

use std::collections::BTreeMap;

use utoipa::openapi::path::ParameterIn;

use super::table::Table;
use crate::http::endpoint::{Api, Endpoint};
use crate::http::problems::{
    ALL, DATABASE_UNAVAILABLE, INTERNAL, INVALID_REQUEST, KEY_INVALID, KEY_MISSING, KEY_REUSED, Kind,
    MALFORMED_REQUEST, METHOD_NOT_ALLOWED, NOT_FOUND, OVERLOADED, PAYLOAD_TOO_LARGE, Problem, REQUEST_IN_FLIGHT,
    REQUEST_TIMEOUT, Retry, UNAUTHORIZED, UNSUPPORTED_MEDIA_TYPE,
};
use idempotency::Failures;

/// The problems that an endpoint may answer with, by status: those that its handler declares, and those that follow
/// from its route, its parameters and its policy.
#[must_use]
pub fn problems_at(endpoint: &Endpoint) -> Vec<&'static Problem> {
    let mut problems = endpoint.decides.clone();
    if endpoint.takes(&ParameterIn::Path) {
        problems.push(&NOT_FOUND);
    }
    if endpoint.takes_body() {
        problems.extend([&MALFORMED_REQUEST, &REQUEST_TIMEOUT, &PAYLOAD_TOO_LARGE, &UNSUPPORTED_MEDIA_TYPE]);
    }
    if endpoint.policy.is_some() {
        problems.extend([&KEY_MISSING, &KEY_INVALID, &KEY_REUSED, &REQUEST_IN_FLIGHT]);
    }
    if endpoint.is_secured() {
        // An unknown query parameter is an invalid request too.
        problems.extend([&INVALID_REQUEST, &UNAUTHORIZED, &INTERNAL, &OVERLOADED, &DATABASE_UNAVAILABLE]);
    }
    problems.push(&METHOD_NOT_ALLOWED);
    problems.sort_by_key(|problem| (problem.status, problem.slug));
    problems.dedup();
    problems
}

/// The values that `retry` of a problem may have at an endpoint. There are two if the problem can arise both before the
/// handler and in it, and the policy stores failures: only the handler's failure is stored.
#[must_use]
pub fn retries_at(endpoint: &Endpoint, problem: &Problem) -> Vec<Retry> {
    let unstored = problem.retry(false);
    let Some(policy) = &endpoint.policy else { return vec![unstored] };
    if !endpoint.decides.contains(&problem) {
        return vec![unstored];
    }
    let decided = problem.retry(matches!(policy.failures, Failures::CacheFailures { .. }));
    let also_before = match *problem {
        INVALID_REQUEST => endpoint.takes_body(),
        NOT_FOUND => endpoint.takes(&ParameterIn::Path),
        _ => false,
    };
    if also_before && decided != unstored { vec![decided, unstored] } else { vec![decided] }
}

/// The values of `retry` of a problem, each with its routes. A value without routes holds at every route.
#[must_use]
pub fn retries(api: &Api, problem: &Problem) -> Vec<(Retry, Vec<String>)> {
    let mut advice: BTreeMap<Retry, Vec<String>> = BTreeMap::new();
    for endpoint in api.endpoints.iter().filter(|endpoint| endpoint.decides.contains(&problem)) {
        advice.entry(retries_at(endpoint, problem)[0]).or_default().push(endpoint.name());
    }
    // These two can also arise before the handler.
    if advice.is_empty() || matches!(*problem, NOT_FOUND | INVALID_REQUEST) {
        advice.entry(problem.retry(false)).or_default().push("everywhere else".to_owned());
    }
    if advice.len() == 1 {
        advice.values_mut().for_each(Vec::clear);
    }
    advice.into_iter().collect()
}

/// Every problem as a table, one row each.
#[must_use]
pub fn table(api: &Api) -> Table {
    let row = |problem: &&Problem| {
        let kept = match problem.kind {
            Kind::Before | Kind::Reused => "no: the request did not run",
            Kind::Final => "if the endpoint caches failures",
            Kind::Transient => "no: the cause passes",
            Kind::Outcome => "yes, with the charge or refund",
            Kind::Late => "no, but every retry gets it again",
            Kind::Broken => "no, never",
        };
        let said: Vec<_> = retries(api, problem).iter().map(|(retry, _)| format!("`{}`", retry.as_str())).collect();
        vec![
            format!("`{}`", problem.slug),
            problem.status.to_string(),
            said.join(" or "),
            problem.meaning.to_owned(),
            problem.remedy.to_owned(),
            kept.to_owned(),
        ]
    };
    Table {
        columns: &["problem", "status", "`retry`", "what it means", "what to do", "stored for retries"],
        rows: ALL.iter().map(row).collect(),
    }
}
