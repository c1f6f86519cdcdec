//! `If-Match`: the versions of a product that a PUT may replace.

use actix_web::HttpRequest;
use actix_web::http::header::{EntityTag, IF_MATCH};

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
    /// The precondition, if there is one. A header that can't be read is an error, not "no precondition".
    pub(super) fn of(request: &HttpRequest) -> Result<Option<Self>, ApiError> {
        let unreadable = |detail: &str| ApiError::new(&MALFORMED_REQUEST, detail.to_owned());
        let mut lines = Vec::new();
        for line in request.headers().get_all(IF_MATCH) {
            lines.push(line.to_str().map_err(|_| unreadable("If-Match must be ASCII"))?);
        }
        match lines.join(",").trim() {
            _ if lines.is_empty() => Ok(None),
            "*" => Ok(Some(Self::Any)),
            list => match tags(list) {
                Some(tags) if !tags.is_empty() => Ok(Some(Self::Tags(tags))),
                _ => Err(unreadable("If-Match must be * or ETags, each with its quotes, as the ETag header has them")),
            },
        }
    }

    /// Refuses a product whose version is not one of these. Under RFC 9110 a weak tag never matches.
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

/// A list of tags. None if a tag has no quotes, or something follows them.
fn tags(mut list: &str) -> Option<Vec<EntityTag>> {
    let mut tags = Vec::new();
    loop {
        list = list.trim_start_matches([' ', '\t', ',']);
        if list.is_empty() {
            return Some(tags);
        }
        // An ETag may contain a comma, so it ends at its second quote.
        let start = if list.starts_with("W/") { "W/\"".len() } else { "\"".len() };
        let end = start + list.get(start..)?.find('"')? + 1;
        tags.push(list[..end].parse().ok()?);
        list = list[end..].trim_start_matches([' ', '\t']);
        if !list.is_empty() && !list.starts_with(',') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_read_as_rfc_9110_writes_them() {
        let (strong, weak) =
            (|tag: &str| EntityTag::new_strong(tag.to_owned()), |tag: &str| EntityTag::new_weak(tag.to_owned()));
        let list = tags(" ,\"a\" , W/\"b\",\"c,d\",\"\"\t,");
        assert_eq!(list, Some(vec![strong("a"), weak("b"), strong("c,d"), strong("")]));
        for wrong in
            ["a", "\"a", "a\"", "\"a\"b", "\"a\" \"b\"", "w/\"a\"", "W/a", "W/", "\"a\", b", "*, \"a\"", "\"a b\""]
        {
            assert_eq!(tags(wrong), None, "{wrong}");
        }
    }
}
