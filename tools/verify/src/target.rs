//! The endpoint under test, and its requests. `{uuid}`, `{n}`, `--vary` and `--setup` make each intent a different request, so that no two
//! checks share a key or an effect.

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use url::{Host, Url};
use uuid::Uuid;

use super::args::{Args, Endpoint, Header};
use super::fill::{Names, encoded, in_json, members};
use super::send::{Answer, Request};
use super::step::Step;
use super::words::{KeyForm, Profile};

/// The endpoint, and all its options from the command line. Texts may have placeholders.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) key_form: KeyForm,
    pub(super) given: Endpoint,
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
    pub(super) names: Names,
    members: Map<String, Value>,
}

impl Target {
    /// Reads the endpoint from the command line.
    ///
    /// # Errors
    /// If a text does not fit its place. The error is one line.
    pub fn of(args: &Args) -> Result<Self, String> {
        let given = args.endpoint.clone();
        let (Some(method), Some(url)) = (given.method.clone(), given.url.clone()) else {
            return Err("METHOD and URL are missing".to_owned());
        };
        let default_form = if args.profile == Profile::Draft { KeyForm::Quoted } else { KeyForm::Bare };
        let key_form = given.key_form.unwrap_or(default_form);
        let target = Self { method, url, key_form, given, run: Uuid::new_v4().simple().to_string()[..8].to_owned() };
        let plain = target.plain()?;
        for (option, steps) in [("--setup", &target.given.setup), ("--failing-setup", &target.given.failing_setup)] {
            for step in steps {
                plain.beside(step, None).map_err(|error| format!("{option} {step}: {error}"))?;
            }
        }
        Ok(target)
    }

    /// An intent without a request, for what can be known before the first one.
    ///
    /// # Errors
    /// If a text does not fit its place.
    pub(super) fn plain(&self) -> Result<Intent, String> {
        self.intent(self.names(0))
    }

    /// The names of the intent number `n`, before its setup.
    pub(super) fn names(&self, n: u64) -> Names {
        let setup = self.given.setup.is_empty().then_some(Value::Null);
        Names { uuid: Uuid::new_v4().to_string(), n: n.to_string(), run: self.run.clone(), setup }
    }

    /// The intent with these names.
    ///
    /// # Errors
    /// If a text does not fit its place, or a placeholder has no value. [`Target::of`] has already made an intent, so a run meets
    /// this error only if an answer to `--setup` lacks a member.
    pub(super) fn intent(&self, names: Names) -> Result<Intent, String> {
        let given = &self.given;
        let render = |text: &Option<String>| text.as_deref().map(|text| self.body(text, &names)).transpose();
        let body = render(&given.body)?.unwrap_or_default();
        let members = object(&body).unwrap_or_default();
        let own = address(&self.url, None, &names, &members)?;
        let url = |text: &String| address(text, Some(&own), &names, &members);
        let optional = |text: &Option<String>| text.as_ref().map(url).transpose();
        let headers = |more: &[Header]| Ok::<_, String>(typed(headers(&[&given.header, more], &names)?, &body));
        Ok(Intent {
            other_url: optional(&given.other_path)?,
            replica: optional(&given.replica)?.map(|replica| at(replica, &own)),
            count: optional(&given.count)?,
            headers: headers(&[])?,
            other_headers: headers(&given.other_header)?,
            failing_headers: headers(&given.failing_header)?,
            other_body: render(&given.other_body)?.map(Bytes::from),
            failing_body: render(&given.failing_body)?.map(Bytes::from),
            url: own,
            body: body.into(),
            names,
            members,
        })
    }

