//! The command line of `idempotency-verify`. A configuration file has the same options ([`super::config`]).

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, ValueEnum};
use hyper::Method;
use hyper::header::HeaderName;

use super::step::Step;
use super::words::{FailurePromise, KeyForm, Profile};

/// Checks an HTTP endpoint with idempotency keys: sends real requests, judges the answers, and counts the effects.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "idempotency-verify", version, disable_help_flag = true, disable_version_flag = true)]
#[command(
    override_usage = "idempotency-verify METHOD URL [OPTIONS]\n       idempotency-verify --config FILE [OPTIONS]"
)]
#[command(
    after_help = "Exit status: 0, no required check failed; 1, one failed; 2, an endpoint was not checked, or every check was skipped."
)]
pub struct Args {
    /// What one endpoint needs.
    #[command(flatten)]
    pub endpoint: Endpoint,
    /// The author whose rules decide the exit status
    #[arg(long, value_enum, default_value = "draft", conflicts_with = "config", help_heading = "The run")]
    pub profile: Profile,
    /// Only these checks or groups, separated by commas. May be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "config", help_heading = "The run")]
    pub only: Vec<String>,
    /// Not these checks or groups, separated by commas. May be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "config", help_heading = "The run")]
    pub except: Vec<String>,
    /// What the run needs.
    #[command(flatten)]
    pub run: RunOptions,
}

/// One endpoint, and its options on the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Endpoint {
    /// The endpoint's method, such as POST
    #[arg(required_unless_present_any = ["list", "config"])]
    pub method: Option<Method>,
    /// The endpoint. `{uuid}` gets a new value for each new request, here and in headers and bodies
    #[arg(required_unless_present_any = ["list", "config"])]
    pub url: Option<String>,
    /// A header of every request, for example 'Authorization: Bearer ..'. May be repeated
    #[arg(long, value_name = "NAME: VALUE", help_heading = "The endpoint")]
    pub header: Vec<Header>,
    /// The request's body
    #[arg(long, help_heading = "The endpoint")]
    pub body: Option<String>,
    /// A string member of the bodies, which gets a new value in each new request. May be repeated
    #[arg(long, value_name = "MEMBER", help_heading = "The endpoint")]
    pub vary: Vec<String>,

    /// A request that creates what the endpoint's request needs, for example 'POST /v1/orders {..}'. Each new request
    /// sends it first. `{setup.id}` is a member of its answer, in URLs, headers and bodies. May be repeated: each may
    /// use the answer of the one before
    #[arg(long, value_name = "METHOD PATH BODY", help_heading = "The endpoint")]
    pub setup: Vec<Step>,

    /// The URL that counts effects: a list, or a number. The body's members are filled in: `..?customer={customer}`
    #[arg(long, value_name = "GET URL", value_parser = of_get, help_heading = "Effects")]
    pub count: Option<String>,
    /// JSON pointer to the array or the number of effects. The default is a member with a name such as count, or the only array
    #[arg(long, value_name = "POINTER", requires = "count", help_heading = "Effects")]
    pub count_at: Option<String>,

    /// A body that means another request. Under the key of --body, the endpoint must refuse this body
    #[arg(long, value_name = "BODY", help_heading = "What more checks need")]
    pub other_body: Option<String>,
    /// An endpoint that shares the key space, as a path or a URL. It must refuse the key of URL. Not another id of an
    /// endpoint whose key is unique per resource
    #[arg(long, alias = "other-url", value_name = "PATH", help_heading = "What more checks need")]
    pub other_path: Option<String>,
    /// Another method for URL. Under the key, the endpoint must refuse this method
    #[arg(long, value_name = "METHOD", help_heading = "What more checks need")]
    pub other_method: Option<Method>,
    /// A header of another account, in place of --header. May be repeated
    #[arg(long, value_name = "NAME: VALUE", help_heading = "What more checks need")]
    pub other_header: Vec<Header>,
    /// A request that changes the created object, for example 'POST {location}/cancel {}'. A replay must not show the
    /// change. `{location}` is the Location of the first reply, `{reply.id}` a member of its body
    #[arg(long, value_name = "METHOD PATH BODY", help_heading = "What more checks need")]
    pub change: Option<Step>,
    /// Another address of the same service
    #[arg(long, value_name = "URL", help_heading = "What more checks need")]
    pub replica: Option<String>,
    /// A body that the endpoint refuses by its own rules with a 4xx, for example more than there is in stock
    #[arg(long, value_name = "BODY", help_heading = "What more checks need")]
    pub failing_body: Option<String>,
    /// In place of --failing-body: a request after which the endpoint refuses --body for good with a 4xx, for example
    /// 'POST /v1/orders/{setup.id}/cancel'. Sent after --setup, whose last answer has `{setup.id}`. May be repeated
    #[arg(
        long,
        value_name = "METHOD PATH BODY",
        conflicts_with = "failing_body",
        help_heading = "What more checks need"
    )]
    pub failing_setup: Vec<Step>,
    /// A header that makes the endpoint answer 5xx. May be repeated
    #[arg(long, value_name = "NAME: VALUE", help_heading = "What more checks need")]
    pub failing_header: Vec<Header>,

    /// What the documentation promises for the key of a failed request
    #[arg(long, value_name = "PROMISE", help_heading = "What the service promises")]
    pub failures: Option<FailurePromise>,
    /// Seconds until the failing request is sent again. A stored failure must be kept for this time
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    #[arg(help_heading = "What the service promises")]
    pub watch: u64,
    /// The endpoint's documentation allows a request without a key
    #[arg(long, help_heading = "What the service promises")]
    pub key_optional: bool,
    /// The request header that carries the key
    #[arg(long, value_name = "NAME", default_value = "Idempotency-Key", help_heading = "What the service promises")]
    pub key_header: HeaderName,
    /// The form of keys. The default is quoted for the profile draft, and bare for the others
    #[arg(long, value_name = "FORM", help_heading = "What the service promises")]
    pub key_form: Option<KeyForm>,
    /// The response header that marks a replay. The default is any header whose name contains "idempoten" and "replay"
    #[arg(long, value_name = "NAME", help_heading = "What the service promises")]
    pub marker: Option<HeaderName>,
    /// Seconds until a request without an answer counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    #[arg(help_heading = "What the service promises")]
    pub timeout: u64,
}

