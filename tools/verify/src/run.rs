//! Runs the experiments on one endpoint.

use std::time::Duration;

use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::Args;
use super::check::{Check, Experiment, Need, Seen};
use super::effects::{CONTROL, LOOKS};
use super::report::{self, Finding, Report};
use super::session::{ATTEMPTS, Key, Session, Trouble, most_setups};
use super::target::Target;
use super::{checks, experiments};

/// The most requests before the first experiment: a count, the first request until its final answer, and the looks at the count.
const FIRST_REQUEST: usize = 1 + ATTEMPTS + LOOKS;

/// How often the bar moves while a check waits. A check may wait for seconds.
const BAR_MOVES: Duration = Duration::from_millis(200);

/// The checks that `--only` and `--except` select.
pub struct Selection<'a> {
    only: &'a [String],
    except: &'a [String],
}

impl<'a> Selection<'a> {
    pub fn of(args: &'a Args) -> Result<Self, String> {
        let Args { only, except, .. } = args;
        let known = |name: &String| checks().any(|(experiment, check)| name == check.name || name == experiment.group);
        match only.iter().chain(except).find(|name| !known(name)) {
            Some(unknown) => Err(format!("there is no check and no group {unknown:?}; --list names them")),
            None => Ok(Self { only, except }),
        }
    }

    pub fn has(&self, experiment: &Experiment, check: &Check) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == check.name || name == experiment.group);
        (self.only.is_empty() || named(self.only)) && !named(self.except)
    }

    fn wants(&self, experiment: &Experiment) -> bool {
        experiment.checks.iter().any(|check| self.has(experiment, check))
    }

    fn runs<'s>(&'s self, target: &'s Target) -> impl Iterator<Item = &'static Experiment> + 's {
        experiments().filter(|experiment| self.wants(experiment) && missing(experiment, target).is_none())
    }

    /// The most requests that a run sends.
    pub fn most_requests(&self, target: &Target) -> usize {
        let experiments: usize = self.runs(target).map(|experiment| experiment.most_requests(target)).sum();
        let control = if target.given.count.is_some() { CONTROL + most_setups(target) } else { 0 };
        FIRST_REQUEST + most_setups(target) + experiments + control
    }

    /// The requests that a run sends if each answer is final, and each effect shows at once.
    pub fn requests(&self, target: &Target) -> usize {
        let experiments = self.runs(target).map(|experiment| experiment.requests + experiment.setups(target));
        1 + target.given.setup.len() + experiments.sum::<usize>()
    }
}

fn missing(experiment: &Experiment, target: &Target) -> Option<Need> {
    experiment.needs.iter().copied().find(|need| need.is_missing(target))
}

/// Runs the checks that the command line selects.
///
/// # Errors
/// A name is unknown, or the service does not answer the request with a 2xx. Then nothing was checked.
pub async fn run(target: Target, args: &Args) -> Result<Report, String> {
    let (selection, profile) = (Selection::of(args)?, args.profile);
    let started_at = report::rfc3339(Utc::now());
    let requests_announced = selection.most_requests(&target);
    let mut session = Session::new(target);
    session.allow(FIRST_REQUEST + most_setups(&session.target), ProgressBar::hidden());
    first_request(&session).await?;
    let mut findings = Vec::new();
    for experiment in experiments().filter(|experiment| selection.wants(experiment)) {
        let seen = seen(&mut session, experiment).await;
        for check in experiment.checks.iter().filter(|check| selection.has(experiment, check)) {
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
        effects: match session.counting.stopped() {
            Some(why) => why,
            None if target.given.count.is_some() => "counted",
            None => "judged by the replies",
        },
        requests_announced,
        requests_sent: session.sent(),
        findings,
    })
}

/// Checks that the endpoint answers the request with a 2xx: otherwise no check of a retry makes sense. Also finds out
/// whether a 202 is the endpoint's final answer, and how late the count is.
async fn first_request(session: &Session) -> Result<(), String> {
    let first = async {
        let intent = session.intent().await?;
        let effects = session.watch(&intent).await?;
        let answer = session.until_final(&session.request(&intent, &Key::fresh())).await?;
        if answer.status == 202 {
            session.accepts_only();
        }
        if answer.is_success() {
            effects.learn_lag().await?;
        }
        Ok::<_, Trouble>(answer)
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
    if let Some(need) = missing(experiment, &session.target) {
        return all(&|check| Seen::needs(check, need));
    }
    let most = experiment.most_requests(&session.target);
    let bar = bar(experiment, most);
    session.allow(most, bar.clone());
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
fn bar(experiment: &Experiment, most_requests: usize) -> ProgressBar {
    let bar = ProgressBar::new(most_requests as u64);
    let style = ProgressStyle::with_template("{msg:14} {bar:32} {pos}/{len} requests at most");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(experiment.group);
    bar.enable_steady_tick(BAR_MOVES);
    bar
}
