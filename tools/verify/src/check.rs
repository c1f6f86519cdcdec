//! The parts of a check: a claim about the endpoint, the authors' rules for the claim, and what an experiment saw.

use futures_util::future::BoxFuture;

use super::effects::{LOOKS, Uncounted};
use super::session::{ATTEMPTS, Session, Trouble};
use super::target::Target;
pub use super::words::Profile;

/// The rule of one author.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The author.
    pub by: Profile,
    /// Whether the author requires the rule. Otherwise the author only recommends it.
    pub required: bool,
    /// What is right for this author.
    pub right: &'static str,
}

/// A rule of the draft that says MUST or SHOULD.
pub(super) const fn draft(right: &'static str) -> Rule {
    Rule { by: Profile::Draft, required: true, right }
}

/// A rule that the draft recommends, or shows in an example.
pub(super) const fn draft_recommends(right: &'static str) -> Rule {
    Rule { by: Profile::Draft, required: false, right }
}

/// A rule of Stripe's documentation.
pub(super) const fn stripe(right: &'static str) -> Rule {
    Rule { by: Profile::Stripe, required: true, right }
}

/// A promise of this project.
pub(super) const fn this(right: &'static str) -> Rule {
    Rule { by: Profile::This, required: true, right }
}

/// One claim about the endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The check's name, for `--only` and for CI.
    pub name: &'static str,
    /// The rules, one from each author who says something about the claim.
    pub rules: &'static [Rule],
    /// What to do if the check fails.
    pub advice: &'static str,
}

/// What an experiment needs from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No `--key-optional`.
    KeyRequired,
    /// `--body` with a JSON object of at least two members.
    Members,
    /// `--other-body`.
    OtherBody,
    /// `--other-path`.
    OtherPath,
    /// `--other-method`.
    OtherMethod,
    /// `--change`.
    Change,
    /// `--replica`.
    Replica,
    /// `--failing-body` or `--failing-setup`.
    Failure,
    /// `--failing-header`.
    FailingHeader,
    /// `--other-header`.
    OtherHeader,
    /// `--count`.
    Count,
    /// `--failures`.
    Failures,
}

impl Need {
    /// Whether the command line lacks what is needed.
    #[must_use]
    pub fn is_missing(self, target: &Target) -> bool {
        match self {
            Self::KeyRequired => target.given.key_optional,
            Self::Members => !target.has_members(),
            Self::OtherBody => target.given.other_body.is_none(),
            Self::OtherPath => target.given.other_path.is_none(),
            Self::OtherMethod => target.given.other_method.is_none(),
            Self::Change => target.given.change.is_none(),
            Self::Replica => target.given.replica.is_none(),
            Self::Failure => target.given.failing_body.is_none() && target.given.failing_setup.is_empty(),
            Self::FailingHeader => target.given.failing_header.is_empty(),
            Self::OtherHeader => target.given.other_header.is_empty(),
            Self::Count => target.given.count.is_none(),
            Self::Failures => target.given.failures.is_none(),
        }
    }

    /// For a reader: `needs --other-body`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::KeyRequired => "needs an endpoint whose key is not --key-optional",
            Self::Members => "needs --body with a JSON object of two members or more",
            Self::OtherBody => "needs --other-body",
            Self::OtherPath => "needs --other-path, an endpoint with the same key space",
            Self::OtherMethod => "needs --other-method",
            Self::Change => "needs --change, a request that changes the object that was made",
            Self::Replica => "needs --replica",
            Self::Failure => "needs --failing-body or --failing-setup",
            Self::FailingHeader => "needs --failing-header",
            Self::OtherHeader => "needs --other-header, the credentials of another account",
            Self::Count => "needs --count",
            Self::Failures => "needs --failures stored or free",
        }
    }

    /// The option that enables the check. `None` if no option can, because the key is optional.
    #[must_use]
    pub fn option(self) -> Option<&'static str> {
        match self {
            Self::KeyRequired => None,
            Self::Members => Some("--body '{..}'"),
            Self::OtherBody => Some("--other-body BODY"),
            Self::OtherPath => Some("--other-path PATH"),
            Self::OtherMethod => Some("--other-method METHOD"),
            Self::Change => Some("--change 'METHOD PATH BODY'"),
            Self::Replica => Some("--replica URL"),
            Self::Failure => Some("--failing-body BODY or --failing-setup 'METHOD PATH BODY'"),
            Self::FailingHeader => Some("--failing-header 'NAME: VALUE'"),
            Self::OtherHeader => Some("--other-header 'NAME: VALUE'"),
            Self::Count => Some("--count 'GET URL'"),
            Self::Failures => Some("--failures PROMISE"),
        }
    }
}

