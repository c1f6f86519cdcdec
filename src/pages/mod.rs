//! Pages for people: the front page, and the documentation of the API to click through. Nothing comes from another host.

use std::sync::{Arc, LazyLock};

use actix_web::HttpResponse;
use actix_web::web::Path;
use utoipa_swagger_ui::{Config, SwaggerFile, serve};

use crate::error::ApiError;
use crate::problems::{self, NOT_FOUND, Problem};

/// `GET /`
#[utoipa::path(get, path = "/", operation_id = "getHome", tag = "Service", summary = "The front page",
    description = "Where to look, and two requests to try.",
    responses((status = 200, body = String, description = "The page", content_type = "text/html")))]
pub async fn home() -> HttpResponse {
    html(include_str!("home.html"))
}

/// `GET /docs`
///
/// # Errors
/// 500, where the page is not among the files built in: a defect.
#[utoipa::path(get, path = "/docs", operation_id = "getDocs", tag = "Service", summary = "The API to click through",
    description = "Swagger UI, served from this binary.",
    responses((status = 200, body = String, description = "The page", content_type = "text/html")))]
pub async fn docs() -> Result<HttpResponse, ApiError> {
    let page = file("index.html")?;
    // The page names its files relative to a directory, and this path doesn't end with a slash.
    let page = String::from_utf8_lossy(&page.bytes).replacen("<head>", "<head><base href=\"/docs/\">", 1);
    Ok(html(page))
}

/// `GET /docs/{file}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/docs/{file}", operation_id = "getDocsFile", tag = "Service",
    summary = "A file of the documentation's page", description = "Scripts and styles of `/docs`.",
    params(("file" = String, Path, description = "The file's name", example = "swagger-ui.css")),
    responses((status = 200, body = String, description = "The file", content_type = "*/*")))]
pub async fn docs_file(name: Path<String>) -> Result<HttpResponse, ApiError> {
    let file = file(&name)?;
    Ok(HttpResponse::Ok().content_type(file.content_type).body(file.bytes.into_owned()))
}

fn file(name: &str) -> Result<SwaggerFile<'static>, ApiError> {
    // Else a badge of the page would ask a validator on another host.
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from("/openapi.json").validator_url("none")));
    let found = serve(name, Arc::clone(&CONFIG)).map_err(ApiError::internal)?;
    found.ok_or_else(|| ApiError::new(&NOT_FOUND, "the documentation has no such file"))
}

/// `GET /problems/{slug}`: the page that `type` points at.
///
/// # Errors
/// 404 for another slug.
#[utoipa::path(get, path = "/problems/{slug}", operation_id = "getProblem", tag = "Service", summary = "What a problem means, and what to do",
    description = "The page that `type` of a problem document points at.",
    params(("slug" = String, Path, description = "The last part of the problem's type", example = "card-declined")),
    responses((status = 200, body = String, description = "The page", content_type = "text/html")))]
pub async fn problem(slug: Path<String>) -> Result<HttpResponse, ApiError> {
    let problem = problems::ALL
        .iter()
        .find(|problem| problem.slug == slug.as_str())
        .ok_or_else(|| ApiError::new(&NOT_FOUND, "there is no such problem"))?;
    let Problem { slug, status, title, kind, meaning, remedy } = problem;
    let kind = kind.for_a_person();
    // Every part is a constant of `problems.rs`, so nothing needs escaping.
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>body{{font:1.1rem/1.5 system-ui;max-width:40rem;margin:3rem auto;padding:0 1rem}}code{{background:#eee}}</style>\
         <h1>{title}</h1><p><code>{status}</code> <code>/problems/{slug}</code></p>\
         <h2>What it means</h2><p>{meaning}</p><p>It arises {kind}.</p><h2>What to do</h2><p>{remedy}</p></html>\n"
    );
    Ok(html(page))
}

fn html(page: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page.into())
}
