//! The endpoint under test, and its requests. `{uuid}`, `{n}` and `--vary` make each intent a different request, so that no two
//! checks share a key or an effect.

use hyper::body::Bytes;
use std::time::Duration;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::{Host, Url};
use uuid::Uuid;

use super::args::{Args, Header};
use super::words::{FailurePromise, KeyForm, Profile};

/// The endpoint, and all that the command line says about it. Texts may have placeholders.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) header: Vec<Header>,
    pub(super) body: Option<String>,
    pub(super) other_body: Option<String>,
    pub(super) failing_body: Option<String>,
    pub(super) other_url: Option<String>,
    pub(super) other_method: Option<Method>,
    pub(super) other_header: Vec<Header>,
    pub(super) failing_header: Vec<Header>,
    pub(super) replica: Option<String>,
    pub(super) count: Option<String>,
    pub(super) count_at: Option<String>,
    pub(super) vary: Vec<String>,
    pub(super) key_optional: bool,
    pub(super) key_header: HeaderName,
    pub(super) key_form: KeyForm,
    pub(super) marker: Option<HeaderName>,
    pub(super) failures: Option<FailurePromise>,
    pub(super) watch: Duration,
    pub(super) timeout: Duration,
    /// Makes the varied values of this run different from those of another run.
    run: String,
}

/// One request with its own values, in all the forms in which checks send it.
#[derive(Clone, Debug)]
pub struct Intent {
    pub(super) url: Url,
    pub(super) other_url: Option<Url>,
    pub(super) replica: Option<Url>,
    pub(super) count: Option<Url>,
    pub(super) headers: HeaderMap,
    pub(super) other_headers: HeaderMap,
    pub(super) failing_headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) other_body: Option<Bytes>,
    pub(super) failing_body: Option<Bytes>,
}

/// The values of `{uuid}` and `{n}`.
struct Names {
    uuid: String,
    n: String,
    run: String,
}

impl Target {
    /// Reads the endpoint from the command line.
    ///
    /// # Errors
    /// If a text does not fit its place. The error is one line.
    pub fn of(args: &Args) -> Result<Self, String> {
        let (Some(method), Some(url)) = (args.method.clone(), args.url.clone()) else {
            return Err("METHOD and URL are missing".to_owned());
        };
        let default_form = if args.profile == Profile::Draft { KeyForm::Quoted } else { KeyForm::Bare };
        let count = args.count.as_deref().map(|count| count.trim().trim_start_matches("GET ").trim().to_owned());
        let target = Self {
            method,
            url,
            header: args.header.clone(),
            body: args.body.clone(),
            other_body: args.other_body.clone(),
            failing_body: args.failing_body.clone(),
            other_url: args.other_url.clone(),
            other_method: args.other_method.clone(),
            other_header: args.other_header.clone(),
            failing_header: args.failing_header.clone(),
            replica: args.replica.clone(),
            count,
            count_at: args.count_at.clone(),
            vary: args.vary.clone(),
            key_optional: args.key_optional,
            key_header: args.key_header.clone(),
            key_form: args.key_form.unwrap_or(default_form),
            marker: args.marker.clone(),
            failures: args.failures,
            watch: Duration::from_secs(args.watch),
            timeout: Duration::from_secs(args.timeout),
            run: Uuid::new_v4().simple().to_string()[..8].to_owned(),
        };
        target.intent(0)?;
        Ok(target)
    }

    /// The intent number `n`.
    ///
    /// # Errors
    /// If a text does not fit its place. [`Target::of`] has already made an intent, so a run does not meet this error.
    pub fn intent(&self, n: u64) -> Result<Intent, String> {
        let names = Names { uuid: Uuid::new_v4().to_string(), n: n.to_string(), run: self.run.clone() };
        let render = |text: &Option<String>| text.as_deref().map(|text| self.body(text, &names)).transpose();
        let body = render(&self.body)?;
        let members = body.as_deref().and_then(object).unwrap_or_default();
        let url = |text: &str| address(text, &names, &members);
        let optional = |text: &Option<String>| text.as_deref().map(url).transpose();
        let own = url(&self.url)?;
        Ok(Intent {
            other_url: optional(&self.other_url)?,
            replica: optional(&self.replica)?.map(|replica| at(replica, &own)),
            count: optional(&self.count)?,
            headers: self.headers(&[&self.header], &names)?,
            other_headers: self.headers(&[&self.header, &self.other_header], &names)?,
            failing_headers: self.headers(&[&self.header, &self.failing_header], &names)?,
            body: body.unwrap_or_default().into(),
            other_body: render(&self.other_body)?.map(Bytes::from),
            failing_body: render(&self.failing_body)?.map(Bytes::from),
            url: own,
        })
    }

