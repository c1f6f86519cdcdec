// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gateway's API key, and whether it moves real money.

use std::fmt;

use reqwest::Url;
use reqwest::header::HeaderValue;

/// The longest key. Stripe's have some hundred characters.
const LONGEST: usize = 255;

/// A secret or restricted key, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// The text is not a key of Stripe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be an API key of Stripe: sk_test_.., sk_live_.., rk_test_.. or rk_live_..")]
pub struct WrongKey;

/// Which money a gateway moves. A database stores its mode, so that charges of one mode never reach the gateway of
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A sandbox gateway, or anything else that takes a test key and is not Stripe itself.
    Sandbox,
    /// Stripe's test mode.
    Test,
    /// Real money.
    Live,
}

impl Key {
    /// A test key, for a sandbox that accepts every key of this form.
    #[must_use]
    pub fn of_sandbox() -> Self {
        Self("sk_test_sandbox".to_owned())
    }

    /// Reads a key of Stripe's form.
    ///
    /// # Errors
    /// [`WrongKey`], which does not show the text.
    pub fn parse(text: &str) -> Result<Self, WrongKey> {
        let secret = ["sk_test_", "sk_live_", "rk_test_", "rk_live_"].iter().find_map(|form| text.strip_prefix(form));
        let is_right = |rest: &str| {
            !rest.is_empty() && text.len() <= LONGEST && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if secret.is_some_and(is_right) { Ok(Self(text.to_owned())) } else { Err(WrongKey) }
    }

    /// Whether the key moves real money.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0.get(3..8) == Some("live_")
    }

    /// The value of `Authorization`, which reqwest hides.
    #[must_use]
    pub fn bearer(&self) -> HeaderValue {
        // A key has only letters, digits and underscores, so it is a valid header value.
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0)).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Mode {
    /// The mode of a gateway at this URL with this key.
    #[must_use]
    pub fn of(url: &str, key: &Key) -> Self {
        let is_stripe = Url::parse(url).is_ok_and(|url| url.host_str() == Some("api.stripe.com"));
        match (key.is_live(), is_stripe) {
            (true, _) => Self::Live,
            (false, true) => Self::Test,
            (false, false) => Self::Sandbox,
        }
    }

    /// The word for the database and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Test => "test",
            Self::Live => "live",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_stripes_form_and_is_never_shown() {
        for right in ["sk_test_sandbox", "sk_live_51Ab", "rk_test_1_2", "rk_live_x"] {
            let key = Key::parse(right).unwrap();
            assert!(!format!("{key:?}").contains(&right[8..]), "{key:?}");
            assert_eq!(key.is_live(), right.contains("live"), "{right}");
        }
        for wrong in ["", "sk_test_", "pk_test_1", "sk_demo_acme", "sk_test_a b", "sk_test_a\n", " sk_test_a"] {
            assert_eq!(Key::parse(wrong), Err(WrongKey), "{wrong}");
        }
        assert_eq!(Key::parse(&format!("sk_test_{}", "a".repeat(300))), Err(WrongKey));
    }

    #[test]
    fn the_mode_follows_from_the_key_and_the_host() {
        let key = |text| Key::parse(text).unwrap();
        for (url, text, mode) in [
            ("http://127.0.0.1:8081", "sk_test_x", Mode::Sandbox),
            ("https://api.stripe.com", "sk_test_x", Mode::Test),
            ("https://api.stripe.com/", "rk_live_x", Mode::Live),
            ("https://api.stripe.com.evil.example", "sk_test_x", Mode::Sandbox),
            ("https://proxy.internal", "sk_live_x", Mode::Live),
        ] {
            assert_eq!(Mode::of(url, &key(text)), mode, "{url} {text}");
        }
    }
}
