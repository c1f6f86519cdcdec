//! Reads an answer: whether it is a replay, until when it will be replayed, which object it names, and how many effects
//! it counts.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use serde_json::Value;

use super::send::Answer;

impl Answer {
    /// 2xx.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// 4xx.
    pub(super) fn is_refusal(&self) -> bool {
        (400..500).contains(&self.status)
    }

    /// Whether both have the same status and, as problem documents, the same `type`: a reused key and a wrong body
    /// differ, though both may be 422.
    pub(super) fn refuses_like(&self, other: &Self) -> bool {
        let kind = |answer: &Self| serde_json::from_slice::<Value>(&answer.body).ok()?.get("type").cloned();
        self.status == other.status && kind(self) == kind(other)
    }

    /// A header's value, if it is text.
    pub(super) fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers.get(name.as_ref())?.to_str().ok()
    }

    /// `Location`.
    pub(super) fn location(&self) -> Option<&str> {
        self.header(LOCATION)
    }

    /// `Retry-After` in seconds. A date is ignored, because the clocks of two machines may differ.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.header(RETRY_AFTER)?.trim().parse().ok().map(Duration::from_secs)
    }

    /// The name of the marker of a replay. `None` if there is no marker, or its value says no.
    pub(super) fn marker(&self, name: Option<&HeaderName>) -> Option<String> {
        let says_yes =
            |value: &HeaderValue| !matches!(value.as_bytes(), b"" | b"false" | b"0" | b"no" | b"MISS" | b"miss");
        let is_marker = |header: &HeaderName| match name {
            Some(name) => header == name,
            None => header.as_str().contains("idempoten") && header.as_str().contains("replay"),
        };
        named(&self.headers, |header, value| is_marker(header) && says_yes(value))
    }

    /// The header that says when a reply stops being replayed.
    pub(super) fn expiry(&self) -> Option<String> {
        let name = named(&self.headers, |header, _| {
            header.as_str().contains("idempoten") && header.as_str().contains("expir")
        })?;
        Some(format!("{name}: {}", self.header(&name).unwrap_or_default()))
    }

    /// Whether two replies name the same object: by their Locations, else by the `id` of the bodies, else by the bodies. So a
    /// reply without its Location still names its object.
    pub(super) fn names_the_same(&self, other: &Self) -> bool {
        let id = |answer: &Self| Some(serde_json::from_slice::<Value>(&answer.body).ok()?.get("id")?.to_string());
        if let Some((ours, theirs)) = self.location().zip(other.location()) {
            return ours == theirs;
        }
        match id(self).zip(id(other)) {
            Some((ours, theirs)) => ours == theirs,
            None => self.body == other.body,
        }
    }

    /// Status and body. Another check looks at the headers.
    pub(super) fn reply(&self) -> (u16, &[u8]) {
        (self.status, &self.body)
    }
}

fn named(headers: &HeaderMap, is: impl Fn(&HeaderName, &HeaderValue) -> bool) -> Option<String> {
    headers.iter().find(|(name, value)| is(name, value)).map(|(name, _)| name.to_string())
}

/// Reads a number of effects from an answer to `--count`.
pub(super) fn counted(json: &Value, pointer: Option<&str>) -> Result<u64, String> {
    const NAMES: [&str; 5] = ["count", "total", "total_count", "totalCount", "total_items"];
    let of = |value: &Value| value.as_u64().or_else(|| value.as_array().map(|array| array.len() as u64));
    if let Some(pointer) = pointer {
        let value = json.pointer(pointer).ok_or_else(|| format!("the answer has nothing at {pointer}"))?;
        return of(value).ok_or_else(|| format!("the value at {pointer} is neither an array nor a number"));
    }
    if let Some(number) = of(json).or_else(|| NAMES.iter().find_map(|name| json.get(name)?.as_u64())) {
        return Ok(number);
    }
    if json.get("has_more") == Some(&Value::Bool(true)) {
        return Err(
            "the answer is one page of several: restrict the list to the request with --vary, or ask for longer pages"
                .into(),
        );
    }
    let arrays: Vec<_> = json.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_array()).collect();
    match arrays.as_slice() {
        [array] => Ok(array.len() as u64),
        _ => Err("the answer does not say what to count: use --count-at".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;
    use serde_json::json;

    use super::*;

    #[test]
    fn effects_are_read_from_the_shapes_that_lists_have() {
        let page = json!({"data": [1, 2], "has_more": false, "links": {"next": null}});
        for (answer, pointer, number) in [
            (json!([1, 2, 3]), None, 3),
            (json!(7), None, 7),
            (json!({"items": [1], "total": 9}), None, 9),
            (page.clone(), None, 2),
            (page, Some("/data"), 2),
            (json!({"a": [1], "b": {"n": 4}}), Some("/b/n"), 4),
        ] {
            assert_eq!(counted(&answer, pointer), Ok(number), "{answer} at {pointer:?}");
        }
    }

    #[test]
    fn what_would_count_wrongly_is_refused() {
        for (answer, pointer, part) in [
            (json!({"data": [1, 2], "has_more": true}), None, "one page of several"),
            (json!({"a": [1], "b": [2]}), None, "--count-at"),
            (json!({"a": [1]}), Some("/b"), "nothing at /b"),
            (json!({"a": "1"}), Some("/a"), "neither"),
        ] {
            let refused = counted(&answer, pointer).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }

    fn answer(headers: &[(&'static str, &'static str)]) -> Answer {
        let headers =
            headers.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Answer { status: 200, headers: headers.collect(), body: Bytes::new() }
    }

    #[test]
    fn refusals_are_alike_by_status_and_by_the_problems_type() {
        let refusal = |status, body: &'static str| Answer { status, body: body.into(), ..answer(&[]) };
        let reused = refusal(422, r#"{"type":"/reused","instance":"1"}"#);
        assert!(reused.refuses_like(&refusal(422, r#"{"type":"/reused","instance":"2"}"#)));
        assert!(!reused.refuses_like(&refusal(422, r#"{"type":"/invalid","instance":"1"}"#)));
        assert!(!reused.refuses_like(&refusal(409, r#"{"type":"/reused","instance":"1"}"#)));
        assert!(refusal(405, "no").refuses_like(&refusal(405, "")));
    }

    #[test]
    fn a_marker_is_known_by_its_name_and_must_not_say_no() {
        for name in ["idempotency-replayed", "idempotent-replayed", "x-idempotent-replay", "x-idempotency-replay"] {
            assert_eq!(answer(&[(name, "true")]).marker(None).as_deref(), Some(name));
            assert_eq!(answer(&[(name, "false")]).marker(None), None);
        }
        assert_eq!(answer(&[("x-cache", "HIT")]).marker(None), None);
        let named = HeaderName::from_static("x-cache");
        assert_eq!(answer(&[("x-cache", "HIT")]).marker(Some(&named)).as_deref(), Some("x-cache"));
        assert_eq!(answer(&[("x-cache", "MISS")]).marker(Some(&named)), None);
    }
}
