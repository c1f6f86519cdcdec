//! Pages for people: the stage, the interactive documentation, the problems and the policies.
//!
//! Guarantees: every page has the Content-Security-Policy of `assets.rs`, which allows nothing inline and no other host. Every
//! page and file has an `ETag`. Without the demo, the server has no stage and no sources.
//!
//! Not guaranteed: that `/docs` works without JavaScript. `/` then shows a still picture and the words.

mod assets;
mod docs;
mod layout;
mod problems;

use std::fmt::Write as _;

use actix_web::http::Method;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};

pub(crate) use self::assets::source as source_text;
use self::docs::{docs, docs_file};
use self::layout::{navigation, nothing, page};
use self::problems::{problem, problem_list, wants_html};
use super::table::{anchor, escape, inline};
use crate::http::ApiError;
use crate::http::endpoint::{Api, Endpoint, undescribed};
use crate::http::problems::NOT_FOUND;

/// Whether the server has the demo: the stage, and the sources to which the stage links.
#[derive(Clone, Copy, Debug)]
pub struct Demo(pub bool);

/// Only the demo serves the sources.
pub(super) fn endpoints(demo: bool) -> Vec<Endpoint> {
    let mut pages = vec![
        undescribed("GET", "/", home),
        undescribed("GET", "/docs", docs),
        undescribed("GET", "/docs/", docs),
        undescribed("GET", "/docs/{file}", docs_file),
        undescribed("GET", "/problems", problem_list),
        undescribed("GET", "/problems/", problem_list),
        undescribed("GET", "/problems/{slug}", problem),
        undescribed("GET", "/policies", policies),
        undescribed("GET", "/assets/{file:.*}", asset),
    ];
    if demo {
        pages.push(undescribed("GET", "/source/{file:.*}", source));
    }
    pages
}

/// The stage. Without the demo, a small page.
async fn home(request: HttpRequest, demo: Data<Demo>) -> Result<HttpResponse, ApiError> {
    if !demo.0 {
        return Ok(page(&request, "/", "Idempotent payments", "", &assets::text("home.html")?));
    }
    // The file is a complete page with relative links, so that it works as a plain file on any host, at `stage/` in a
    // copy of `assets`. Here it is at `/`, links to the server's other pages, and can start runs.
    let html = assets::text("stage/index.html")?
        .replacen("<html lang=\"en\">", "<html lang=\"en\" data-server>", 1)
        .replacen("<!--pages-->", &navigation(&request, "/"), 1)
        .replace("href=\"./\"", "href=\"/\"")
        .replace("=\"../", "=\"/assets/")
        .replace("=\"./", "=\"/assets/stage/");
    Ok(assets::answer(&request, "text/html; charset=utf-8", html.into_bytes()))
}

/// For a path where nothing is: a page for a browser, a problem document for any other client.
pub(super) async fn nothing_here(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    if !wants_html(&request) || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(ApiError::new(&NOT_FOUND, "there is nothing at this path"));
    }
    let main = "<main id=\"main\" class=\"page\"><p class=\"eyebrow\">404</p><h1>There is nothing here</h1>\
         <p class=\"lead\">The address may be mistyped. <a href=\"/\">The front page</a> and <a href=\"/docs\">the API docs</a> \
         lead to everything that is there.</p></main>";
    Ok(nothing(&request, "", "Nothing here", main))
}

/// For people, what `GET /v1/policies` is for programs.
async fn policies(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let table = super::policies::table(&api).html(|route| (anchor(route), inline(route)));
    let main = assets::text("policies.html")?.replace("{policies}", &table);
    Ok(page(&request, "/policies", "Policies and guarantees", "", &main))
}

async fn asset(request: HttpRequest, file: Path<String>) -> Result<HttpResponse, ApiError> {
    let bytes = assets::file(&file).ok_or_else(|| ApiError::new(&NOT_FOUND, "there is no such file"))?;
    Ok(assets::answer(&request, assets::content_type(&file), bytes))
}

async fn source(request: HttpRequest, file: Path<String>) -> Result<HttpResponse, ApiError> {
    let text = assets::source(&file).ok_or_else(|| ApiError::new(&NOT_FOUND, "there is no such source file"))?;
    let name = escape(&file);
    let mut lines = String::new();
    for (number, line) in text.lines().enumerate() {
        // Writing to a string can't fail.
        let _ = writeln!(lines, "<span id=\"L{}\">{}</span>", number + 1, escape(line));
    }
    let main = format!(
        "<main id=\"main\" class=\"page wide\"><p class=\"eyebrow\">Source</p><h1 class=\"path\">{name}</h1>\
         <pre class=\"source\" tabindex=\"0\"><code>{lines}</code></pre></main>"
    );
    Ok(page(&request, "", &name, "", &main))
}