/// The options of a run, whatever the endpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct RunOptions {
    /// A TOML file with several endpoints. Its keys are the options above
    #[arg(long, value_name = "FILE", conflicts_with = "Endpoint", help_heading = "The run")]
    pub config: Option<PathBuf>,
    /// Only this endpoint of the file. May be repeated
    #[arg(long, value_name = "NAME", requires = "config", help_heading = "The run")]
    pub endpoint: Vec<String>,
    /// The format of the findings on standard output
    #[arg(long, value_enum, default_value = "text", help_heading = "The run")]
    pub format: Format,
    /// Don't ask before requests go to another machine
    #[arg(long, help_heading = "The run")]
    pub yes: bool,
    /// List the checks without sending anything
    #[arg(long, help_heading = "The run")]
    pub list: bool,
    /// Print this help
    #[arg(short, long, action = ArgAction::Help, help_heading = "The run")]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "The run")]
    version: Option<bool>,
}

/// The formats of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Text,
    /// One JSON document
    Json,
    /// `JUnit` XML, for CI
    Junit,
}

/// The URL of `GET URL`.
#[expect(clippy::unnecessary_wraps, reason = "clap's value_parser returns a Result")]
fn of_get(text: &str) -> Result<String, String> {
    Ok(text.trim().trim_start_matches("GET ").trim().to_owned())
}

/// A header. The value may have placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The header's name.
    pub name: HeaderName,
    /// The header's value.
    pub value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("a header must have the form 'Name: value'")?;
        let name = name.trim().parse().map_err(|_| format!("{name:?} is no header name"))?;
        Ok(Self { name, value: value.trim().to_owned() })
    }
}
