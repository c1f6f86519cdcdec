//! A trace as a file: the first line names the model and the world, each other line who reported what.
//!
//! ```text
//! record requests=0a,1a,0b body=create losses=1
//! 0 Begins
//! 0 Claimed
//! ```
//! A request is its process and its body. For a call, the first line is `call`, and each line has a lease's number. A holder may
//! fall silent at any time: its process ended.

use crate::call::{Assumptions, Bounds as CallBounds, Call, Rules as CallRules, Times, ToldStep as CallStep};
use crate::record::{Body, Bounds, Heard, Record, Rules, ToldStep as RecordStep};
use crate::trace::{Allowed, Refused, follow};

/// The longest trace of the crate's tests has nine.
const MOST_LEASES: usize = 12;

/// The most requests of one trace. A world of five is among the large ones.
const MOST_REQUESTS: usize = 5;

/// Follows the trace of a file's text through its model.
///
/// # Errors
/// A line for a person: what the model does not allow, or why the text is not a trace.
pub fn follow_text(text: &str) -> Result<Allowed, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let (_, head) = lines.next().ok_or("the file is empty")?;
    let (model, settings) = head.split_once(' ').unwrap_or((head, ""));
    let steps: Vec<(usize, &str)> = lines.map(|(i, line)| (i + 1, line)).collect();
    match model {
        "record" => {
            let model = record(settings)?;
            let steps = parsed(&steps, model.bounds.requests.len(), 0, record_step)?;
            told(follow(&model, model.bounds.requests.len(), &steps.told), &steps.lines)
        }
        "call" => {
            let steps = parsed(&steps, MOST_LEASES, 1, call_step)?;
            let leases = steps.told.iter().map(|(lease, _)| lease + 1).max().unwrap_or(1);
            let model = call(settings, leases)?;
            told(follow(&model, model.bounds.workers, &steps.told), &steps.lines)
        }
        other => Err(format!("there is no model {other}")),
    }
}

fn told(end: Result<Allowed, Refused>, lines: &[String]) -> Result<Allowed, String> {
    end.map_err(|refused| match refused {
        Refused::Step(number) => format!("the model does not allow {}", lines[number]),
        Refused::End => "the model can't be at rest after the last step".to_owned(),
    })
}

struct Steps<S> {
    told: Vec<(usize, S)>,
    /// For a message.
    lines: Vec<String>,
}

fn parsed<S>(
    lines: &[(usize, &str)],
    actors: usize,
    first: usize,
    step: fn(&str) -> Option<S>,
) -> Result<Steps<S>, String> {
    let mut steps = Steps { told: Vec::new(), lines: Vec::new() };
    for (number, line) in lines {
        let told = line.split_once(' ').and_then(|(actor, name)| {
            let actor = actor.parse::<usize>().ok()?.checked_sub(first).filter(|actor| *actor < actors)?;
            Some((actor, step(name)?))
        });
        steps.told.push(told.ok_or(format!("line {number} is no step: {line}"))?);
        steps.lines.push(format!("line {number}: {line}"));
    }
    Ok(steps)
}

fn record(settings: &str) -> Result<Record, String> {
    let mut bounds = Bounds {
        requests: Vec::new(),
        body: Body::Create,
        cache_failures: false,
        provisional: false,
        starts_expired: false,
        expiries: 0,
        losses: 0,
        kills: 0,
        leaves: 0,
        // `MAX_RUNS`.
        runs: 5,
    };
    for setting in settings.split_whitespace() {
        let wrong = || format!("{setting} is no setting of a record");
        match setting.split_once('=').ok_or_else(wrong)? {
            ("requests", requests) => {
                for request in requests.split(',') {
                    let mut letters = request.chars();
                    let process = letters.next().and_then(|letter| letter.to_digit(2)).ok_or_else(wrong)?;
                    bounds.requests.push((process as usize, letters.next().ok_or_else(wrong)?));
                }
            }
            ("body", "create") => bounds.body = Body::Create,
            ("body", "may-fail") => bounds.body = Body::MayFail,
            ("body", "cancel") => bounds.body = Body::Cancel,
            ("failures", "cached") => bounds.cache_failures = true,
            ("reply", "provisional") => bounds.provisional = true,
            ("record", "expired") => (bounds.starts_expired, bounds.expiries) = (true, 1),
            ("losses", number) => bounds.losses = number.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        }
    }
    if bounds.requests.is_empty() || bounds.requests.len() > MOST_REQUESTS {
        return Err(format!("a trace has 1 to {MOST_REQUESTS} requests"));
    }
    Ok(Record { bounds, rules: Rules::ALL, only: None })
}

fn call(settings: &str, leases: usize) -> Result<Call, String> {
    if !settings.is_empty() {
        return Err(format!("{settings} is no setting of a call"));
    }
    let bounds = CallBounds {
        workers: leases,
        // Nobody reports that a call is parked or resumed, and a look at an object without an outcome does not count.
        max_attempts: u8::MAX,
        resumes: 0,
        // `MOST_LEASES` is small.
        crashes: u8::try_from(leases).map_err(|error| error.to_string())?,
        copies: 0,
        // More sendings at once change nothing for the holders: the network may also lose one.
        sendings: 1,
        // Nobody reports a repeat, a hint, or what the provider stores. Time and the network have the same results: no
        // answer, a 5xx, a call that is due.
        quick_repeats: 0,
        hints: false,
        restores: 0,
        declines: false,
        refuses: true,
        stores_errors: false,
    };
    let (times, assumptions, rules) = (Times::DEFAULT, Assumptions::ALL, CallRules::ALL);
    Ok(Call { bounds, times, assumptions, rules, only: None })
}

fn record_step(name: &str) -> Option<RecordStep> {
    Some(match name {
        "Waits" => RecordStep::Waits,
        "Begins" => RecordStep::Begins,
        "Claimed" => RecordStep::Claimed,
        "MetTransaction" => RecordStep::MetTransaction,
        "MetRecord { provisional: false }" => RecordStep::MetRecord { provisional: false },
        "MetRecord { provisional: true }" => RecordStep::MetRecord { provisional: true },
        "BodyRan" => RecordStep::BodyRan,
        "Recorded" => RecordStep::Recorded,
        "Committed" => RecordStep::Committed,
        "Failed" => RecordStep::Failed,
        "Answered Provisional" => RecordStep::Answered(Heard::Provisional),
        "Answered Fresh" => RecordStep::Answered(Heard::Fresh),
        "Answered Replay" => RecordStep::Answered(Heard::Replay),
        "Answered Reused" => RecordStep::Answered(Heard::Reused),
        "Answered InFlight" => RecordStep::Answered(Heard::InFlight),
        "Answered Failed" => RecordStep::Answered(Heard::Failed),
        "Answered Broken" => RecordStep::Answered(Heard::Broken),
        _ => return None,
    })
}

fn call_step(name: &str) -> Option<CallStep> {
    Some(match name {
        "Begun" => CallStep::Begun,
        "Leased" => CallStep::Leased,
        "Sending" => CallStep::Sending,
        "Called" => CallStep::Called,
        "Applied" => CallStep::Applied,
        "Recorded" => CallStep::Recorded,
        "GivenBack" => CallStep::GivenBack,
        _ => return None,
    })
}
