//! The check of a replay after a change: the reply is the first one, also when its object is no longer what it was.

use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use super::change::Change;
use super::check::{Check, Experiment, Need, Seen, draft, stripe, this};
use super::send::{Answer, Request};
use super::session::{Key, Session, Trouble};
use super::target::{Intent, encoded};

/// In the order in which they run.
pub const ALL: &[Experiment] = &[Experiment {
    group: "replays",
    sends: "the request, --change under another key, and the request again under its key",
    needs: &[Need::Change],
    requests: 5,
    follows: 2,
    counts: 0,
    checks: &[Check {
        name: "replay-after-change",
        rules: &[
            draft("SHOULD (Idempotency Enforcement): a retry gets the result of the completed operation"),
            stripe("the saved status code and body"),
            this("the first answer's status and body, byte for byte"),
        ],
        advice: "Store the reply with the key. A reply that is built from the row as it is now tells a late retry another story, \
                 such as a canceled order where one was made.",
    }],
    run: |session| Box::pin(after_change(session)),
}];

impl Change {
    /// The request for the object that the first reply names. It goes to the endpoint's own host: a reply can't send this program
    /// elsewhere.
    fn request(&self, intent: &Intent, first: &Answer) -> Result<Request, String> {
        let reply: Value = serde_json::from_slice(&first.body).unwrap_or(Value::Null);
        let located = match (self.url.contains("{location}"), first.location()) {
            (true, None) => return Err("the first reply has no Location".to_owned()),
            (_, location) => self.url.replace("{location}", location.unwrap_or_default()),
        };
        let url = intent.address(&of_reply(&located, &reply, &|value| encoded(&value))?)?;
        if url.origin() != intent.url.origin() {
            return Err(format!("{url} is at another host than the endpoint"));
        }
        let in_json = |text: String| {
            let quoted = Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        let body = match &self.body {
            Some(body) => intent.fill(&of_reply(body, &reply, &in_json)?),
            None => String::new(),
        };
        let mut headers = intent.headers.clone();
        if body.is_empty() {
            headers.remove(CONTENT_TYPE);
        }
        Ok(Request { method: self.method.clone(), url, headers, body: body.into() })
    }
}

/// Fills `{reply.NAME}` and `{reply.NAME.NAME}`.
fn of_reply(text: &str, reply: &Value, escape: &dyn Fn(String) -> String) -> Result<String, String> {
    const OPENS: &str = "{reply.";
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPENS) {
        let (path, after) = after.split_once('}').ok_or("a placeholder {reply.. is not closed")?;
        let value = path.split('.').try_fold(reply, |value, name| value.get(name));
        let value = match value {
            Some(Value::String(text)) => escape(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => return Err(format!("the first reply has no {path}")),
        };
        filled.push_str(before);
        filled.push_str(&value);
        rest = after;
    }
    Ok(filled + rest)
}

async fn after_change(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let name = "replay-after-change";
    let skipped = |why: String| Ok(vec![Seen::skipped(name, why)]);
    let intent = session.intent()?;
    let request = session.request(&intent, &Key::fresh());
    let first = session.outcome(&request).await?;
    let Some(change) = &session.target.change else { return skipped("there is no --change".to_owned()) };
    let change = match change.request(&intent, &first) {
        Ok(change) => session.under(change, Key::fresh().form(session.target.key_form)),
        Err(why) => return skipped(format!("--change: {why}")),
    };
    let object = session.object(&intent, &first).await?;
    let changed = session.outcome(&change).await?;
    if !changed.is_success() {
        return skipped(format!("--change ({} {}) was answered {}", change.method, change.url, changed.status));
    }
    let after = session.object(&intent, &first).await?;
    if object.zip(after).is_some_and(|(before, after)| before.body == after.body) {
        return skipped(format!("--change got {}, but the object at Location is the same as before", changed.status));
    }
    let again = session.send(&request).await?;
    let same = again.reply() == first.reply();
    let text = if same {
        format!("{}, the first reply", again.status)
    } else if again.status == first.status {
        format!("{}, with another body than before the change", again.status)
    } else {
        format!("{} before the change, then {}", first.status, again.status)
    };
    Ok(vec![Seen::judged(name, same, text)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_replys_members_are_filled_in() {
        let reply = json!({"id": "a\"b", "data": {"n": 7}});
        assert_eq!(of_reply("/x/{reply.data.n}/y", &reply, &|text| text).unwrap(), "/x/7/y");
        assert_eq!(of_reply("{\"id\":{reply.id}}", &reply, &|text| text.to_uppercase()).unwrap(), "{\"id\":A\"B}");
        for wrong in ["/{reply.other}", "/{reply.data}", "/{reply.id"] {
            assert!(of_reply(wrong, &reply, &|text| text).is_err(), "{wrong}");
        }
    }
}
