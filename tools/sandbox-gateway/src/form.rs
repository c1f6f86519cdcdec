//! Parameters as Stripe's clients send them: form-encoded, with `a[b]` for maps and `a[]` or `a[0]` for lists.

use std::collections::BTreeMap;

use super::refusal::Refusal;

/// The parameters that nobody has taken yet.
#[derive(Clone, Debug)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// # Errors
    /// If the text is not form-encoded, or if it has a scalar parameter twice.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let wrong = |message: String| Refusal::parameter("", None, message);
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_bytes(text).map_err(|error| wrong(error.to_string()))?;
        let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (without_index(name), value)).collect();
        let mut names: Vec<_> = pairs.iter().map(|(name, _)| name).filter(|name| !name.ends_with("[]")).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find_map(|pair| (pair[0] == pair[1]).then_some(pair[0])) {
            return Err(wrong(format!("Received the parameter {twice} twice.")));
        }
        Ok(Self(pairs))
    }

    /// The same text for the same parameters in another order.
    pub fn canonical(&self) -> String {
        let mut pairs = self.0.clone();
        pairs.sort();
        serde_json::json!(pairs).to_string()
    }

    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(known, _)| known == name).map(|(_, value)| value).collect()
    }

    /// The parameters `name[key]`.
    pub fn take_map(&mut self, name: &str) -> BTreeMap<String, String> {
        let key = |known: &str| {
            let key = known.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
            Some(key.to_owned())
        };
        let entries = self.0.extract_if(.., |(known, _)| key(known).is_some());
        entries.filter_map(|(known, value)| Some((key(&known)?, value))).collect()
    }

    /// A boolean, false if it is missing.
    ///
    /// # Errors
    /// If it is neither `true` nor `false`.
    pub fn truth(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Refusal::parameter(name, None, format!("Invalid boolean: {other}"))),
        }
    }

    /// # Errors
    /// If a parameter was not taken.
    pub fn end(self) -> Result<(), Refusal> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("Received unknown parameter: {name}");
                Err(Refusal::parameter(&name, Some("parameter_unknown"), message))
            }
        }
    }
}

/// `a[0]` as `a[]`.
fn without_index(name: String) -> String {
    match name.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) {
        Some((list, index))
            if !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()) && !list.contains('[') =>
        {
            format!("{list}[]")
        }
        _ => name,
    }
}
