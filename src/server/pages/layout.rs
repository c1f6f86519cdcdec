//! What all pages share: the head, and the header with links to the stage, the documentation, the problems and the policies.

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::{Demo, assets};

/// Which entry of the header a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Home,
    Docs,
    Problems,
    Policies,
    Elsewhere,
}

const ENTRIES: [(Place, &str, &str); 3] = [
    (Place::Docs, "/docs", "API docs"),
    (Place::Problems, "/problems", "Problems"),
    (Place::Policies, "/policies", "Policies"),
];

/// The picture of `assets/icon.svg`, in the colours of the page.
const MARK: &str = "<svg viewBox=\"0 0 32 32\" aria-hidden=\"true\"><path d=\"M27 16a11 11 0 1 1-3.6-8.1M24.2 2.8v5.4h-5.4\"/>\
     <circle cx=\"16\" cy=\"16\" r=\"3.4\"/></svg>";

/// A page. `title`, `head` and `main` are HTML.
pub fn page(request: &HttpRequest, place: Place, title: &str, head: &str, main: &str) -> HttpResponse {
    page_with(request, StatusCode::OK, place, title, head, main)
}

/// As [`page`], with another status.
pub fn page_with(
    request: &HttpRequest,
    status: StatusCode,
    place: Place,
    title: &str,
    head: &str,
    main: &str,
) -> HttpResponse {
    let name = if title == "Idempotent payments" { String::new() } else { " · Idempotent payments".to_owned() };
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}{name}</title>\n\
         <link rel=\"icon\" href=\"/assets/icon.svg\" type=\"image/svg+xml\">\n\
         <link rel=\"stylesheet\" href=\"/assets/base.css\">\n{head}\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n{}\n{main}\n</body>\n</html>\n",
        header(request, place)
    );
    assets::answer_with(request, status, "text/html; charset=utf-8", html.into_bytes())
}

fn header(request: &HttpRequest, place: Place) -> String {
    format!(
        "<header class=\"top\"><a class=\"brand\" href=\"/\">{MARK}<span>Idempotent payments</span></a>{}</header>",
        navigation(request, place)
    )
}

/// The links to the pages of this server.
pub fn navigation(request: &HttpRequest, place: Place) -> String {
    let demo = request.app_data::<Data<Demo>>().is_some_and(|demo| demo.0);
    let home = (Place::Home, "/", if demo { "Break it" } else { "Home" });
    let mut entries = String::new();
    for (of, path, name) in [home].into_iter().chain(ENTRIES) {
        let current = if of == place { " aria-current=\"page\"" } else { "" };
        // Writing to a string can't fail.
        let _ = write!(entries, "<li><a href=\"{path}\"{current}>{name}</a></li>");
    }
    format!("<nav aria-label=\"Pages\"><ul>{entries}</ul></nav>")
}
