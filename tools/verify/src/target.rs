//! The endpoint under test, and its requests. `{uuid}`, `{n}` and `--vary` make each intent a different request, so that no two
//! checks share a key or an effect.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use url::{Host, Url};
use uuid::Uuid;

use super::args::{Args, Header};
use super::change::Change;
use super::send::Request;
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
    pub(super) other_path: Option<String>,
    pub(super) other_method: Option<Method>,
    pub(super) other_header: Vec<Header>,
    pub(super) change: Option<Change>,
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
    names: Names,
    members: Map<String, Value>,
}

/// The values of `{uuid}` and `{n}`.
#[derive(Clone, Debug)]
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
        let endpoint = args.endpoint.clone();
        let (Some(method), Some(url)) = (endpoint.method, endpoint.url) else {
            return Err("METHOD and URL are missing".to_owned());
        };
        let default_form = if args.profile == Profile::Draft { KeyForm::Quoted } else { KeyForm::Bare };
        let count = endpoint.count.map(|count| count.trim().trim_start_matches("GET ").trim().to_owned());
        let target = Self {
            method,
            url,
            header: endpoint.header,
            body: endpoint.body,
            other_body: endpoint.other_body,
            failing_body: endpoint.failing_body,
            other_path: endpoint.other_path,
            other_method: endpoint.other_method,
            other_header: endpoint.other_header,
            change: endpoint.change,
            failing_header: endpoint.failing_header,
            replica: endpoint.replica,
            count,
            count_at: endpoint.count_at,
            vary: endpoint.vary,
            key_optional: endpoint.key_optional,
            key_header: endpoint.key_header,
            key_form: endpoint.key_form.unwrap_or(default_form),
            marker: endpoint.marker,
            failures: endpoint.failures,
            watch: Duration::from_secs(endpoint.watch),
            timeout: Duration::from_secs(endpoint.timeout),
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
        let own = address(&self.url, None, &names, &members)?;
        let url = |text: &String| address(text, Some(&own), &names, &members);
        let optional = |text: &Option<String>| text.as_ref().map(url).transpose();
        let is_json = body.as_deref().is_some_and(|body| serde_json::from_str::<Value>(body).is_ok());
        let headers = |lists: &[&Vec<Header>]| headers(lists, &names, is_json);
        Ok(Intent {
            other_url: optional(&self.other_path)?,
            replica: optional(&self.replica)?.map(|replica| at(replica, &own)),
            count: optional(&self.count)?,
            headers: headers(&[&self.header])?,
            other_headers: headers(&[&self.header, &self.other_header])?,
            failing_headers: headers(&[&self.header, &self.failing_header])?,
            body: body.unwrap_or_default().into(),
            other_body: render(&self.other_body)?.map(Bytes::from),
            failing_body: render(&self.failing_body)?.map(Bytes::from),
            url: own,
            names,
            members,
        })
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
        self.intent(0).is_ok_and(|intent| intent.members.len() > 1)
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

impl Intent {
    /// An address of this intent: a URL, or a path at the endpoint's host, with its placeholders filled.
    pub(super) fn address(&self, text: &str) -> Result<Url, String> {
        address(text, Some(&self.url), &self.names, &self.members)
    }

    /// A GET with the intent's headers.
    pub(super) fn reading(&self, url: Url) -> Request {
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_TYPE);
        Request { method: Method::GET, url, headers, body: Bytes::new() }
    }

    /// A text with `{uuid}` and `{n}` filled.
    pub(super) fn fill(&self, text: &str) -> String {
        self.names.fill(text)
    }
}

impl Names {
    fn fill(&self, text: &str) -> String {
        text.replace("{uuid}", &self.uuid).replace("{n}", &self.n)
    }
}

fn object(body: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(body).ok()
}

/// Headers with filled placeholders. A header of a later list takes the place of an earlier header with the same name.
fn headers(lists: &[&Vec<Header>], names: &Names, is_json: bool) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in lists.iter().copied().flatten() {
        let value = HeaderValue::from_str(&names.fill(&header.value))
            .map_err(|_| format!("the header {} can't be sent", header.name))?;
        headers.insert(header.name.clone(), value);
    }
    if is_json && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(headers)
}

/// A text as a part of a path or a query.
pub(super) fn encoded(text: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    // A plus sign means a space only in a query. `%20` means a space everywhere.
    encoded.replace('+', "%20")
}

/// A URL with its placeholders filled: `{uuid}`, `{n}`, and the body's members by name. A path is one at the host of `base`.
fn address(text: &str, base: Option<&Url>, names: &Names, members: &Map<String, Value>) -> Result<Url, String> {
    let mut filled = names.fill(text);
    for (name, value) in members {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        filled = filled.replace(&format!("{{{name}}}"), &encoded(&value));
    }
    if filled.contains(['{', '}']) {
        return Err(format!("{text}: a placeholder is neither {{uuid}} nor {{n}} nor a member of the body"));
    }
    let url = match base {
        Some(base) if filled.starts_with('/') => base.join(&filled),
        _ => Url::parse(&filled),
    };
    let url = url.map_err(|error| format!("{text} is no URL: {error}"))?;
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
