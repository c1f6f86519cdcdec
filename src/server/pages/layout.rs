//! What all pages share: the head, and the header with links to the stage, the documentation, the problems and the policies.

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, VARY};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::{Demo, assets};

const ENTRIES: [(&str, &str); 3] = [("/docs", "API docs"), ("/problems", "Problems"), ("/policies", "Policies")];

/// The picture of `assets/icon.svg`, in the colours of the page.
const MARK: &str = "<svg viewBox=\"0 0 32 32\" aria-hidden=\"true\"><path d=\"M27 16a11 11 0 1 1-3.6-8.1M24.2 2.8v5.4h-5.4\"/>\
     <circle cx=\"16\" cy=\"16\" r=\"3.4\"/></svg>";

const HTML: &str = "text/html; charset=utf-8";

/// A page. `at` is the path of the header's entry to which it belongs. `title`, `head` and `main` are HTML.
pub fn page(request: &HttpRequest, at: &str, title: &str, head: &str, main: &str) -> HttpResponse {
    assets::answer(request, HTML, document(request, at, title, head, main))
}

/// A page for a browser in place of a problem document: 404.
pub fn nothing(request: &HttpRequest, at: &str, title: &str, main: &str) -> HttpResponse {
    let html = document(request, at, title, "", main);
    let mut response = assets::answer_with(request, StatusCode::NOT_FOUND, HTML, html);
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

fn document(request: &HttpRequest, at: &str, title: &str, head: &str, main: &str) -> Vec<u8> {
    let name = if title == "Idempotent payments" { "" } else { " · Idempotent payments" };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}{name}</title>\n\
         <link rel=\"icon\" href=\"/assets/icon.svg\" type=\"image/svg+xml\">\n\
         <link rel=\"stylesheet\" href=\"/assets/base.css\">\n{head}\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n\
         <header class=\"top\"><a class=\"brand\" href=\"/\">{MARK}<span>Idempotent payments</span></a>{}</header>\n\
         {main}\n</body>\n</html>\n",
        navigation(request, at)
    )
    .into_bytes()
}

/// The links to the pages of this server.
pub fn navigation(request: &HttpRequest, at: &str) -> String {
    let demo = request.app_data::<Data<Demo>>().is_some_and(|demo| demo.0);
    let home = ("/", if demo { "Break it" } else { "Home" });
    let mut entries = String::new();
    for (path, name) in [home].into_iter().chain(ENTRIES) {
        let current = if path == at { " aria-current=\"page\"" } else { "" };
        // Writing to a string can't fail.
        let _ = write!(entries, "<li><a href=\"{path}\"{current}>{name}</a></li>");
    }
    format!("<nav aria-label=\"Pages\"><ul>{entries}</ul></nav>")
}
