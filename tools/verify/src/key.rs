//! The keys that this program sends.

use hyper::header::HeaderValue;
use uuid::Uuid;

use super::words::KeyForm;

/// A new key.
pub struct Key(String);

impl Key {
    /// A random key.
    pub fn fresh() -> Self {
        Self(format!("verify-{}", Uuid::new_v4()))
    }

    /// A random key of this length.
    pub fn of_length(length: usize) -> Self {
        let mut key = Self::fresh().0;
        while key.len() < length {
            key.push('k');
        }
        Self(key)
    }

    /// The key as a header's value. A key of this module is visible ASCII, so every value is valid.
    pub fn form(&self, form: KeyForm) -> HeaderValue {
        let text = match form {
            KeyForm::Bare => self.0.clone(),
            KeyForm::Quoted => format!("\"{}\"", self.0),
        };
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("verify"))
    }
}
