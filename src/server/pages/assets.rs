//! The files in the binary. Each answer has an `ETag` and the same Content-Security-Policy. The tag is weak, since the
//! bytes may be compressed on the way.
//!
//! A debug build reads the files from disk for each request, so you can change a page without compiling.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETag, EntityTag, Header, IfNoneMatch, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest, Sha256};

use crate::http::ApiError;

/// Everything comes from this host, and nothing is inline. Only images may be `data:`, because Swagger UI's icons are.
pub const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "src/server/pages/assets"]
struct Assets;

#[derive(RustEmbed)]
#[folder = "src"]
struct Service;

#[derive(RustEmbed)]
#[folder = "crates/idempotency/src"]
struct Idempotency;

#[derive(RustEmbed)]
#[folder = "crates/external-calls/src"]
struct ExternalCalls;

#[derive(RustEmbed)]
#[folder = "parts/stripe-gateway/src"]
struct StripeGateway;

/// Gets a file of a folder by its name there.
type Get = fn(&str) -> Option<EmbeddedFile>;

/// The folders with sources that are shown.
const SOURCES: [(&str, Get); 4] = [
    ("src/", Service::get),
    ("crates/idempotency/src/", Idempotency::get),
    ("crates/external-calls/src/", ExternalCalls::get),
    ("parts/stripe-gateway/src/", StripeGateway::get),
];

/// A file of `src/server/pages/assets`.
pub fn file(name: &str) -> Option<Cow<'static, [u8]>> {
    Assets::get(name).map(|file| file.data)
}

/// A text of `src/server/pages/assets`. A missing file is a defect.
pub fn text(name: &str) -> Result<String, ApiError> {
    let bytes = file(name).ok_or_else(|| ApiError::internal(format!("{name} is not built in")))?;
    String::from_utf8(bytes.into_owned()).map_err(ApiError::internal)
}

/// A Rust file of the service, of its two crates or of the gateway's client, by its path in the repository.
pub fn source(path: &str) -> Option<String> {
    let path = path.strip_suffix(".rs").map(|_| path)?;
    let file = SOURCES.into_iter().find_map(|(folder, get)| get(path.strip_prefix(folder)?))?;
    String::from_utf8(file.data.into_owned()).ok()
}

/// The media type, by the end of the file's name.
pub fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

/// 200 with the bytes, or 304 if the client already has the bytes.
pub fn answer(request: &HttpRequest, content_type: &str, bytes: impl Into<Cow<'static, [u8]>>) -> HttpResponse {
    answer_with(request, StatusCode::OK, content_type, bytes)
}

/// As [`answer`], with another status.
pub fn answer_with(
    request: &HttpRequest,
    status: StatusCode,
    content_type: &str,
    bytes: impl Into<Cow<'static, [u8]>>,
) -> HttpResponse {
    let bytes = bytes.into();
    let tag = tag_of(&bytes);
    let unchanged = status == StatusCode::OK && has(request, &tag);
    let mut response = HttpResponse::build(if unchanged { StatusCode::NOT_MODIFIED } else { status });
    response
        .insert_header((CONTENT_SECURITY_POLICY, CSP))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        // The client asks each time and mostly gets a 304, so a page and its files always have the same version.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(ETag(tag));
    if unchanged {
        // The compression adds this header to what it compresses. A cache must get the same from a 304.
        return response.insert_header((VARY, "accept-encoding")).finish();
    }
    response.content_type(content_type).body(match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    })
}

fn has(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|other| other.weak_eq(tag)),
        Err(_) => false,
    }
}

/// Half of the SHA-256: 128 bits, so two versions of a file never share a tag by chance.
fn tag_of(bytes: &[u8]) -> EntityTag {
    let digest = Sha256::digest(bytes);
    let half = digest.iter().take(16).fold(0_u128, |number, &byte| (number << 8) | u128::from(byte));
    EntityTag::new_weak(format!("{half:032x}"))
}
