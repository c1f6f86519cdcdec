//! The checks of fingerprints. JSON with the same meaning is the same request. Another body, path or method is another request.

use hyper::body::Bytes;
use serde_json::{Map, Value};

use super::check::{Check, Experiment, Need, Profile, Seen, draft, stripe, this};
use super::effects::Effects;
use super::send::{Answer, Request};
use super::session::{Key, Session, Trouble};
use super::target::Intent;

const GROUP: &str = "fingerprints";

const COMPARED: &str = "Store a fingerprint of method, path and body with the key. Compare it before a replay, and refuse a difference with 422. \
     Otherwise a client that reuses a key by mistake gets the reply to another request, and believes it.";

const OTHER_PATH: &str = "Store the path in the key's fingerprint, and refuse another one with 422. \
     But give --other-path only an endpoint that shares the key space, not another id of an endpoint whose key is unique per resource: \
     there the same text is another key, and a success is right.";

const REUSED: &str = "422, and nothing is done";

/// In the order in which they run.
pub const ALL: &[Experiment] = &[
    Experiment {
        group: GROUP,
        sends: "the request; under its key the same JSON with its members in another order; and with other white space",
        needs: &[Need::Members],
        requests: 5,
        intents: 1,
        follows: 3,
        counts: 1,
        checks: &[
            Check {
                name: "same-json-other-order",
                rules: &[this("a replay: the order of members means nothing in JSON")],
                advice: "Take the fingerprint over a canonical form (RFC 8785), not over the bytes: a client that restarts may serialize a map in another order.",
            },
            Check {
                name: "same-json-other-space",
                rules: &[this("a replay: white space means nothing in JSON")],
                advice: "Take the fingerprint over a canonical form (RFC 8785), not over the bytes.",
            },
        ],
        run: |session| Box::pin(same_json(session)),
    },
    Experiment {
        group: GROUP,
        sends: "the request, --other-body under its key, and the request again",
        needs: &[Need::OtherBody],
        requests: 5,
        intents: 1,
        follows: 1,
        counts: 1,
        checks: &[
            Check {
                name: "other-body",
                rules: &[
                    draft("SHOULD (Error Handling): 422"),
                    stripe("an error: parameters are compared with those of the first request"),
                    this(REUSED),
                ],
                advice: COMPARED,
            },
            Check {
                name: "other-body-keeps-the-first",
                rules: &[this("the first request's reply is still replayed")],
                advice: "A refused reuse must leave the record alone.",
            },
        ],
        run: |session| Box::pin(other_body(session)),
    },
    Experiment {
        group: GROUP,
        sends: "the request, and its body under its key to --other-path. If that is refused, once more under another key",
        needs: &[Need::OtherPath],
        requests: 5,
        intents: 1,
        follows: 1,
        counts: 1,
        checks: &[Check {
            name: "other-path",
            rules: &[
                stripe("an error: the key belongs to the first request's endpoint"),
                this("4xx, and nothing is done"),
            ],
            advice: OTHER_PATH,
        }],
        run: |session| {
            Box::pin(reused(session, "other-path", |intent, request| Request {
                url: intent.other_url.clone().unwrap_or_else(|| intent.url.clone()),
                ..request
            }))
        },
    },
    Experiment {
        group: GROUP,
        sends: "the request, and the same under its key with --other-method. If that is refused, once more under another key",
        needs: &[Need::OtherMethod],
        requests: 5,
        intents: 1,
        follows: 1,
        counts: 1,
        checks: &[Check { name: "other-method", rules: &[this("4xx, and nothing is done")], advice: COMPARED }],
        run: |session| {
            let method = session.target.given.other_method.clone();
            Box::pin(reused(session, "other-method", move |_, request| Request {
                method: method.clone().unwrap_or_else(|| request.method.clone()),
                ..request
            }))
        },
    },
];

/// The same JSON as text, with the members in reverse order at every depth. A text, because `serde_json` would sort the members.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .rev()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), reversed(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

async fn same_json(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let intent = session.intent().await?;
    let json: Map<String, Value> =
        serde_json::from_slice(&intent.body).map_err(|error| Trouble::Request(error.to_string()))?;
    let json = Value::Object(json);
    let key = Key::fresh();
    let effects = session.watch(&intent).await?;
    let compact = Request { body: json.to_string().into(), ..session.request(&intent, &key) };
    let first = session.outcome(&compact).await?;
    let ordered = session.outcome(&Request { body: reversed(&json).into(), ..compact.clone() }).await?;
    let spaced = session.outcome(&Request { body: format!("{json:#}\n").into(), ..compact }).await?;
    let done = effects.settle(u64::from(first.is_success())).await?;
    let judge = |check, again: &Answer| {
        let same = first.is_success() && again.status == first.status && again.names_the_same(&first);
        let text = match done {
            Ok(done) if same => format!("{}, a replay; {done} counted", again.status),
            _ if same => format!("{}, a replay", again.status),
            _ => format!("{}, then {}", first.status, again.status),
        };
        Seen::judged(check, same && matches!(done, Ok(1) | Err(_)), text)
    };
    Ok(vec![judge("same-json-other-order", &ordered), judge("same-json-other-space", &spaced)])
}

async fn other_body(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let intent = session.intent().await?;
    let request = session.request(&intent, &Key::fresh());
    let first = session.outcome(&request).await?;
    let effects = session.watch(&intent).await?;
    let other = Request { body: intent.other_body.clone().unwrap_or_else(Bytes::new), ..request.clone() };
    let refused = session.send(&other).await?;
    let seen = refusal("other-body", &refused, &effects, true).await?;
    let again = session.send(&request).await?;
    let kept = first.reply() == again.reply();
    let text =
        if kept { format!("{}, the first reply", again.status) } else { format!("{}, another reply", again.status) };
    Ok(vec![seen, Seen::judged("other-body-keeps-the-first", kept, text)])
}

async fn reused(
    session: &Session,
    check: &'static str,
    change: impl Fn(&Intent, Request) -> Request,
) -> Result<Vec<Seen>, Trouble> {
    let intent = session.intent().await?;
    let request = session.request(&intent, &Key::fresh());
    session.outcome(&request).await?;
    let effects = session.watch(&intent).await?;
    let answer = session.send(&change(&intent, request)).await?;
    let seen = refusal(check, &answer, &effects, false).await?;
    if seen.holds.is_some_and(|holds| holds.by(Profile::This)) {
        // A service without such a path, method or body refuses every key there, so its refusal says nothing about the
        // fingerprint.
        let control = session.send(&change(&intent, session.request(&intent, &Key::fresh()))).await?;
        if control.refuses_like(&answer) {
            return Ok(vec![Seen::skipped(check, format!("it gets {} there, also under another key", answer.status))]);
        }
    }
    Ok(vec![seen])
}

async fn refusal(check: &'static str, answer: &Answer, effects: &Effects<'_>, only_422: bool) -> Result<Seen, Trouble> {
    let done = effects.settle(0).await?;
    let counted =
        done.as_ref().map(|done| format!("; --count for the first request shows {done} more")).unwrap_or_default();
    let nothing = done.unwrap_or(0) == 0;
    let right = |profile| {
        let status = if only_422 && profile != Profile::Stripe { answer.status == 422 } else { answer.is_refusal() };
        status && nothing
    };
    let replayed = answer
        .marker(effects.target().given.marker.as_ref())
        .map(|name| format!(", marked {name}"))
        .unwrap_or_default();
    Ok(Seen::by(check, right, format!("{}{replayed}{counted}", answer.status)))
}
