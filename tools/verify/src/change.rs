//! `--change`: the option's form.

use std::str::FromStr;

use hyper::Method;

/// `--change`: a request whose texts may have placeholders of the first reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) body: Option<String>,
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "a change must have the form 'METHOD PATH' or 'METHOD PATH BODY'";
        let (method, rest) = text.trim().split_once(char::is_whitespace).ok_or(FORM)?;
        let (url, body) = match rest.trim_start().split_once(char::is_whitespace) {
            Some((url, body)) => (url, Some(body.trim().to_owned())),
            None => (rest.trim(), None),
        };
        let method = method.parse().map_err(|_| FORM)?;
        Ok(Self { method, url: url.to_owned(), body: body.filter(|body| !body.is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_method_a_path_and_perhaps_a_body() {
        let change: Change = "POST  {location}/cancel {\"why\": \"a b\"}".parse().unwrap();
        assert_eq!((change.method.as_str(), change.url.as_str()), ("POST", "{location}/cancel"));
        assert_eq!(change.body.as_deref(), Some("{\"why\": \"a b\"}"));
        assert_eq!("DELETE /things/1".parse::<Change>().unwrap().body, None);
        assert!("DELETE".parse::<Change>().is_err());
    }
}
