//! The checks of a key after a failure: a refusal by the endpoint's own rules, and a 5xx.

use std::time::Duration;

use hyper::body::Bytes;

use super::check::{Check, Experiment, Need, Profile, Seen, draft, stripe, this};
use super::send::{Answer, Request};
use super::session::{Key, Session, Trouble};
use super::words::FailurePromise;

const GROUP: &str = "failures";

const UNSEEN: &str = "the failure has the same bytes each time, and the endpoint marks no replays, so nobody can see whether it is stored";

/// In the order in which they run.
pub const ALL: &[Experiment] = &[
    Experiment {
        group: GROUP,
        sends: "--failing-body, or --body after --failing-setup, three times under one key, the third after --watch seconds; \
                then --body, under this key or twice under another",
        needs: &[Need::Failure],
        requests: 7,
        intents: 2,
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
    session.set_up_failure(&intent).await?;
    let good = session.request(&intent, &Key::fresh());
    let (failing, what) = match &intent.failing_body {
        Some(body) => (Request { body: Bytes::clone(body), ..good.clone() }, "--failing-body"),
        None => (good.clone(), "the request after --failing-setup"),
    };
    let effects = session.watch(&intent).await?;
    let first = session.outcome(&failing).await?;
    if !first.is_refusal() {
        let names = ["failure-repeated", "failure-key", "failure-promise", "failure-no-effect"];
        return Ok(all_skipped(&names, &format!("{what} was answered {}, which is no 4xx", first.status)));
    }
    let second = session.outcome(&failing).await?;
    tokio::time::sleep(Duration::from_secs(session.target.given.watch)).await;
    let third = session.outcome(&failing).await?;
    let done = effects.settle(0).await?;
    let again = [&second, &third];
    let (stored, key) = match intent.failing_body {
        Some(_) => key_by_body(session, &first, again, &session.outcome(&good).await?),
        None => key_by_marker(session, &first, again).await?,
    };
    let text = format!(
        "{}, then {}, then {} after {} s",
        first.status, second.status, third.status, session.target.given.watch
    );
    Ok(vec![
        Seen::judged("failure-repeated", again.iter().all(|answer| answer.status == first.status), text),
        key,
        promise(session, stored),
        match done {
            Ok(done) => Seen::judged("failure-no-effect", done == 0, format!("{done} counted")),
            Err(why) => Seen::uncounted("failure-no-effect", &why),
        },
    ])
}

/// Whether the failure is stored. `None` if nobody can see it.
type Stored = Option<bool>;

/// Judges whether the key was kept or is free, and nothing in between. Another request under the key shows which.
fn key_by_body(session: &Session, first: &Answer, again: [&Answer; 2], other: &Answer) -> (Stored, Seen) {
    let (name, stored) = ("failure-key", !other.is_success());
    let marked = again.iter().any(|answer| answer.marker(session.target.given.marker.as_ref()).is_some());
    let same = again.iter().all(|answer| answer.reply() == first.reply());
    let expiry = again[0].expiry().map(|expiry| format!(" ({expiry})")).unwrap_or_default();
    let seen = match (stored, marked, same) {
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
    };
    (Some(stored), seen)
}

/// The same where no request can succeed under the key any more. A marker shows that the failure was stored. If there is none, other
/// bytes show that the request ran again, and so do the same bytes at an endpoint that marks its replays.
async fn key_by_marker(session: &Session, first: &Answer, again: [&Answer; 2]) -> Result<(Stored, Seen), Trouble> {
    let name = "failure-key";
    let is_marked = |answer: &Answer| answer.marker(session.target.given.marker.as_ref()).is_some();
    let wrong = |text| (None, Seen::judged(name, false, text));
    if is_marked(first) {
        return Ok(wrong("neither: the first failure is already marked as a replay"));
    }
    let same = again.iter().all(|answer| answer.reply() == first.reply());
    Ok(match (again.map(is_marked), same) {
        ([true, true], true) => (Some(true), Seen::judged(name, true, "kept: the same bytes, marked as a replay")),
        ([true, true], false) => wrong("neither: marked as a replay, but not the same bytes"),
        ([false, false], false) => (Some(false), Seen::judged(name, true, "free: the failure was made again")),
        ([false, false], true) if marks_replays(session).await? => {
            (Some(false), Seen::judged(name, true, "free: a replay is marked here, and the failure is not"))
        }
        ([false, false], true) => (None, Seen::skipped(name, UNSEEN)),
        _ => wrong("neither: only one of two repeats is marked as a replay"),
    })
}

/// Whether the endpoint marks the replay of a success.
async fn marks_replays(session: &Session) -> Result<bool, Trouble> {
    let intent = session.intent().await?;
    let request = session.request(&intent, &Key::fresh());
    session.outcome(&request).await?;
    Ok(session.send(&request).await?.marker(session.target.given.marker.as_ref()).is_some())
}

fn promise(session: &Session, stored: Stored) -> Seen {
    let name = "failure-promise";
    match (session.target.given.failures, stored) {
        (None, _) => Seen::needs(name, Need::Failures),
        (_, None) => Seen::skipped(name, "failure-key does not show whether the failure is stored"),
        (Some(promise), Some(stored)) => {
            let text = if stored { "the key is kept" } else { "the key is free" };
            Seen::judged(name, (promise == FailurePromise::Stored) == stored, text)
        }
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