    /// A header of a later list takes the place of an earlier header with the same name.
    fn headers(&self, lists: &[&Vec<Header>], names: &Names) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for list in lists {
            for header in *list {
                let value = HeaderValue::from_str(&names.fill(&header.value))
                    .map_err(|_| format!("the header {} can't be sent", header.name))?;
                headers.insert(header.name.clone(), value);
            }
        }
        let is_json = self.body.as_deref().is_some_and(|body| serde_json::from_str::<Value>(body).is_ok());
        if is_json && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(headers)
    }

    /// A body with filled placeholders, and with this intent's values in the varied members.
    fn body(&self, text: &str, names: &Names) -> Result<String, String> {
        let text = names.fill(text);
        if self.vary.is_empty() {
            return Ok(text);
        }
        let mut json: Value = serde_json::from_str(&text)
            .map_err(|error| format!("--vary needs JSON bodies, but a body is not JSON: {error}"))?;
        for member in &self.vary {
            let pointer = if member.starts_with('/') { member.clone() } else { format!("/{member}") };
            match json.pointer_mut(&pointer) {
                Some(Value::String(value)) => {
                    value.push('-');
                    value.push_str(&names.run);
                    value.push('-');
                    value.push_str(&names.n);
                }
                Some(_) => return Err(format!("--vary {member}: only a string can be varied")),
                None => return Err(format!("--vary {member}: a body has no such member")),
            }
        }
        Ok(json.to_string())
    }

    /// Whether the order of members can be changed: the body is a JSON object with two members or more.
    pub(super) fn has_members(&self) -> bool {
        self.body.as_deref().and_then(object).is_some_and(|members| members.len() > 1)
    }

    /// The hosts that get requests and are not this machine.
    ///
    /// # Errors
    /// As [`Target::intent`].
    pub fn foreign_hosts(&self) -> Result<Vec<String>, String> {
        let intent = self.intent(0)?;
        let urls = [Some(intent.url), intent.other_url, intent.replica, intent.count];
        let mut hosts: Vec<_> = urls
            .iter()
            .flatten()
            .filter(|url| !is_loopback(url))
            .filter_map(Url::host_str)
            .map(ToOwned::to_owned)
            .collect();
        hosts.sort();
        hosts.dedup();
        Ok(hosts)
    }
}

impl Names {
    fn fill(&self, text: &str) -> String {
        text.replace("{uuid}", &self.uuid).replace("{n}", &self.n)
    }
}

fn object(body: &str) -> Option<serde_json::Map<String, Value>> {
    serde_json::from_str(body).ok()
}

/// A URL with its placeholders filled: `{uuid}`, `{n}`, and the body's members by name.
fn address(text: &str, names: &Names, members: &serde_json::Map<String, Value>) -> Result<Url, String> {
    let mut filled = names.fill(text);
    for (name, value) in members {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        // A plus sign means a space only in a query. `%20` means a space everywhere.
        filled = filled.replace(&format!("{{{name}}}"), &encoded.replace('+', "%20"));
    }
    if filled.contains(['{', '}']) {
        return Err(format!("{text}: a placeholder is neither {{uuid}} nor {{n}} nor a member of the body"));
    }
    let url = Url::parse(&filled).map_err(|error| format!("{text} is no URL: {error}"))?;
    match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err(format!("{text}: only http:// and https:// can be checked")),
    }
}

/// The path and query of `url` at the host of `replica`. If `replica` has its own path, `replica` as it is.
fn at(mut replica: Url, url: &Url) -> Url {
    if replica.path() == "/" {
        replica.set_path(url.path());
        replica.set_query(url.query());
    }
    replica
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}
