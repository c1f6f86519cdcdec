//! The command line of `payments verify`.

use std::str::FromStr;

use clap::ValueEnum;
use hyper::Method;
use hyper::header::HeaderName;

use super::words::{FailurePromise, KeyForm, Profile};

/// What is to be checked, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The check")]
pub struct Args {
    /// The endpoint's method, such as POST
    #[arg(required_unless_present = "list")]
    pub method: Option<Method>,
    /// The endpoint. `{uuid}` is filled in anew for each request of its own, here and in headers and bodies
    #[arg(required_unless_present = "list")]
    pub url: Option<String>,
    /// A header of every request, for example 'Authorization: Bearer ..'; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<Header>,
    /// The request's body
    #[arg(long)]
    pub body: Option<String>,
    /// A body that means another request: it must be refused under the key of --body
    #[arg(long, value_name = "BODY")]
    pub other_body: Option<String>,
    /// A body that the endpoint refuses by its own rules with a 4xx, for example more than there is in stock
    #[arg(long, value_name = "BODY")]
    pub failing_body: Option<String>,
    /// Where effects are counted: a list, or a number. The body's members are filled in: `..?customer={customer}`
    #[arg(long, value_name = "GET URL")]
    pub count: Option<String>,
    /// JSON pointer to the array or the number that counts the effects; by default a member that says so, or the only array
    #[arg(long, value_name = "POINTER", requires = "count")]
    pub count_at: Option<String>,
    /// A string member of the bodies that each request of its own gets another value for; may be repeated
    #[arg(long, value_name = "MEMBER")]
    pub vary: Vec<String>,
    /// Another address of the same service
    #[arg(long, value_name = "URL")]
    pub replica: Option<String>,
    /// Another keyed endpoint with the same key space: the key of URL must be refused there
    #[arg(long, value_name = "URL")]
    pub other_url: Option<String>,
    /// Another method for URL: it must be refused under the key
    #[arg(long, value_name = "METHOD")]
    pub other_method: Option<Method>,
    /// What takes the place of --header for another account; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub other_header: Vec<Header>,
    /// A header that makes the endpoint answer 5xx; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub failing_header: Vec<Header>,
    /// What the service promises for the key of a failed request
    #[arg(long, value_name = "PROMISE")]
    pub failures: Option<FailurePromise>,
    /// Seconds after which a failure is asked for again: so long a stored one must be kept
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub watch: u64,
    /// The endpoint's documentation lets a request go without a key
    #[arg(long)]
    pub key_optional: bool,
    /// The request header that carries the key
    #[arg(long, value_name = "NAME", default_value = "Idempotency-Key")]
    pub key_header: HeaderName,
    /// How keys are written; by default quoted for the profile draft, and bare for the others
    #[arg(long, value_name = "FORM")]
    pub key_form: Option<KeyForm>,
    /// The response header that marks a replay; by default any whose name holds "idempoten" and "replay"
    #[arg(long, value_name = "NAME")]
    pub marker: Option<HeaderName>,
    /// Whose rules decide about the exit status
    #[arg(long, value_enum, default_value = "draft")]
    pub profile: Profile,
    /// How the findings are written to standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Only these checks or groups; may be repeated or separated by commas
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

/// How findings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Text,
    /// One JSON document
    Json,
    /// XML as `JUnit` writes it, for CI
    Junit,
}

/// A header, whose value may hold placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("a header is written as 'Name: value'")?;
        let name = name.trim().parse().map_err(|_| format!("{name:?} is no header name"))?;
        Ok(Self { name, value: value.trim().to_owned() })
    }
}