/// Requests that are sent once, and the checks that judge the answers.
pub struct Experiment {
    /// The heading of the checks.
    pub group: &'static str,
    /// What is sent.
    pub sends: &'static str,
    /// What the checks need. If something is missing, the checks are skipped.
    pub needs: &'static [Need],
    /// The requests that are sent if each answer is final and each effect shows at once, including those that count effects.
    pub requests: usize,
    /// How many intents there are, each with its own setup.
    pub intents: usize,
    /// How many of the requests are sent again while the answer is a 202.
    pub follows: usize,
    /// How many of them count effects, and are sent again while effects are late.
    pub counts: usize,
    /// The checks.
    pub checks: &'static [Check],
    /// Sends the requests and judges the answers.
    pub run: for<'a> fn(&'a Session) -> Run<'a>,
}

impl Experiment {
    /// The most requests that it may send. The session refuses to send more.
    #[must_use]
    pub fn most_requests(&self, target: &Target) -> usize {
        let looks = if target.given.count.is_some() { self.counts * (LOOKS - 1) } else { 0 };
        self.requests + self.follows * (ATTEMPTS - 1) + looks + self.setups(target) * ATTEMPTS
    }

    /// How many requests of `--setup` and `--failing-setup` it sends, if each answer is final.
    pub(super) fn setups(&self, target: &Target) -> usize {
        let failing = if self.needs.contains(&Need::Failure) { target.given.failing_setup.len() } else { 0 };
        self.intents * target.given.setup.len() + failing
    }
}

/// A running experiment.
pub type Run<'a> = BoxFuture<'a, Result<Vec<Seen>, Trouble>>;

/// What an experiment saw for one check.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The check's name.
    pub check: &'static str,
    /// What came back, as a text for the reader.
    pub text: String,
    /// The authors whose rules hold. `None` if nothing was judged: then `text` says why.
    pub holds: Option<Holds>,
    /// What is missing, if that is why nothing was judged.
    pub needs: Option<Need>,
}

/// The authors whose rules hold. They disagree on few checks, so usually all rules hold or none.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    draft: bool,
    stripe: bool,
    this: bool,
}

impl Holds {
    /// Whether this author's rule holds.
    #[must_use]
    pub fn by(self, profile: Profile) -> bool {
        match profile {
            Profile::Draft => self.draft,
            Profile::Stripe => self.stripe,
            Profile::This => self.this,
        }
    }
}

impl Seen {
    /// A check that needs a number of effects.
    pub fn uncounted(check: &'static str, why: &Uncounted) -> Self {
        match why {
            Uncounted::NotAsked => Self::needs(check, Need::Count),
            Uncounted::Late(why) => Self::skipped(check, *why),
        }
    }

    /// A finding on which all authors agree.
    pub(super) fn judged(check: &'static str, right: bool, text: impl Into<String>) -> Self {
        Self::by(check, |_| right, text)
    }

    /// A finding on which authors disagree.
    pub(super) fn by(check: &'static str, right: impl Fn(Profile) -> bool, text: impl Into<String>) -> Self {
        let holds = Holds { draft: right(Profile::Draft), stripe: right(Profile::Stripe), this: right(Profile::This) };
        Self { check, text: text.into(), holds: Some(holds), needs: None }
    }

    /// No finding, because nothing could be judged.
    pub(super) fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, text: why.into(), holds: None, needs: None }
    }

    /// No finding, because the command line lacks what is needed.
    pub(super) fn needs(check: &'static str, need: Need) -> Self {
        Self { needs: Some(need), ..Self::skipped(check, need.text()) }
    }
}
