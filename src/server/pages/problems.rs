//! `/problems`: what each problem means, and what to do. The `type` of a problem document is the path of a page here.

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, HeaderValue, VARY};
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use super::layout::{Place, page, page_with};
use super::table;
use crate::http::ApiError;
use crate::http::problems::{self, NOT_FOUND, Problem};
use crate::server::advice;
use crate::server::openapi;

/// `GET /problems`
#[utoipa::path(get, path = "/problems", operation_id = "listProblems", tag = "Service", summary = "Every problem, as a page",
    description = "What each problem means, what to do, and whether a retry gets the same answer.",
    responses((status = 200, body = String, description = "The page", content_type = "text/html")))]
pub async fn problem_list(request: HttpRequest) -> HttpResponse {
    let link = |cell: &str| {
        let slug = cell.trim_matches('`');
        (slug.to_owned(), format!("<a href=\"/problems/{slug}\">{slug}</a>"))
    };
    let main = format!(
        "<main id=\"main\" class=\"page wide\"><h1>Problems</h1><p class=\"lead\">Every answer that is not a success is a \
         problem document (RFC 9457). Its <code>type</code> is the path of a page here. The type never changes: decide by the type.</p>\
         {}</main>",
        table::html(&advice::markdown(), link)
    );
    page(&request, Place::Problems, "Problems", "", &main)
}

/// `GET /problems/{slug}`: the page that `type` points at.
///
/// # Errors
/// 404 for another slug. A browser gets a page, another client gets a problem document.
#[utoipa::path(get, path = "/problems/{slug}", operation_id = "getProblem", tag = "Service", summary = "What a problem means, and what to do",
    description = "The page that `type` of a problem document points at.",
    params(("slug" = String, Path, description = "The last part of the problem's type", example = "card-declined")),
    responses((status = 200, body = String, description = "The page", content_type = "text/html")))]
pub async fn problem(request: HttpRequest, slug: Path<String>) -> Result<HttpResponse, ApiError> {
    if let Some(problem) = problems::ALL.iter().find(|problem| problem.slug == slug.as_str()) {
        return Ok(page(&request, Place::Problems, problem.title, "", &page_of(problem)));
    }
    if !wants_html(&request) {
        return Err(ApiError::new(&NOT_FOUND, "there is no such problem"));
    }
    let main = format!(
        "<main id=\"main\" class=\"page\"><p class=\"eyebrow\">404</p><h1>There is no such problem</h1>\
         <p class=\"lead\">No answer of this API has the type <code>/problems/{}</code>.</p>\
         <p><a href=\"/problems\">All problems</a></p></main>",
        table::escape(&slug)
    );
    let title = "No such problem";
    let mut response = page_with(&request, StatusCode::NOT_FOUND, Place::Problems, title, "", &main);
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// Whether the client is a browser. Browsers accept `text/html`. API clients accept JSON, or name nothing.
fn wants_html(request: &HttpRequest) -> bool {
    request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}

fn page_of(problem: &Problem) -> String {
    let Problem { slug, status, title, kind, meaning, remedy, .. } = problem;
    let kind = kind.for_a_person();
    // Every part is a constant of `problems.rs`, so nothing needs escaping.
    let mut main = format!(
        "<main id=\"main\" class=\"page\"><p class=\"eyebrow\"><a href=\"/problems\">Problems</a> · {status}</p>\
         <h1>{title}</h1><p><code>/problems/{slug}</code></p><h2>What it means</h2><p>{meaning}</p>\
         <h2>What to do</h2><p>{remedy}</p>"
    );
    for (retry, routes) in advice::retries(problem) {
        let says = retry.for_a_person();
        let places = if routes.is_empty() { String::new() } else { format!(" ({})", routes.join(", ")) };
        // Writing to a string can't fail.
        let _ = write!(main, "<p><code>retry: {}</code>{places} {says}</p>", retry.as_str());
    }
    let _ = write!(main, "<h2>When it arises</h2><p>It arises {kind}.</p>");
    let operations = operations_with(slug);
    if !operations.is_empty() {
        let items = operations.join("</code></li><li><code>");
        let _ =
            write!(main, "<h2>Which endpoints answer it</h2><ul class=\"plain\"><li><code>{items}</code></li></ul>");
    }
    main + "</main>"
}

/// The routes with this problem in the OpenAPI document.
fn operations_with(slug: &str) -> Vec<String> {
    let wanted = Value::from(format!("/problems/{slug}"));
    let names = |response: &Value| {
        let told = response["x-problems"].as_array().into_iter().flatten();
        told.into_iter().any(|problem| problem["type"] == wanted)
    };
    let mut routes = Vec::new();
    for (path, item) in openapi::document()["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            if operation["responses"].as_object().is_some_and(|all| all.values().any(names)) {
                routes.push(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    routes
}
