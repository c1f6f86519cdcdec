//! The checks of a refusal: a problem document, a link to documentation, and what a program should do next.

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, LINK};
use serde_json::Value;

use super::check::{Check, Experiment, Seen, draft, this};
use super::send::{Answer, Request};
use super::session::{Key, Session, Trouble};

/// In the order in which they run.
pub const ALL: &[Experiment] = &[Experiment {
    group: "problems",
    sends: "the request without a key; and, if there is --other-body, the request and --other-body under its key",
    needs: &[],
    requests: 3,
    intents: 2,
    follows: 1,
    counts: 0,
    checks: &[
        Check {
            name: "problem-links",
            rules: &[
                draft("SHOULD (Error Handling): the body links to documentation; or a Link header does"),
                this("the member type is the address of a page"),
            ],
            advice: "Give the problem's `type` the address of a page that explains it, or send Link: <..>; rel=\"describedby\".",
        },
        Check {
            name: "problem-documents",
            rules: &[this("RFC 9457: application/problem+json with type, title and the answer's status")],
            advice: "Answer refusals as problem documents (RFC 9457): a program can distinguish the problems without reading prose.",
        },
        Check {
            name: "problem-advice",
            rules: &[this("the member retry says what to do: again, fix, new-key or never")],
            advice: "Add a member that says whether to retry, and with which key. Otherwise clients guess from the status, and 409 and 422 have too many meanings.",
        },
    ],
    run: |session| Box::pin(refusals(session)),
}];

/// A refusal, and what was refused.
struct Refusal {
    what: &'static str,
    answer: Answer,
}

async fn refusals(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let intent = session.intent().await?;
    let mut refusals = vec![Refusal { what: "no key", answer: session.send(&session.keyless(&intent)).await? }];
    if let Some(other) = &intent.other_body {
        let second = session.intent().await?;
        let request = session.request(&second, &Key::fresh());
        session.outcome(&request).await?;
        let body = second.other_body.clone().unwrap_or_else(|| Bytes::clone(other));
        let answer = session.send(&Request { body, ..request }).await?;
        refusals.push(Refusal { what: "key reused", answer });
    }
    refusals.retain(|refusal| refusal.answer.is_refusal());
    if refusals.is_empty() {
        let names = ["problem-links", "problem-documents", "problem-advice"];
        return Ok(names.map(|name| Seen::skipped(name, "nothing was refused")).into());
    }
    Ok(vec![
        judge("problem-links", &refusals, links),
        judge("problem-documents", &refusals, is_document),
        judge("problem-advice", &refusals, advises),
    ])
}

/// Judges each refusal, with a text that says what came back for each.
fn judge(check: &'static str, refusals: &[Refusal], judge: fn(&Answer) -> Result<String, String>) -> Seen {
    let judged: Vec<_> = refusals.iter().map(|refusal| (refusal, judge(&refusal.answer))).collect();
    let texts = judged.iter().map(|(refusal, judged)| match judged {
        Ok(text) | Err(text) => format!("{} ({}): {text}", refusal.what, refusal.answer.status),
    });
    Seen::judged(check, judged.iter().all(|(_, judged)| judged.is_ok()), texts.collect::<Vec<_>>().join("; "))
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

fn links(answer: &Answer) -> Result<String, String> {
    if let Some(link) = answer.header(LINK) {
        return Ok(format!("Link: {link}"));
    }
    let json = json(answer);
    match json["type"].as_str() {
        Some(address) if address.contains('/') => Ok(address.to_owned()),
        _ if String::from_utf8_lossy(&answer.body).contains("http") => Ok("a link in the body".to_owned()),
        _ => Err("no link".to_owned()),
    }
}

fn is_document(answer: &Answer) -> Result<String, String> {
    let kind = answer.header(CONTENT_TYPE).unwrap_or("no Content-Type");
    let json = json(answer);
    let whole = json["type"].is_string() && json["title"].is_string() && json["status"] == answer.status;
    match (kind.starts_with("application/problem+json"), whole) {
        (true, true) => Ok("a problem document".to_owned()),
        (true, false) => Err("a problem document without type, title or the right status".to_owned()),
        (false, _) => Err(kind.to_owned()),
    }
}

fn advises(answer: &Answer) -> Result<String, String> {
    match json(answer)["retry"].as_str() {
        Some(advice @ ("again" | "fix" | "new-key" | "never")) => Ok(advice.to_owned()),
        _ => Err("no advice".to_owned()),
    }
}
