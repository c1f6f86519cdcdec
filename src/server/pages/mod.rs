//! Pages for people: the playground, the interactive documentation, the problems and the policies.
//!
//! Guarantees: every page has the Content-Security-Policy of `assets.rs`, which allows nothing inline and no other host. Every
//! page and file has an `ETag`. Without the demo, the server has no playground, no sources and no gateway's books.
//!
//! Not guaranteed: that `/docs` and the playground work without JavaScript.

mod assets;
pub mod books;
mod docs;
mod layout;
mod problems;

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};

pub(crate) use self::assets::source as source_text;
pub use self::books::Books;
use self::docs::{docs, docs_file};
use self::layout::{Place, page};
use self::problems::{problem, problem_list};
use super::table::{anchor, escape, inline};
use crate::http::ApiError;
use crate::http::endpoint::{self, Api, Endpoint};
use crate::http::problems::NOT_FOUND;

/// Only the demo has the gateway's books, and the sources to which the playground links.
pub(super) fn endpoints(demo: bool) -> Vec<Endpoint> {
    let mut pages = vec![
        endpoint::page("/", home),
        endpoint::page("/docs", docs),
        endpoint::page("/docs/", docs),
        endpoint::page("/docs/{file}", docs_file),
        endpoint::page("/problems", problem_list),
        endpoint::page("/problems/", problem_list),
        endpoint::page("/problems/{slug}", problem),
        endpoint::page("/policies", policies),
        endpoint::page("/assets/{file:.*}", asset),
    ];
    if demo {
        pages.push(endpoint::page("/demo/gateway/{book}", books::read));
        pages.push(endpoint::page("/source/{file:.*}", source));
    }
    pages
}

/// The playground. Without the demo, a small page.
async fn home(request: HttpRequest, demo: Data<Option<Books>>) -> Result<HttpResponse, ApiError> {
    let (title, file, head) = if demo.is_some() {
        ("Playground", "playground.html", PLAYGROUND_HEAD)
    } else {
        ("Idempotent payments", "home.html", "")
    };
    Ok(page(&request, Place::Home, title, head, &assets::text(file)?))
}

const PLAYGROUND_HEAD: &str = "<link rel=\"stylesheet\" href=\"/assets/playground.css\">\
     <script type=\"module\" src=\"/assets/playground/main.js\"></script>";

/// The same for a person as `GET /v1/policies` for a program.
async fn policies(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let table = super::policies::table(&api).html(|route| (anchor(route), inline(route)));
    let main = assets::text("policies.html")?.replace("{policies}", &table);
    Ok(page(&request, Place::Policies, "Policies and guarantees", "", &main))
}

async fn asset(request: HttpRequest, file: Path<String>) -> Result<HttpResponse, ApiError> {
    let bytes = assets::file(&file).ok_or_else(|| ApiError::new(&NOT_FOUND, "there is no such file"))?;
    Ok(assets::answer(&request, assets::content_type(&file), bytes))
}

async fn source(request: HttpRequest, file: Path<String>) -> Result<HttpResponse, ApiError> {
    let text = assets::source(&file).ok_or_else(|| ApiError::new(&NOT_FOUND, "there is no such source file"))?;
    let name = escape(&file);
    let main = format!(
        "<main id=\"main\" class=\"page wide\"><p class=\"eyebrow\">Source</p><h1 class=\"path\">{name}</h1>\
         <pre class=\"source\" tabindex=\"0\"><code>{}</code></pre></main>",
        escape(&text)
    );
    Ok(page(&request, Place::Elsewhere, &name, "", &main))
}
