//! The configuration file: several endpoints, so that a team checks them all with one command. Its keys are the options
//! of the command line, and the command line's own parser reads them, so that an option has one name, one check and one
//! description.

use std::path::Path;

use clap::Parser as _;
use serde::Deserialize;
use toml::{Table, Value};

use super::args::Args;

/// The longest file that is read, in bytes: some hundred endpoints.
const LONGEST: u64 = 1024 * 1024;

/// The options that a file can't have: they belong to one run, not to an endpoint.
const OF_THE_RUN: [&str; 7] = ["config", "endpoint", "format", "yes", "list", "help", "version"];

/// An endpoint of the file.
pub struct Endpoint {
    pub name: String,
    pub args: Args,
}

#[derive(Deserialize)]
struct File {
    /// The endpoints. The options above them apply to every endpoint.
    endpoint: Vec<Table>,
    #[serde(flatten)]
    of_all: Table,
}

/// Reads the endpoints of a file. If `only` has names, reads those.
pub fn read(path: &Path, only: &[String]) -> Result<Vec<Endpoint>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.len();
    if size > LONGEST {
        return Err(format!("{shown}: longer than {LONGEST} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let all = parse(&text, &|name| std::env::var(name).ok()).map_err(|error| format!("{shown}: {error}"))?;
    if let Some(unknown) = only.iter().find(|name| all.iter().all(|endpoint| endpoint.name != **name)) {
        return Err(format!("{shown}: there is no endpoint {unknown:?}"));
    }
    Ok(all.into_iter().filter(|endpoint| only.is_empty() || only.contains(&endpoint.name)).collect())
}

fn parse(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Endpoint>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (number, own) in file.endpoint.into_iter().enumerate() {
        let mut options = file.of_all.clone();
        options.extend(own);
        let name = match options.remove("name") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(format!("endpoint {}: name must be a text", number + 1)),
            None => return Err(format!("endpoint {} has no name", number + 1)),
        };
        if endpoints.iter().any(|endpoint| endpoint.name == name) {
            return Err(format!("two endpoints have the name {name:?}"));
        }
        let args = args(&options, variable).map_err(|error| format!("endpoint {name}: {error}"))?;
        endpoints.push(Endpoint { name, args });
    }
    if endpoints.is_empty() {
        return Err("there is no [[endpoint]]".to_owned());
    }
    Ok(endpoints)
}

/// Writes the options as a command line, and parses that.
fn args(options: &Table, variable: &dyn Fn(&str) -> Option<String>) -> Result<Args, String> {
    let mut words = vec!["idempotency-verify".to_owned()];
    let mut places = Vec::new();
    for place in ["method", "url"] {
        let Some(Value::String(text)) = options.get(place) else { return Err(format!("{place} is missing")) };
        places.push(filled(text, variable)?);
    }
    for (name, value) in options.iter().filter(|(name, _)| !["method", "url"].contains(&name.as_str())) {
        if OF_THE_RUN.contains(&name.as_str()) {
            return Err(format!("{name} belongs on the command line"));
        }
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            words.extend(match value {
                Value::Boolean(true) => Some(format!("--{name}")),
                Value::Boolean(false) => None,
                Value::String(text) => Some(format!("--{name}={}", filled(text, variable)?)),
                Value::Integer(number) => Some(format!("--{name}={number}")),
                _ => return Err(format!("{name} must be a text, a number, true, false, or a list of texts")),
            });
        }
    }
    words.push("--".to_owned());
    words.extend(places);
    Args::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

/// A text with `${NAME}` replaced by the environment's variable, so that a file needs no secrets.
fn filled(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("a ${ has no }")?;
        filled.push_str(before);
        filled.push_str(&variable(name).ok_or_else(|| format!("the variable {name} is not set"))?);
        rest = after;
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::super::words::Profile;
    use super::*;

    const FILE: &str = r#"
        profile = "stripe"
        header = ["Authorization: Bearer ${TOKEN}"]

        [[endpoint]]
        name = "orders"
        method = "POST"
        url = "${BASE}/orders"
        body = '{"customer":"-ada"}'
        vary = ["customer"]
        key-optional = true
        watch = 1

        [[endpoint]]
        name = "charges"
        except = ["replay-expiry", "keys"]
        method = "POST"
        url = "${BASE}/charges"
        profile = "this"
    "#;

    fn variable(name: &str) -> Option<String> {
        Some(match name {
            "TOKEN" => "secret".to_owned(),
            "BASE" => "http://127.0.0.1:1".to_owned(),
            _ => return None,
        })
    }

    #[test]
    fn each_endpoint_has_its_options_and_those_of_all() {
        let endpoints = parse(FILE, &variable).unwrap();
        let [orders, charges] = endpoints.as_slice() else { panic!("{} endpoints", endpoints.len()) };
        assert_eq!((orders.name.as_str(), charges.name.as_str()), ("orders", "charges"));
        assert_eq!((orders.args.profile, charges.args.profile), (Profile::Stripe, Profile::This));
        let endpoint = &orders.args.endpoint;
        assert_eq!(endpoint.url.as_deref(), Some("http://127.0.0.1:1/orders"));
        assert_eq!(endpoint.header[0].value, "Bearer secret");
        assert_eq!(endpoint.body.as_deref(), Some(r#"{"customer":"-ada"}"#));
        assert!(endpoint.key_optional && !charges.args.endpoint.key_optional);
        assert_eq!(charges.args.except, ["replay-expiry", "keys"]);
        assert_eq!((endpoint.watch, charges.args.endpoint.watch), (1, 2));
    }

    #[test]
    fn an_endpoint_can_leave_out_an_option_of_all() {
        let file = "vary = ['customer']\nfailing-body = '{}'\n[[endpoint]]\nname = 'a'\nmethod = 'POST'\nurl = 'http://x/'\n\
                    vary = false\nfailing-body = false\nfailing-setup = 'POST /x'";
        let endpoints = parse(file, &variable).unwrap();
        let endpoint = &endpoints[0].args.endpoint;
        assert!(endpoint.vary.is_empty() && endpoint.failing_body.is_none(), "{endpoint:?}");
        assert_eq!(endpoint.failing_setup[0].url, "/x");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_endpoint() {
        let endpoint = |lines: &str| format!("[[endpoint]]\nname = 'a'\nmethod = 'POST'\nurl = 'http://x/'\n{lines}");
        for (file, part) in [
            (String::new(), "endpoint"),
            ("[[endpoint]]\nmethod = 'POST'".to_owned(), "endpoint 1 has no name"),
            ("[[endpoint]]\nname = 'a'\nmethod = 'POST'".to_owned(), "endpoint a: url is missing"),
            (endpoint("bodi = '{}'"), "--bodi"),
            (endpoint("format = 'json'"), "format belongs on the command line"),
            (endpoint("body = '${NOBODY}'"), "the variable NOBODY is not set"),
            (endpoint("watch = 1.5"), "watch must be"),
            (endpoint("failing-body = '{}'\nfailing-setup = 'POST /x'"), "cannot be used with"),
            (endpoint("watch = -1"), "-1"),
            (endpoint("") + &endpoint(""), "two endpoints have the name"),
        ] {
            let error = parse(&file, &variable).err().unwrap();
            assert!(error.contains(part), "{file}: {error}");
        }
    }
}
