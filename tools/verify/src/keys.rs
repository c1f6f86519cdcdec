//! The checks of keys: missing, empty, too long, sent twice, not ASCII, quoted and bare.

use hyper::header::HeaderValue;
use uuid::Uuid;

use super::check::{Check, Experiment, Need, Profile, Run, Seen, draft, draft_recommends, stripe, this};
use super::effects::Effects;
use super::send::{Answer, Request};
use super::session::{Key, Session, Trouble};
use super::words::KeyForm;

const GROUP: &str = "keys";

/// The draft has no list of bad keys. It recommends that the server publishes a format.
const PUBLISHED_FORMAT: &str =
    "recommended (Security Considerations): the server validates a key by its published format, before anything else";

/// A request whose key is wrong, and a check that it is refused. `run` is [`refused`] with that key.
const fn wrong_key(
    sends: &'static str,
    checks: &'static [Check],
    run: for<'a> fn(&'a Session) -> Run<'a>,
) -> Experiment {
    Experiment { group: GROUP, sends, needs: &[], requests: 3, intents: 1, follows: 0, counts: 1, checks, run }
}

/// In the order in which they run.
pub const ALL: &[Experiment] = &[
    Experiment {
        needs: &[Need::KeyRequired],
        ..wrong_key(
            "the request without a key",
            &[Check {
                name: "key-required",
                rules: &[
                    draft("SHOULD (Error Handling): 400 where the operation requires a key"),
                    this("400, and nothing is done"),
                ],
                advice: "Refuse a request without a key with 400 before anything else: a client that forgets the key can't retry.",
            }],
            |session| Box::pin(async move { refused(session, "key-required", |request| request).await }),
        )
    },
    wrong_key(
        "the request with an empty key",
        &[Check {
            name: "key-empty",
            rules: &[draft_recommends(PUBLISHED_FORMAT), this("400, and nothing is done")],
            advice: "Refuse an empty key with 400. As a key, all clients that send it would share it. As no key, it protects nobody.",
        }],
        |session| {
            Box::pin(async move {
                let empty = HeaderValue::from_static("");
                refused(session, "key-empty", |request| session.under(request, empty)).await
            })
        },
    ),
    Experiment {
        group: GROUP,
        sends: "the request with a key of 255 characters, and with one of 256",
        needs: &[],
        requests: 4,
        intents: 2,
        follows: 1,
        counts: 1,
        checks: &[
            Check {
                name: "key-255",
                rules: &[stripe("keys have up to 255 characters: 2xx"), this("2xx")],
                advice: "Give the key's column at least 255 characters.",
            },
            Check {
                name: "key-256",
                rules: &[
                    draft_recommends(PUBLISHED_FORMAT),
                    stripe("keys have up to 255 characters: refused"),
                    this("400, and nothing is done"),
                ],
                advice: "Refuse keys over a limit that you publish. Never cut a key: two long keys with the same beginning would become one key.",
            },
        ],
        run: |session| Box::pin(long_keys(session)),
    },
    wrong_key(
        "the request with two different Idempotency-Key headers",
        &[Check {
            name: "key-twice",
            rules: &[draft_recommends(PUBLISHED_FORMAT), this("400, and nothing is done")],
            advice: "Refuse a request with two keys with 400. A server may take the first key, and a proxy may join both: they disagree on the key.",
        }],
        |session| {
            Box::pin(async move {
                let form = session.target.key_form;
                refused(session, "key-twice", |request| {
                    let once = session.under(request, Key::fresh().form(form));
                    session.under(once, Key::fresh().form(form))
                })
                .await
            })
        },
    ),
    wrong_key(
        "the request with a key that is UTF-8 but not ASCII",
        &[Check {
            name: "key-non-ascii",
            rules: &[draft_recommends(PUBLISHED_FORMAT), this("400, and nothing is done")],
            advice: "Refuse keys that are not ASCII with 400: header values have no agreed encoding beyond ASCII.",
        }],
        |session| {
            Box::pin(async move {
                let key = HeaderValue::from_bytes(format!("schl\u{fc}ssel-{}", Uuid::new_v4()).as_bytes())
                    .map_err(|e| Trouble::Request(e.to_string()))?;
                refused(session, "key-non-ascii", |request| session.under(request, key)).await
            })
        },
    ),
    Experiment {
        group: GROUP,
        sends: "the request with a quoted key, again with the same key bare, and another request with a bare key",
        needs: &[],
        requests: 5,
        intents: 2,
        follows: 2,
        counts: 1,
        checks: &[
            Check {
                name: "key-quoted",
                rules: &[draft("MUST (Syntax): a key is an RFC 8941 String, \"in quotes\": 2xx"), this("2xx")],
                advice: "Accept a key in quotes: the draft has no other form.",
            },
            Check {
                name: "key-bare",
                rules: &[stripe("keys are sent without quotes, in its example: 2xx"), this("2xx")],
                advice: "Accept a key without quotes, too: most clients send no quotes.",
            },
            Check {
                name: "key-quoted-is-bare",
                rules: &[this("\"abc\" and abc are one key: the second request is a replay")],
                advice: "Remove the quotes before the key is looked up. Otherwise a client library that begins to quote loses its keys at a deploy.",
            },
        ],
        run: |session| Box::pin(forms(session)),
    },
];

