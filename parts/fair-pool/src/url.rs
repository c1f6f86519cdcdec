// SPDX-License-Identifier: MIT OR Apache-2.0
//! The database's URL, with libpq's time limits.

/// libpq's limits: how long it tries to connect, and how soon it notices that the server's host is gone. Times are in
/// seconds, except for `tcp_user_timeout`, which is in milliseconds. [`idempotency::CONNECTION_LIMITS`] is the counterpart, by which
/// the server notices that this process is gone.
const CLIENT_LIMITS: [(&str, &str); 5] = [
    ("connect_timeout", "2"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "8000"),
];

/// Adds the name and libpq's time limits to a URL or a `key=value` list: how long libpq tries to connect, and how soon
/// it notices that the server's host is gone. A parameter that the text already has is kept. The pool does this for its
/// own connections. The name must be one word of letters, digits, `-` and `_`.
#[must_use]
pub fn with_client_limits(database_url: &str, application_name: &str) -> String {
    let is_url = database_url.starts_with("postgres://") || database_url.starts_with("postgresql://");
    let mut text = database_url.to_owned();
    for (name, value) in CLIENT_LIMITS.into_iter().chain([("application_name", application_name)]) {
        // Not `fallback_application_name`.
        if !database_url.split(['?', '&', ' ']).any(|parameter| parameter.starts_with(name)) {
            let separator = match (is_url, text.contains('?')) {
                // libpq refuses an empty parameter.
                (true, true) if text.ends_with(['?', '&']) => "",
                (true, true) => "&",
                (true, false) => "?",
                (false, _) => " ",
            };
            text.extend([separator, name, "=", value]);
        }
    }
    text
}
