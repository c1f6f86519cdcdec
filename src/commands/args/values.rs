//! Parses each value. The error for a wrong one says what a right one looks like.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use log::LevelFilter;
use url::Url;

/// The most characters in the name of an account or a customer. The tables have the same limit.
const LONGEST_NAME: usize = 255;

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "it must be an IP address and a port, such as 127.0.0.1:8080")
}

/// A missing secret often arrives as an empty variable. A local cluster, whose API keys everybody knows, would then take the
/// place of the real database.
pub(super) fn database_url(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("it is set and empty: set it to a URL, or unset it to use a local cluster"),
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn gateway_url(text: &str) -> Result<String, &'static str> {
    const RIGHT: &str = "it must be a URL such as https://api.stripe.com, or http:// for a sandbox, without a user or password (the key is in GATEWAY_KEY); with the demo, a sandbox is started without it";
    let url = Url::parse(text).map_err(|_| RIGHT)?;
    let is_web = matches!(url.scheme(), "http" | "https");
    let ends_with_its_path = url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    if is_web && ends_with_its_path && is_anonymous { Ok(text.to_owned()) } else { Err(RIGHT) }
}

/// Whole seconds. A loop must rest, so most settings have a minimum of one second.
pub(super) fn seconds<const MIN: u64, const MAX: u64>(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (MIN..=MAX).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("it must be a whole number of seconds from {MIN} to {MAX}")),
    }
}

pub(super) fn pool_size(text: &str) -> Result<u32, &'static str> {
    match text.parse() {
        Ok(size @ 1..=1000) => Ok(size),
        _ => Err("it must be a whole number from 1 to 1000"),
    }
}

/// Refuses a target without a level, which is usually a misspelt level. `env_logger` would log everything of that
/// target and nothing else.
pub(super) fn log_filters(text: &str) -> Result<String, &'static str> {
    let is_right = |directive: &str| {
        let level = directive.split_once('=').map_or(directive, |(_, level)| level);
        level.trim().parse::<LevelFilter>().is_ok() && !directive.trim().starts_with('=')
    };
    if text.split(',').all(is_right) {
        Ok(text.to_owned())
    } else {
        Err("it must be off, error, warn, info, debug or trace, or a list such as warn,idempotent_payments=debug")
    }
}

pub(super) fn name(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if !(1..=LONGEST_NAME).contains(&length) {
        return Err(format!("it must have 1 to {LONGEST_NAME} characters, and has {length}"));
    }
    if text.chars().any(char::is_control) {
        return Err("it must not have control characters, such as a line's end".to_owned());
    }
    if text.trim() != text {
        return Err("it must not begin or end with a space".to_owned());
    }
    Ok(text.to_owned())
}

/// Web origins: `scheme://host[:port]`, or with `:*` for any port. For clap, a field of this type has one value, and a field of
/// type `Vec` has several.
pub type Origins = Vec<String>;

/// An empty list allows no origin, even with the demo.
pub(super) fn origins(text: &str) -> Result<Origins, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(origin).collect()
}

/// Accepts an origin as a browser writes it in the header `Origin`: no path, no default port, no upper case.
fn origin(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "\"{text}\" is no origin: write it as a browser does, such as https://shop.example.com, without a path or a slash"
        )
    };
    let named = text.strip_suffix(":*").unwrap_or(text);
    let url = Url::parse(named).map_err(|_| wrong())?;
    let is_web = matches!(url.scheme(), "http" | "https");
    if is_web && url.origin().ascii_serialization() == named { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// A time, or an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// A time.
    At(DateTime<Utc>),
    /// This long ago.
    Ago(TimeDelta),
}

impl When {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let midnight = || NaiveDate::parse_from_str(text, "%F").ok()?.and_hms_opt(0, 0, 0).map(|at| at.and_utc());
        let at = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()).or_else(midnight);
        let ago = || {
            let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let seconds = match unit {
                "m" => 60,
                "h" => 60 * 60,
                "d" => 24 * 60 * 60,
                _ => return None,
            };
            // At most some 270 years, so that no time is out of range.
            let number: u32 = number.parse().ok().filter(|number| *number <= 100_000)?;
            Some(TimeDelta::seconds(i64::from(number) * seconds))
        };
        at.map(Self::At).or_else(|| ago().map(Self::Ago)).ok_or_else(|| {
            "it must be a date or a time in UTC, such as 2026-11-27 or 2026-11-27T08:30:00Z, or an age, such as 90m, 25h or 7d"
                .to_owned()
        })
    }

    /// The time, relative to now.
    #[must_use]
    pub fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now - ago,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_as_browsers_write_them() {
        let taken = origins("https://shop.example.com, http://localhost:*,http://127.0.0.1:3000").unwrap();
        assert_eq!(taken, ["https://shop.example.com", "http://localhost:*", "http://127.0.0.1:3000"]);
        assert!(origins("").unwrap().is_empty());
        for wrong in
            ["*", "shop.example.com", "https://shop.example.com/", "https://a.b/path", "HTTPS://A.b", "null", "file://"]
        {
            assert!(origins(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn log_filters_are_levels_or_targets_with_levels() {
        for right in ["info", "warn,idempotent_payments=debug", "off"] {
            assert!(log_filters(right).is_ok(), "{right}");
        }
        for wrong in ["", "chatty", "info,", "info,chatty", "=info", "a=chatty"] {
            assert!(log_filters(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_a_date_a_time_or_so_long_ago() {
        let now = DateTime::parse_from_rfc3339("2026-11-28T12:00:00Z").unwrap().to_utc();
        for (text, time) in [
            ("2026-11-27", "2026-11-27T00:00:00Z"),
            ("2026-11-27T08:30:00+01:00", "2026-11-27T07:30:00Z"),
            ("90m", "2026-11-28T10:30:00Z"),
            ("25h", "2026-11-27T11:00:00Z"),
            ("7d", "2026-11-21T12:00:00Z"),
        ] {
            assert_eq!(When::parse(text).unwrap().before(now).to_rfc3339(), time.replace('Z', "+00:00"), "{text}");
        }
        for wrong in ["", "h", "yesterday", "-1h", "1w", "2026-11-31", "2026-11-27T08:30:00", "999999d", "1ü"] {
            assert!(When::parse(wrong).is_err(), "{wrong}");
        }
    }
}
