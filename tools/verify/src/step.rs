//! A request besides the endpoint's: `--setup`, `--failing-setup` or `--change`.

use std::fmt;
use std::str::FromStr;

use hyper::Method;

/// A request whose texts may have placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) body: Option<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.url)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "it must have the form 'METHOD PATH' or 'METHOD PATH BODY'";
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
    fn a_step_is_a_method_a_path_and_perhaps_a_body() {
        let step: Step = "POST  {location}/cancel {\"why\": \"a b\"}".parse().unwrap();
        assert_eq!((step.method.as_str(), step.url.as_str()), ("POST", "{location}/cancel"));
        assert_eq!(step.body.as_deref(), Some("{\"why\": \"a b\"}"));
        assert_eq!("DELETE /things/1".parse::<Step>().unwrap().body, None);
        assert!("DELETE".parse::<Step>().is_err());
    }
}
