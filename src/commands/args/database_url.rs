//! The form of `DATABASE_URL`, and what may be shown of it.
//!
//! libpq's messages repeat what it does not understand. If a password is not percent-encoded, that is a part of the password. So
//! libpq sees only a text of strict form, and of any other text nothing is shown.

use super::wrong::{HIDDEN, Wrong};

/// The name of the setting.
pub(super) const NAME: &str = "DATABASE_URL";

const RIGHT: &str = "it must be a URL such as postgres://user:password@host/database, or libpq's key=value form. In a URL, \
                     percent-encode the password's special characters: %40 for @, %2F for /, %3A for :, %25 for %, %20 for a space";

/// libpq's options. A word that is none of them may be a part of a password.
const OPTIONS: [&str; 45] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "options",
    "passfile",
    "password",
    "port",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "service",
    "servicefile",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// The text that may be shown: without its passwords.
///
/// # Errors
/// [`Wrong`], which shows nothing of the text, if the text is neither a strict URL nor a strict list of options.
pub(super) fn shown(text: &str) -> Result<String, Wrong> {
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| Some((scheme, text.strip_prefix(scheme)?)));
    let shown = match rest {
        Some((scheme, rest)) => url(rest).map(|rest| format!("{scheme}{rest}")),
        None => list(text),
    };
    shown.ok_or_else(|| Wrong::new(NAME, HIDDEN, RIGHT))
}

fn is_option(name: &str) -> bool {
    OPTIONS.contains(&name)
}

fn is_password(name: &str) -> bool {
    name.contains("password")
}

/// `[user[:password]@][host[:port],..][/database][?option=value&..]`, masked.
fn url(rest: &str) -> Option<String> {
    if !is_encoded(rest) || rest.contains(char::is_whitespace) || rest.contains(char::is_control) {
        return None;
    }
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let (authority, database) =
        place.split_once('/').map_or((place, None), |(authority, database)| (authority, Some(database)));
    let (userinfo, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    let has_at = |part: &str| part.contains('@');
    if userinfo.is_some_and(has_at) || database.is_some_and(|name| has_at(name) || name.contains('/')) {
        return None;
    }
    if !hosts.split(',').all(is_host) {
        return None;
    }
    let mut shown = String::new();
    if let Some(userinfo) = userinfo {
        let (user, password) = userinfo.split_once(':').map_or((userinfo, ""), |(user, _)| (user, ":***"));
        shown.extend([user, password, "@"]);
    }
    shown.push_str(hosts);
    if let Some(database) = database {
        shown.extend(["/", database]);
    }
    if let Some(query) = query {
        let options: Option<Vec<_>> = query.split('&').map(option_of_url).collect();
        shown.extend(["?", &options?.join("&")]);
    }
    Some(shown)
}

fn option_of_url(pair: &str) -> Option<String> {
    let (name, value) = pair.split_once('=')?;
    if !(is_option(name) || name == "ssl") || value.contains(['=', '@', '?']) {
        return None;
    }
    Some(if is_password(name) { format!("{name}=***") } else { pair.to_owned() })
}

/// Whether each `%` begins a byte in hexadecimal, and none of the bytes is zero.
fn is_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|part| {
        let byte = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        byte.is_some_and(|digits| digits != "00")
    })
}

/// A name or an address with its port, if any. A socket's directory is percent-encoded.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, port)) => match port.strip_prefix(':') {
            Some(port) => (address, Some(port)),
            None => return false,
        },
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_ipv6 = text.starts_with('[');
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '%') || (is_ipv6 && c == ':');
    host.chars().all(fits) && port.is_none_or(|port| port.parse::<u16>().is_ok() || port.is_empty())
}

/// `option=value option='value' ..`, masked. Each option stands once.
fn list(text: &str) -> Option<String> {
    let (mut rest, mut seen, mut shown) = (text.trim_start(), Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end();
        if !is_option(name) || seen.contains(&name) {
            return None;
        }
        seen.push(name);
        let after = after.trim_start();
        let length = value_length(after)?;
        let (value, next) = after.split_at(length);
        shown.push(format!("{name}={}", if is_password(name) { "***" } else { value }));
        if !next.is_empty() && !next.starts_with(char::is_whitespace) {
            return None;
        }
        rest = next.trim_start();
    }
    // An empty list would be libpq's defaults.
    (!seen.is_empty()).then(|| shown.join(" "))
}

/// The bytes of a value, with its quotes. A backslash takes away the meaning of the next character.
fn value_length(text: &str) -> Option<usize> {
    let is_quoted = text.starts_with('\'');
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(usize::from(is_quoted)) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => return is_quoted.then_some(at + 1),
            c if c.is_whitespace() && !is_quoted => return Some(at),
            _ => {}
        }
    }
    (!is_quoted && !escaped).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_the_right_form_is_masked() {
        for (text, right) in [
            ("postgres://u:secret@host/db", "postgres://u:***@host/db"),
            ("postgres://u:s%40cret#secret:secret@host/db", "postgres://u:***@host/db"),
            (
                "postgresql://u@host:5432/db?sslmode=disable&password=secret",
                "postgresql://u@host:5432/db?sslmode=disable&password=***",
            ),
            ("postgresql://payments@%2Ftmp%2Fx:5432/payments", "postgresql://payments@%2Ftmp%2Fx:5432/payments"),
            ("postgres://u:secret@[::1]:5432,b:5433/db", "postgres://u:***@[::1]:5432,b:5433/db"),
            ("postgres:///db", "postgres:///db"),
            ("host=h password=secret user=u", "host=h password=*** user=u"),
            ("host=h password = 'secret \\' secret' user=u", "host=h password=*** user=u"),
            ("host=/tmp password=se\\ cret", "host=/tmp password=***"),
        ] {
            assert_eq!(shown(text).unwrap(), right, "{text}");
        }
    }

    #[test]
    fn nothing_is_shown_of_any_other_text() {
        for text in [
            "postgres://u:sec@ret@host/db",
            "postgres://u:sec/ret@host/db",
            "postgres://u:sec?ret@host/db",
            "postgres://u:sec%ret@host/db",
            "postgres://u:secret%00@host/db",
            "postgres://u:sec ret@host/db",
            "postgres://u:secret",
            "postgres://u:secret/db",
            "postgres://u@host/db?password=sec&ret",
            "postgres://u@host/db?password=sec&ret=x",
            "postgres://u@host/db?password=sec=ret",
            "postgres://u@host/db?passwort=secret",
            "u:secret@host/db",
            "mysql://u:secret@host/db",
            "postgres:/u:secret@host/db",
            "host=h password=sec ret user=u",
            "host=h password=sec ret=x user=u",
            "host=h password='secret user=u",
            "host=h password='sec'ret user=u",
            "host=h password=sec'ret",
            "secret",
            " ",
        ] {
            let wrong = shown(text).unwrap_err().to_string();
            assert!(wrong.starts_with("DATABASE_URL=\"..\" is wrong: "), "{text}: {wrong}");
            assert!(!wrong.contains("sec") && !wrong.contains("ret"), "{text}: {wrong}");
            assert!(wrong.contains("percent-encode") && wrong.contains("%40"), "{wrong}");
        }
    }
}
