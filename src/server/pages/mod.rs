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
mod table;

use actix_web::web::{Data, Path, ServiceConfig, resource};
use actix_web::{HttpRequest, HttpResponse};

pub use self::books::Books;
pub use self::docs::{__path_docs, __path_docs_file, docs, docs_file};
use self::layout::{Place, page};
pub use self::problems::{__path_problem, __path_problem_list, problem, problem_list};
use crate::http::ApiError;
use crate::http::problems::NOT_FOUND;

/// The routes that only the pages use. They are not part of the API, and not in its document. Only the demo has the gateway's
/// books, and the sources to which the playground links.
pub fn routes(config: &mut ServiceConfig, demo: bool) {
    config
        .service(resource("/docs/").get(docs))
        .service(resource("/problems/").get(problem_list))
        .service(resource("/assets/{file:.*}").get(asset));
    if demo {
        config
            .service(resource("/demo/gateway/{book}").get(books::read))
            .service(resource("/source/{file:.*}").get(source));
    }
}

/// `GET /`: the playground. Without the demo, a small page.
///
/// # Errors
/// 500 if the file of the page is missing, which is a defect.
#[utoipa::path(get, path = "/", operation_id = "getHome", tag = "Service", summary = "The playground",
    description = "Without the demo: a page that says what this server is, and where to look.",
    responses((status = 200, body = String, description = "The page", content_type = "text/html")))]
pub async fn home(request: HttpRequest, demo: Data<Option<Books>>) -> Result<HttpResponse, ApiError> {
    let (title, file, head) = if demo.is_some() {
        ("Playground", "playground.html", PLAYGROUND_HEAD)
    } else {
        ("Idempotent payments", "home.html", "")
    };
    Ok(page(&request, Place::Home, title, head, &assets::text(file)?))
}

const PLAYGROUND_HEAD: &str = "<link rel=\"stylesheet\" href=\"/assets/playground.css\">\
     <script type=\"module\" src=\"/assets/playground/main.js\"></script>";

/// `GET /policies`: the same for a person as `GET /v1/policies` for a program.
///
/// # Errors
/// 500 if the file of the page is missing, which is a defect.
#[utoipa::path(get, path = "/policies", operation_id = "getPoliciesPage", tag = "Service", summary = "Policies and guarantees, as a page",
    description = "What a retry does at each endpoint, and the guarantees of all endpoints.",
    responses((status = 200, body = String, description = "The page", content_type = "text/html")))]
pub async fn policies(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let table = table::html(&crate::server::policies::markdown(), |route| (table::anchor(route), table::inline(route)));
    let main = assets::text("policies.html")?.replace("{policies}", &table);
    Ok(page(&request, Place::Policies, "Policies and guarantees", "", &main))
}

async fn asset(request: HttpRequest, file: Path<String>) -> Result<HttpResponse, ApiError> {
    let bytes = assets::file(&file).ok_or_else(|| ApiError::new(&NOT_FOUND, "there is no such file"))?;
    Ok(assets::answer(&request, assets::content_type(&file), bytes))
}

async fn source(request: HttpRequest, file: Path<String>) -> Result<HttpResponse, ApiError> {
    let text = assets::source(&file).ok_or_else(|| ApiError::new(&NOT_FOUND, "there is no such source file"))?;
    let name = table::escape(&file);
    let main = format!(
        "<main id=\"main\" class=\"page wide\"><p class=\"eyebrow\">Source</p><h1 class=\"path\">src/{name}</h1>\
         <pre class=\"source\" tabindex=\"0\"><code>{}</code></pre></main>",
        table::escape(&text)
    );
    Ok(page(&request, Place::Elsewhere, &format!("src/{name}"), "", &main))
}
