//! The command line of `idempotency-verify`.

use std::str::FromStr;

use clap::ValueEnum;
use hyper::Method;
use hyper::header::HeaderName;

use super::words::{FailurePromise, KeyForm, Profile};

/// The arguments of a check.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "idempotency-verify", version)]
#[command(next_help_heading = "The check")]
pub struct Args {
    /// The endpoint's method, such as POST
    #[arg(required_unless_present = "list")]
    pub method: Option<Method>,
    /// The endpoint. `{uuid}` gets a new value for each new request, here and in headers and bodies
    #[arg(required_unless_present = "list")]
    pub url: Option<String>,
    /// A header of every request, for example 'Authorization: Bearer ..'. May be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<Header>,
    /// The request's body
    #[arg(long)]
    pub body: Option<String>,
    /// A body that means another request. Under the key of --body, the endpoint must refuse this body
    #[arg(long, value_name = "BODY")]
    pub other_body: Option<String>,
    /// A body that the endpoint refuses by its own rules with a 4xx, for example more than there is in stock
    #[arg(long, value_name = "BODY")]
    pub failing_body: Option<String>,
    /// The URL that counts effects: a list, or a number. The body's members are filled in: `..?customer={customer}`
    #[arg(long, value_name = "GET URL")]
    pub count: Option<String>,
    /// JSON pointer to the array or the number of effects. The default is a member with a name such as count, or the only array
    #[arg(long, value_name = "POINTER", requires = "count")]
    pub count_at: Option<String>,
    /// A string member of the bodies. Each new request gets another value for it. May be repeated
    #[arg(long, value_name = "MEMBER")]
    pub vary: Vec<String>,
    /// Another address of the same service
    #[arg(long, value_name = "URL")]
    pub replica: Option<String>,
    /// Another keyed endpoint with the same key space. This endpoint must refuse the key of URL
    #[arg(long, value_name = "URL")]
    pub other_url: Option<String>,
    /// Another method for URL. Under the key, the endpoint must refuse this method
    #[arg(long, value_name = "METHOD")]
    pub other_method: Option<Method>,
    /// A header of another account, in the place of --header. May be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub other_header: Vec<Header>,
    /// A header that makes the endpoint answer 5xx. May be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub failing_header: Vec<Header>,
    /// What the service promises for the key of a failed request
    #[arg(long, value_name = "PROMISE")]
    pub failures: Option<FailurePromise>,
    /// Seconds until the failing request is sent again. A stored failure must be kept for this time
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub watch: u64,
    /// The endpoint's documentation allows a request without a key
    #[arg(long)]
    pub key_optional: bool,
    /// The request header that carries the key
    #[arg(long, value_name = "NAME", default_value = "Idempotency-Key")]
    pub key_header: HeaderName,
    /// The form of keys. The default is quoted for the profile draft, and bare for the others
    #[arg(long, value_name = "FORM")]
    pub key_form: Option<KeyForm>,
    /// The response header that marks a replay. The default is any header whose name contains "idempoten" and "replay"
    #[arg(long, value_name = "NAME")]
    pub marker: Option<HeaderName>,
    /// The author whose rules decide about the exit status
    #[arg(long, value_enum, default_value = "draft")]
    pub profile: Profile,
    /// The format of the findings on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Only these checks or groups, separated by commas. May be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Seconds until a request without an answer counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,
    /// Don't ask before requests go to another machine
    #[arg(long)]
    pub yes: bool,
    /// List the checks, and send nothing
    #[arg(long)]
    pub list: bool,
}

/// The formats of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Text,
    /// One JSON document
    Json,
    /// XML as `JUnit` writes it, for CI
    Junit,
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
