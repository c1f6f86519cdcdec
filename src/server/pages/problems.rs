//! `/problems`: what each problem means, and what to do. The `type` of a problem document is the path of a page here.

use std::fmt::Write as _;

use actix_web::http::header::ACCEPT;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};

use super::layout::{nothing, page};
use crate::http::ApiError;
use crate::http::endpoint::{Api, Endpoint};
use crate::http::problems::{self, NOT_FOUND, Problem};
use crate::server::advice;
use crate::server::table::escape;

pub async fn problem_list(request: HttpRequest, api: Data<Api>) -> HttpResponse {
    let link = |cell: &str| {
        let slug = cell.trim_matches('`');
        (slug.to_owned(), format!("<a href=\"/problems/{slug}\">{slug}</a>"))
    };
    let main = format!(
        "<main id=\"main\" class=\"page wide\"><h1>Problems</h1><p class=\"lead\">Every answer that is not a success is a \
         problem document (RFC 9457). Its <code>type</code> is the path of a page here and never changes. Its <code>retry</code> \
         says what to do next.</p>{}</main>",
        advice::table(&api).html(link)
    );
    page(&request, "/problems", "Problems", "", &main)
}

/// The page that `type` points at. For an unknown slug a browser gets a page, and any other client a problem document.
pub async fn problem(request: HttpRequest, slug: Path<String>, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    if let Some(problem) = problems::ALL.iter().find(|problem| problem.slug == slug.as_str()) {
        return Ok(page(&request, "/problems", problem.title, "", &page_of(problem, &api)));
    }
    if !wants_html(&request) {
        return Err(ApiError::new(&NOT_FOUND, "there is no such problem"));
    }
    let main = format!(
        "<main id=\"main\" class=\"page\"><p class=\"eyebrow\">404</p><h1>There is no such problem</h1>\
         <p class=\"lead\">No answer of this API has the type <code>/problems/{}</code>.</p>\
         <p><a href=\"/problems\">All problems</a></p></main>",
        escape(&slug)
    );
    Ok(nothing(&request, "/problems", "No such problem", &main))
}

/// Whether the client is a browser. Browsers accept `text/html`. API clients accept JSON, or name nothing.
pub fn wants_html(request: &HttpRequest) -> bool {
    request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}

fn page_of(problem: &Problem, api: &Api) -> String {
    let Problem { slug, status, title, kind, meaning, remedy, .. } = problem;
    let kind = kind.for_a_person();
    // Every part is a constant from `problems.rs`, so nothing needs escaping.
    let mut main = format!(
        "<main id=\"main\" class=\"page\"><p class=\"eyebrow\"><a href=\"/problems\">Problems</a> · {status}</p>\
         <h1>{title}</h1><p><code>/problems/{slug}</code></p><h2>What it means</h2><p>{meaning}</p>\
         <h2>What to do</h2><p>{remedy}</p>"
    );
    for (retry, routes) in advice::retries(api, problem) {
        let says = retry.for_a_person();
        let places = if routes.is_empty() { String::new() } else { format!(" ({})", routes.join(", ")) };
        // Writing to a string can't fail.
        let _ = write!(main, "<p><code>retry: {}</code>{places} {says}</p>", retry.as_str());
    }
    let _ = write!(main, "<h2>When it arises</h2><p>{kind}</p>");
    let answers = api.endpoints.iter().filter(|endpoint| endpoint.described.is_some());
    let answers = answers.filter(|endpoint| advice::problems_at(endpoint).contains(&problem));
    let routes: Vec<_> = answers.map(Endpoint::name).collect();
    if !routes.is_empty() {
        let items = routes.join("</code></li><li><code>");
        let _ = write!(
            main,
            "<h2>Which endpoints answer with it</h2><ul class=\"plain\"><li><code>{items}</code></li></ul>"
        );
    }
    main + "</main>"
}
