//! `idempotency-verify`: a black-box check of one keyed endpoint of any HTTP service.
//!
//! Guarantees: a run sends no more requests than it announced, and none to another machine without a yes. Each check judges one
//! claim, and says what was sent, what is right for which author, and what was seen. No check knows this project's paths or
//! objects.
//!
//! Not guaranteed: that a service that passes is right. A race that fifty duplicates did not lose may be lost by the next fifty.
//! And a crash can't be seen from outside.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};

mod accounts;
mod answer;
mod args;
mod check;
mod duplicates;
mod failures;
mod fingerprints;
mod keys;
mod leaving;
mod output;
mod problems;
mod replays;
mod report;
mod send;
mod session;
mod target;
mod words;

pub use args::{Args, Format, Header};
pub use check::{Check, Experiment, Profile};
pub use report::{Finding, Report, Status};
pub use target::Target;

use check::Seen;
use session::{ATTEMPTS, Key, Session, Trouble};

/// The exit code of a run without findings: a wrong command line, or a service that can't be checked.
const WRONG_USAGE: u8 = 2;

/// The most requests before the first experiment: the first request until its final answer, and one count.
const FIRST_REQUEST: usize = ATTEMPTS + 1;

/// How often the bar moves while a check waits. A check may wait for seconds.
const BAR_MOVES: Duration = Duration::from_millis(200);

/// Every experiment, in the order in which they run.
pub fn experiments() -> impl Iterator<Item = &'static Experiment> {
    let groups = [
        keys::ALL,
        replays::ALL,
        fingerprints::ALL,
        duplicates::ALL,
        leaving::ALL,
        failures::ALL,
        accounts::ALL,
        problems::ALL,
    ];
    groups.into_iter().flatten()
}

/// Every check, with its experiment.
pub fn checks() -> impl Iterator<Item = (&'static Experiment, &'static Check)> {
    experiments().flat_map(|experiment| experiment.checks.iter().map(move |check| (experiment, check)))
}

/// Runs the command. The report goes to standard output, everything else to standard error.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match command(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("idempotency-verify: {error}");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

