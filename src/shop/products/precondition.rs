//! `If-Match`: the versions of a product that a PUT may replace.

use actix_web::HttpRequest;
use actix_web::http::header::{EntityTag, HeaderValue, IF_MATCH};

use crate::http::ApiError;
use crate::http::problems::{MALFORMED_REQUEST, PRECONDITION_FAILED};

/// The versions that the client named.
pub(super) enum IfMatch {
    /// `*`: any version.
    Any,
    /// One of these.
    Tags(Vec<EntityTag>),
}

impl IfMatch {
    /// The precondition, if there is one. A header that can't be read is an error, and not "no precondition".
    pub(super) fn of(request: &HttpRequest) -> Result<Option<Self>, ApiError> {
        if !request.headers().contains_key(IF_MATCH) {
            return Ok(None);
        }
        let lines: Result<Vec<_>, _> = request.headers().get_all(IF_MATCH).map(HeaderValue::to_str).collect();
        let list = lines.unwrap_or_default().join(",");
        match tags(&list) {
            _ if list.trim() == "*" => Ok(Some(Self::Any)),
            Some(tags) if !tags.is_empty() => Ok(Some(Self::Tags(tags))),
            _ => Err(ApiError::new(
                &MALFORMED_REQUEST,
                "If-Match must be * or ETags, each with its quotes, as the ETag header has them",
            )),
        }
    }

    /// Refuses a product whose version is not one of these. By RFC 9110 a weak tag never matches.
    pub(super) fn check(&self, version: &EntityTag) -> Result<(), ApiError> {
        let Self::Tags(tags) = self else { return Ok(()) };
        if tags.iter().any(|tag| tag.strong_eq(version)) {
            return Ok(());
        }
        Err(failed(if tags.iter().any(|tag| tag.weak_eq(version)) {
            "If-Match names the product's version, but with a weak ETag, which never matches: leave out the W/ \
             (a proxy that compresses answers makes their ETags weak)"
        } else {
            "the product was changed since"
        }))
    }
}

/// 412.
pub(super) fn failed(how: &str) -> ApiError {
    ApiError::new(&PRECONDITION_FAILED, how.to_owned())
}

/// A list of tags. None: one of them is no tag of this API, whose tags have quotes and no comma.
fn tags(list: &str) -> Option<Vec<EntityTag>> {
    let tags = list.split(',').map(|tag| tag.trim_matches([' ', '\t'])).filter(|tag| !tag.is_empty());
    tags.map(|tag| tag.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_etags_are_read() {
        let (strong, weak) =
            (|tag: &str| EntityTag::new_strong(tag.to_owned()), |tag: &str| EntityTag::new_weak(tag.to_owned()));
        let list = tags(" ,\"a\" , W/\"b\",\"\"\t,");
        assert_eq!(list, Some(vec![strong("a"), weak("b"), strong("")]));
        for wrong in [
            "a",
            "\"a",
            "a\"",
            "\"a\"b",
            "\"a\" \"b\"",
            "\"a,b\"",
            "w/\"a\"",
            "W/a",
            "W/",
            "\"a\", b",
            "*, \"a\"",
            "\"a b\"",
        ] {
            assert_eq!(tags(wrong), None, "{wrong}");
        }
    }
}
