//! The command: announces what it will send, asks, checks one endpoint or those of a file, and writes the findings.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use super::args::Args;
use super::config;
use super::output;
use super::report::Outcome;
use super::run::{Selection, run};
use super::target::Target;
use super::{Report, checks};

/// The exit code of a run that did not check an endpoint: a wrong command line, a service that can't be checked, or only skips.
const NOT_CHECKED: u8 = 2;

/// An endpoint to check.
struct Job {
    /// Its name in the file. `None` if the command line has the endpoint.
    name: Option<String>,
    args: Args,
    target: Target,
}

/// Runs the command. The report goes to standard output, everything else to standard error.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match command(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("idempotency-verify: {error}");
            ExitCode::from(NOT_CHECKED)
        }
    }
}

fn command(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if args.run.list {
        let selection = Selection::of(args)?;
        write!(
            std::io::stdout(),
            "{}",
            output::list(checks().filter(|(experiment, check)| selection.has(experiment, check)))?
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let jobs = jobs(args)?;
    for job in &jobs {
        announce(job)?;
    }
    if !args.run.yes && !may_go_on(&jobs)? {
        return Err("nothing was sent".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut outcomes = Vec::new();
    for Job { name, args, target } in jobs {
        let report = runtime.block_on(run(target, &args));
        match (name, report) {
            (None, Err(error)) => return Err(error.into()),
            (name, report) => outcomes.push(Outcome { name, report }),
        }
    }
    for Outcome { name, report } in &outcomes {
        if report.as_ref().is_ok_and(|report| !report.judged()) {
            let prefix = name.as_ref().map(|name| format!("endpoint {name}: ")).unwrap_or_default();
            eprintln!("idempotency-verify: {prefix}every check was skipped, so nothing was checked");
        }
    }
    let colors = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    write!(std::io::stdout(), "{}", output::write(&outcomes, args.run.format, colors)?)?;
    let checked = |outcome: &Outcome| outcome.report.as_ref().is_ok_and(Report::judged);
    Ok(match () {
        () if !outcomes.iter().all(checked) => ExitCode::from(NOT_CHECKED),
        () if outcomes.iter().filter_map(|outcome| outcome.report.as_ref().ok()).any(Report::failed) => {
            ExitCode::FAILURE
        }
        () => ExitCode::SUCCESS,
    })
}

fn jobs(args: &Args) -> Result<Vec<Job>, Box<dyn std::error::Error>> {
    let named = match &args.run.config {
        None => vec![(None, args.clone())],
        Some(file) => {
            let endpoints = config::read(file, &args.run.endpoint)?;
            endpoints.into_iter().map(|endpoint| (Some(endpoint.name), endpoint.args)).collect()
        }
    };
    let job = |(name, args): (Option<String>, Args)| {
        Selection::of(&args)?;
        Target::of(&args).map(|target| Job { name, args, target })
    };
    let named = named.into_iter().map(|(name, args)| {
        let prefix = name.as_ref().map(|name| format!("endpoint {name}: ")).unwrap_or_default();
        job((name, args)).map_err(|error| format!("{prefix}{error}").into())
    });
    named.collect()
}

fn announce(job: &Job) -> Result<(), String> {
    let (target, selection) = (&job.target, Selection::of(&job.args)?);
    let (method, url, most) = (&target.method, &target.url, selection.most_requests(target));
    eprintln!("{method} {url}: at most {most} requests. The requests are real: they make real objects.");
    eprintln!("If each answer is final and each effect shows at once, about {}.", selection.requests(target));
    match &target.given.count {
        Some(count) => eprintln!("Effects are counted by GET {count}."),
        None => eprintln!("Effects are not counted, only judged by the replies. Give --count to count effects."),
    }
    eprintln!("The rules are those of {}.", job.args.profile.author());
    Ok(())
}

/// Asks before requests go to another machine.
fn may_go_on(jobs: &[Job]) -> Result<bool, Box<dyn std::error::Error>> {
    let mut hosts = Vec::new();
    for job in jobs {
        hosts.extend(job.target.foreign_hosts()?);
    }
    hosts.sort();
    hosts.dedup();
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