fn command(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let selection = Selection::of(&args.only)?;
    if args.list {
        write!(std::io::stdout(), "{}", output::list(checks().filter(|(_, check)| selection.has(check)))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let target = Target::of(args)?;
    announce(args, &target, selection.requests(&target));
    if !args.yes && !may_go_on(&target)? {
        return Err("nothing was sent".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run(target, args.profile, &args.only))?;
    let colors = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    write!(std::io::stdout(), "{}", output::write(&report, args.format, colors)?)?;
    Ok(if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn announce(args: &Args, target: &Target, requests: usize) {
    let (method, url) = (&target.method, &target.url);
    eprintln!("{method} {url}: at most {requests} requests. The requests are real: they make real objects.");
    match &target.count {
        Some(count) => eprintln!("Effects are counted by GET {count}."),
        None => eprintln!("Effects are not counted, only judged by the replies. Give --count to count effects."),
    }
    eprintln!("The rules are those of {}.", args.profile.author());
}

/// Asks before requests go to another machine.
fn may_go_on(target: &Target) -> Result<bool, Box<dyn std::error::Error>> {
    let hosts = target.foreign_hosts()?;
    if hosts.is_empty() {
        return Ok(true);
    }
    let hosts = hosts.join(", ");
    if !std::io::stdin().is_terminal() {
        return Err(format!("{hosts} is not this machine, and there is no terminal to ask on: give --yes").into());
    }
    eprint!("{hosts} is not this machine. Send the requests? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The checks that `--only` selects.
struct Selection<'a>(&'a [String]);

impl<'a> Selection<'a> {
    fn of(names: &'a [String]) -> Result<Self, String> {
        let known = |name: &String| checks().any(|(experiment, check)| name == check.name || name == experiment.group);
        match names.iter().find(|name| !known(name)) {
            Some(unknown) => Err(format!("there is no check and no group {unknown:?}; --list names them")),
            None => Ok(Self(names)),
        }
    }

    fn has(&self, check: &Check) -> bool {
        let named = |experiment: &Experiment| self.0.iter().any(|name| name == check.name || name == experiment.group);
        self.0.is_empty() || checks().any(|(experiment, other)| other.name == check.name && named(experiment))
    }

    fn wants(&self, experiment: &Experiment) -> bool {
        experiment.checks.iter().any(|check| self.has(check))
    }

    /// The most requests that a run sends.
    fn requests(&self, target: &Target) -> usize {
        let runs = |experiment: &&Experiment| self.wants(experiment) && missing(experiment, target).is_none();
        FIRST_REQUEST + experiments().filter(runs).map(|experiment| experiment.requests).sum::<usize>()
    }
}

fn missing(experiment: &Experiment, target: &Target) -> Option<&'static str> {
    experiment.needs.iter().find_map(|need| need.missing(target))
}

/// Runs the checks in `only`. If `only` is empty, runs all checks.
///
/// # Errors
/// If a name is unknown, or the service does not answer the request with a 2xx. Then nothing was checked.
pub async fn run(target: Target, profile: Profile, only: &[String]) -> Result<Report, String> {
    let selection = Selection::of(only)?;
    let started_at = report::rfc3339(Utc::now());
    let requests_announced = selection.requests(&target);
    let mut session = Session::new(target);
    session.allow(FIRST_REQUEST, ProgressBar::hidden());
    first_request(&session).await?;
    let mut findings = Vec::new();
    for experiment in experiments().filter(|experiment| selection.wants(experiment)) {
        let seen = seen(&mut session, experiment).await;
        for check in experiment.checks.iter().filter(|check| selection.has(check)) {
            let seen = seen.iter().find(|seen| seen.check == check.name).cloned();
            let seen = seen.unwrap_or_else(|| Seen::judged(check.name, false, "the experiment said nothing"));
            findings.push(Finding::of(experiment, check, profile, seen));
        }
    }
    let target = &session.target;
    Ok(Report {
        target: format!("{} {}", target.method, target.url),
        profile,
        started_at,
        version: env!("CARGO_PKG_VERSION"),
        effects: if target.count.is_some() { "counted" } else { "judged by the replies" },
        requests_announced,
        requests_sent: session.sent(),
        findings,
    })
}

/// Checks that the endpoint answers the request with a 2xx. Otherwise no check of a retry makes sense.
async fn first_request(session: &Session) -> Result<(), String> {
    let first = async {
        let intent = session.intent()?;
        session.count(&intent).await?;
        session.until_final(&session.request(&intent, &Key::fresh())).await
    };
    match first.await {
        Ok(answer) if answer.is_success() => Ok(()),
        Ok(answer) => {
            let body: String = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
            Err(format!("the request itself was answered {}, so nothing was checked: {body}", answer.status))
        }
        Err(trouble) => Err(format!("{trouble}; nothing was checked")),
    }
}

/// Runs one experiment. If the service stops answering, each check of the experiment fails.
async fn seen(session: &mut Session, experiment: &Experiment) -> Vec<Seen> {
    let all = |seen: &dyn Fn(&'static str) -> Seen| experiment.checks.iter().map(|check| seen(check.name)).collect();
    if let Some(reason) = missing(experiment, &session.target) {
        return all(&|check| Seen::skipped(check, reason));
    }
    let bar = bar(experiment);
    session.allow(experiment.requests, bar.clone());
    let outcome = (experiment.run)(session).await;
    bar.finish_and_clear();
    match outcome {
        Ok(seen) => seen,
        Err(trouble @ (Trouble::Count(_) | Trouble::Request(_))) => {
            all(&|check| Seen::skipped(check, trouble.to_string()))
        }
        Err(trouble) => all(&|check| Seen::judged(check, false, trouble.to_string())),
    }
}

/// The progress bar. indicatif draws it only on a terminal.
fn bar(experiment: &Experiment) -> ProgressBar {
    let bar = ProgressBar::new(experiment.requests as u64);
    let style = ProgressStyle::with_template("{msg:14} {bar:32} {pos}/{len} requests at most");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(experiment.group);
    bar.enable_steady_tick(BAR_MOVES);
    bar
}