    /// A body with filled placeholders, and with this intent's values in the varied members.
    fn body(&self, text: &str, names: &Names) -> Result<String, String> {
        let text = names.fill(text, in_json)?;
        if self.given.vary.is_empty() {
            return Ok(text);
        }
        let mut json: Value = serde_json::from_str(&text)
            .map_err(|error| format!("--vary needs JSON bodies, but a body is not JSON: {error}"))?;
        for member in &self.given.vary {
            let pointer = if member.starts_with('/') { member.clone() } else { format!("/{member}") };
            match json.pointer_mut(&pointer) {
                Some(Value::String(value)) => {
                    value.push('-');
                    value.push_str(&names.run);
                    value.push('-');
                    value.push_str(&names.n);
                }
                Some(_) => {
                    return Err(format!(
                        "--vary {member}: only a string can be varied; for a number, write {{n}} in the body"
                    ));
                }
                None => return Err(format!("--vary {member}: a body has no such member")),
            }
        }
        Ok(json.to_string())
    }

    /// Whether the order of members can be changed: the body is a JSON object with two members or more.
    pub(super) fn has_members(&self) -> bool {
        self.plain().is_ok_and(|intent| intent.members.len() > 1)
    }

    /// The hosts that get requests and are not this machine.
    ///
    /// # Errors
    /// As `intent`.
    pub fn foreign_hosts(&self) -> Result<Vec<String>, String> {
        let intent = self.plain()?;
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
    /// A request besides the endpoint's. `{location}` and `{reply.NAME}` come from `reply`. It goes to the endpoint's
    /// own host: an answer can't send this program elsewhere.
    pub(super) fn beside(&self, step: &Step, reply: Option<&Answer>) -> Result<Request, String> {
        let json = reply.and_then(|reply| serde_json::from_slice(&reply.body).ok()).unwrap_or(Value::Null);
        let located = match (step.url.contains("{location}"), reply.and_then(Answer::location)) {
            (true, None) => return Err("the first reply has no Location".to_owned()),
            (_, location) => step.url.replace("{location}", location.unwrap_or_default()),
        };
        let url = members(&located, "{reply.", Some(&json), encoded)?;
        let url = address(&url, Some(&self.url), &self.names, &self.members)?;
        if url.origin() != self.url.origin() {
            return Err(format!("{url} is at another host than the endpoint"));
        }
        let body = members(step.body.as_deref().unwrap_or_default(), "{reply.", Some(&json), in_json)?;
        let body = self.names.fill(&body, in_json)?;
        Ok(Request { method: step.method.clone(), url, headers: typed(self.headers.clone(), &body), body: body.into() })
    }

    /// A GET with the intent's headers.
    pub(super) fn reading(&self, url: Url) -> Request {
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_TYPE);
        Request { method: Method::GET, url, headers, body: Bytes::new() }
    }
}

fn object(body: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(body).ok()
}

/// Headers with filled placeholders. A header of a later list replaces an earlier one with the same name.
fn headers(lists: &[&[Header]], names: &Names) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in lists.iter().copied().flatten() {
        let value = HeaderValue::from_str(&names.fill(&header.value, str::to_owned)?)
            .map_err(|_| format!("the header {} can't be sent", header.name))?;
        headers.insert(header.name.clone(), value);
    }
    Ok(headers)
}

/// Headers for this body. Without a body there is no `Content-Type`, and JSON gets its own, unless one is given.
pub(super) fn typed(mut headers: HeaderMap, body: &str) -> HeaderMap {
    if body.is_empty() {
        headers.remove(CONTENT_TYPE);
    } else if !headers.contains_key(CONTENT_TYPE) && serde_json::from_str::<IgnoredAny>(body).is_ok() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers
}

/// A URL with its placeholders filled: `{uuid}`, `{n}`, `{setup.NAME}`, and the body's members by name. A path is one at the host of `base`.
fn address(text: &str, base: Option<&Url>, names: &Names, members: &Map<String, Value>) -> Result<Url, String> {
    let mut filled = names.fill(text, encoded)?;
    for (name, value) in members {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        filled = filled.replace(&format!("{{{name}}}"), &encoded(&value));
    }
    if filled.contains(['{', '}']) {
        return Err(format!(
            "{text}: a placeholder is neither {{uuid}} nor {{n}} nor {{setup.NAME}} nor a member of the body"
        ));
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
