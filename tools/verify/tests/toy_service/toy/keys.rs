//! Reads the key of a request.

use actix_web::HttpRequest;

use super::{Defect, State};

/// The key, or none if the request may go without a key, or the reason for a refusal.
pub fn key_of(state: &State, request: &HttpRequest) -> Result<Option<String>, &'static str> {
    let values: Vec<_> = request.headers().get_all("Idempotency-Key").collect();
    let value = match values.as_slice() {
        [] if state.defect == Defect::KeyNotRequired => return Ok(None),
        [] => return Err("the key is missing"),
        [_, _, ..] if state.defect != Defect::FirstOfTwoKeysTaken => return Err("two keys"),
        [value, ..] => value,
    };
    let text = match value.to_str() {
        Ok(text) => text.to_owned(),
        Err(_) if state.defect == Defect::AnyBytesTaken => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        Err(_) => return Err("not ASCII"),
    };
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match (quoted, state.defect) {
        (Some(_), Defect::QuotedRefused) => return Err("no quotes, please"),
        (None, Defect::BareRefused) => return Err("quotes, please"),
        _ => {}
    }
    let key = match quoted {
        Some(key) if state.defect != Defect::QuotedIsAnotherKey => key.to_owned(),
        _ => text,
    };
    match key.len() {
        0 if state.defect != Defect::EmptyKeyTaken => Err("empty"),
        200.. if state.defect == Defect::ShortKeysOnly => Err("too long"),
        256.. if state.defect != Defect::LongKeysTaken => Err("too long"),
        _ => Ok(Some(key)),
    }
}
