//! `/docs`: Swagger UI in our own page, since Swagger UI's does not work with our Content-Security-Policy.

use std::sync::Arc;

use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui::{Config, serve};

use super::assets;
use super::layout::page;
use crate::http::ApiError;
use crate::http::problems::NOT_FOUND;

const HEAD: &str = "<link rel=\"stylesheet\" href=\"/docs/swagger-ui.css\">\
     <link rel=\"stylesheet\" href=\"/assets/docs.css\">\
     <script src=\"/docs/swagger-ui-bundle.js\" defer></script>\
     <script type=\"module\" src=\"/assets/docs.js\"></script>";

const MAIN: &str = "<main id=\"main\" class=\"docs\"><noscript><p>This page needs JavaScript. \
     <a href=\"/openapi.json\">/openapi.json</a> has the same content.</p></noscript><div id=\"swagger-ui\"></div></main>";

pub async fn docs(request: HttpRequest) -> HttpResponse {
    page(&request, "/docs", "API docs", HEAD, MAIN)
}

/// A script or a style of `/docs`.
pub async fn docs_file(request: HttpRequest, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let nothing = || ApiError::new(&NOT_FOUND, "the documentation has no such file");
    // Swagger UI's own page and its script are left out: `HEAD` and `assets/docs.js` replace them.
    if name.starts_with("index.") || name.as_str() == "swagger-initializer.js" {
        return Err(nothing());
    }
    let found = serve(&name, Arc::new(Config::from("/openapi.json"))).map_err(ApiError::internal)?;
    let file = found.ok_or_else(nothing)?;
    Ok(assets::answer(&request, &file.content_type, file.bytes))
}
