//! The checks of a key after a failure: a refusal by the endpoint's own rules, and a 5xx.

use std::time::Duration;

use hyper::body::Bytes;

use super::check::{Check, Experiment, Need, Profile, Seen, draft, stripe, this};
use super::send::{Answer, Request};
use super::session::{Key, Session, Trouble};
use super::words::FailurePromise;

const GROUP: &str = "failures";

/// In the order in which they run.
pub const ALL: &[Experiment] = &[
    Experiment {
        group: GROUP,
        sends: "--failing-body, again at once, again after --watch seconds, and then --body, all under one key",
        needs: &[Need::FailingBody],
        requests: 6,
        intents: 1,
        follows: 4,
        counts: 1,
        checks: &[
            Check {
                name: "failure-repeated",
                rules: &[
                    draft(
                        "SHOULD (Idempotency Enforcement): a retry gets the result of the completed operation, success or an error",
                    ),
                    this("a retry of the failing request gets the failure again"),
                ],
                advice: "The same request in the same state must fail in the same way, whether the failure is stored or the request runs again.",
            },
            Check {
                name: "failure-key",
                rules: &[this(
                    "the key is kept, and the same bytes are replayed; or the key is free, and nothing is marked as a replay",
                )],
                advice: "Choose: store the failure's reply under the key, or roll all of it back and leave the key free. \
                         Otherwise a client can't know whether a corrected request needs a new key.",
            },
            Check {
                name: "failure-promise",
                rules: &[this("what --failures says")],
                advice: "The documentation and the server disagree on a failed request's key. Clients build on the documentation.",
            },
            Check {
                name: "failure-no-effect",
                rules: &[this("a failure leaves nothing behind")],
                advice: "Do the work and the check that refuses it in one transaction, and roll it back.",
            },
        ],
        run: |session| Box::pin(refused(session)),
    },
    Experiment {
        group: GROUP,
        sends: "the request with --failing-header, and then without it under the same key",
        needs: &[Need::FailingHeader],
        requests: 4,
        intents: 1,
        follows: 2,
        counts: 1,
        checks: &[
            Check {
                name: "server-error-key",
                rules: &[
                    stripe("the result is saved, \"including 500 errors\": the 5xx is replayed"),
                    this("a 5xx is never stored: the retry runs, and gets a 2xx"),
                ],
                advice: "A 5xx says that the server failed. It does not say what happened to the request. Don't store a 5xx: the retry must find the outcome.",
            },
            Check {
                name: "server-error-effect",
                rules: &[this("one effect if the retry succeeded, else no effect")],
                advice: "Roll back the work of an attempt that failed, or let the retry find the work.",
            },
        ],
        run: |session| Box::pin(server_error(session)),
    },
];

fn all_skipped(names: &[&'static str], why: &str) -> Vec<Seen> {
    names.iter().map(|name| Seen::skipped(name, why)).collect()
}

async fn refused(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let intent = session.intent().await?;
    let good = session.request(&intent, &Key::fresh());
    let failing = Request { body: intent.failing_body.clone().unwrap_or_else(Bytes::new), ..good.clone() };
    let effects = session.watch(&intent).await?;
    let first = session.outcome(&failing).await?;
    if !first.is_refusal() {
        let names = ["failure-repeated", "failure-key", "failure-promise", "failure-no-effect"];
        return Ok(all_skipped(&names, &format!("--failing-body was answered {}, which is no 4xx", first.status)));
    }
    let second = session.outcome(&failing).await?;
    tokio::time::sleep(Duration::from_secs(session.target.given.watch)).await;
    let third = session.outcome(&failing).await?;
    let done = effects.settle(0).await?;
    let other = session.outcome(&good).await?;
    let again = [&second, &third];
    let text = format!(
        "{}, then {}, then {} after {} s",
        first.status, second.status, third.status, session.target.given.watch
    );
    let stored = !other.is_success();
    Ok(vec![
        Seen::judged("failure-repeated", again.iter().all(|answer| answer.status == first.status), text),
        key(session, stored, &first, again, &other),
        promise(session, stored),
        match done {
            Ok(done) => Seen::judged("failure-no-effect", done == 0, format!("{done} counted")),
            Err(why) => Seen::uncounted("failure-no-effect", &why),
        },
    ])
}

/// Judges whether the key was kept or is free, and nothing in between. Another request under the key shows which.
fn key(session: &Session, stored: bool, first: &Answer, again: [&Answer; 2], other: &Answer) -> Seen {
    let name = "failure-key";
    let marked = again.iter().any(|answer| answer.marker(session.target.given.marker.as_ref()).is_some());
    let same = again.iter().all(|answer| answer.reply() == first.reply());
    let expiry = again[0].expiry().map(|expiry| format!(" ({expiry})")).unwrap_or_default();
    match (stored, marked, same) {
        (true, _, true) => {
            let text = format!(
                "kept: the same bytes for {} s at least{expiry}; --body got {}",
                session.target.given.watch, other.status
            );
            Seen::judged(name, true, text)
        }
        (true, _, false) => {
            Seen::judged(name, false, format!("neither: the failure was made again, and --body got {}", other.status))
        }
        (false, true, _) => {
            let text = format!("both: the failure is marked as a replay{expiry}, but --body got {}", other.status);
            Seen::judged(name, false, text)
        }
        (false, false, _) => Seen::judged(name, true, format!("free: --body got {}", other.status)),
    }
}

fn promise(session: &Session, stored: bool) -> Seen {
    let name = "failure-promise";
    let text = if stored { "the key is kept" } else { "the key is free" };
    match session.target.given.failures {
        None => Seen::needs(name, Need::Failures),
        Some(promise) => Seen::judged(name, (promise == FailurePromise::Stored) == stored, text),
    }
}

async fn server_error(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let intent = session.intent().await?;
    let good = session.request(&intent, &Key::fresh());
    // Only the headers of `good` have the key. A failing header replaces one with the same name.
    let mut failing = good.clone();
    for (name, value) in &intent.failing_headers {
        failing.headers.insert(name.clone(), value.clone());
    }
    let effects = session.watch(&intent).await?;
    let first = session.outcome(&failing).await?;
    if first.status < 500 {
        let why = format!("--failing-header was answered {}, which is no 5xx", first.status);
        return Ok(all_skipped(&["server-error-key", "server-error-effect"], &why));
    }
    let second = session.outcome(&good).await?;
    let expected = u64::from(second.is_success());
    let done = effects.settle(expected).await?;
    let right = |profile| match profile {
        Profile::Stripe => second.status == first.status,
        _ => second.is_success(),
    };
    Ok(vec![
        Seen::by("server-error-key", right, format!("{}, then {}", first.status, second.status)),
        match done {
            Ok(done) => Seen::judged("server-error-effect", done == expected, format!("{done} counted")),
            Err(why) => Seen::uncounted("server-error-effect", &why),
        },
    ])
}
