//! The message about a setting with a wrong value: one line that names the variable.

/// How many characters of a wrong value are shown, so that the error fits on one line of a screen.
const SHOWN: usize = 80;

/// What is shown in place of a secret.
pub(crate) const HIDDEN: &str = "..";

/// A setting with a wrong value.
#[derive(Debug, thiserror::Error)]
#[error("{name}=\"{value}\" is wrong: {right}")]
pub struct Wrong {
    name: String,
    value: String,
    right: String,
}

impl Wrong {
    /// `right` says what a right value looks like.
    pub(crate) fn new(name: &str, value: &str, right: impl Into<String>) -> Self {
        let shown: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        let dots = if value.chars().count() > SHOWN { ".." } else { "" };
        Self { name: name.to_owned(), value: format!("{shown}{dots}"), right: right.into() }
    }
}