/// Sends one request that must be refused with 400, and checks by the count that nothing was done.
async fn refused(
    session: &Session,
    check: &'static str,
    spoil: impl FnOnce(Request) -> Request,
) -> Result<Vec<Seen>, Trouble> {
    let intent = session.intent().await?;
    let effects = session.watch(&intent).await?;
    let answer = session.send(&spoil(session.keyless(&intent))).await?;
    Ok(vec![refusal(check, &answer, &effects).await?])
}

async fn refusal(check: &'static str, answer: &Answer, effects: &Effects<'_>) -> Result<Seen, Trouble> {
    let done = effects.settle(0).await?;
    let text = match done {
        Ok(0) => format!("{}, and nothing done", answer.status),
        Ok(done) => format!("{}, and {done} done", answer.status),
        Err(_) => answer.status.to_string(),
    };
    let nothing = done.unwrap_or(0) == 0;
    Ok(Seen::by(
        check,
        |profile| match profile {
            Profile::Stripe => answer.is_refusal() && nothing,
            _ => answer.status == 400 && nothing,
        },
        text,
    ))
}

async fn long_keys(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let form = session.target.key_form;
    let fits = session.intent().await?;
    let fitting = session.under(session.keyless(&fits), Key::of_length(255).form(form));
    let accepted = session.outcome(&fitting).await?;
    let long = session.intent().await?;
    let effects = session.watch(&long).await?;
    let answer = session.send(&session.under(session.keyless(&long), Key::of_length(256).form(form))).await?;
    Ok(vec![
        Seen::judged("key-255", accepted.is_success(), accepted.status.to_string()),
        refusal("key-256", &answer, &effects).await?,
    ])
}

async fn forms(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let intent = session.intent().await?;
    let effects = session.watch(&intent).await?;
    let key = Key::fresh();
    let quoted = session.outcome(&session.under(session.keyless(&intent), key.form(KeyForm::Quoted))).await?;
    let again = session.outcome(&session.under(session.keyless(&intent), key.form(KeyForm::Bare))).await?;
    let done = effects.settle(u64::from(quoted.is_success() || again.is_success())).await?;
    let other = session.intent().await?;
    let bare = session.send(&session.under(session.keyless(&other), Key::fresh().form(KeyForm::Bare))).await?;
    let one = if quoted.is_success() && again.is_success() {
        let one = quoted.names_the_same(&again) && matches!(done, Ok(1) | Err(_));
        let text =
            if one { "one key: the bare one got the quoted one's reply" } else { "two keys: both requests were done" };
        Seen::judged("key-quoted-is-bare", one, text)
    } else {
        let text = format!("quoted {}, then bare {}", quoted.status, again.status);
        Seen::judged("key-quoted-is-bare", false, text)
    };
    Ok(vec![
        Seen::judged("key-quoted", quoted.is_success(), quoted.status.to_string()),
        Seen::judged("key-bare", bare.is_success(), bare.status.to_string()),
        one,
    ])
}
