//! The names of a request: our id, the client's name, and the trace id.

use actix_web::http::header::{AsHeaderName, HeaderMap, HeaderName};
use uuid::Uuid;

/// The id of this request. The log shows the same id.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The trace and the span of the client (W3C Trace Context).
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What tracing systems on the way add to `traceparent`.
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest name that a client may give its request, in characters. Three UUIDs fit, and the log line stays short.
const LONGEST: usize = 128;

/// The names of one request.
pub(super) struct Names {
    /// The client's `X-Request-Id` if it is a UUID, else a random UUID.
    pub id: Uuid,
    /// The client's `X-Request-Id` if it is not a UUID.
    pub clients: Option<String>,
    /// The trace id of `traceparent`: 32 hexadecimal digits.
    pub trace: Option<String>,
}

impl Names {
    /// Ignores a name that is malformed, too long or sent twice. No request fails because of its names.
    pub fn of(headers: &HeaderMap) -> Self {
        let clients = single(headers, &X_REQUEST_ID).filter(|name| is_word(name));
        let id = clients.and_then(uuid);
        let trace = single(headers, &TRACEPARENT).and_then(trace_id).map(str::to_owned);
        Self {
            id: id.unwrap_or_else(Uuid::new_v4),
            clients: clients.filter(|_| id.is_none()).map(str::to_owned),
            trace,
        }
    }
}

/// The value of a header, if it is sent exactly once.
pub(super) fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name);
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn is_word(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '+' | '=' | '@');
    (1..=LONGEST).contains(&name.len()) && name.chars().all(allowed)
}

/// A UUID spelt with hyphens. The nil UUID is ignored.
fn uuid(name: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(name).ok()?;
    (name.len() == uuid::fmt::Hyphenated::LENGTH && !id.is_nil()).then_some(id)
}

/// `00-<trace id>-<parent id>-<flags>`. A later version may have more parts.
fn trace_id(value: &str) -> Option<&str> {
    let mut parts = value.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_set = |part: &str| part.bytes().any(|byte| byte != b'0');
    let is_well_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    let is_over = parts.next().is_none() || version != "00";
    (is_well_formed && version != "ff" && is_set(trace) && is_set(parent) && is_over).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_taken_from_a_well_formed_traceparent_only() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace_id(&format!("00-{trace}-b7ad6b7169203331-01")), Some(trace));
        assert_eq!(trace_id(&format!("01-{trace}-b7ad6b7169203331-01-more")), Some(trace));
        for wrong in [
            format!("00-{trace}-b7ad6b7169203331-01-more"),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-b7ad6b7169203331"),
            trace.to_owned(),
        ] {
            assert_eq!(trace_id(&wrong), None, "{wrong}");
        }
    }
}
