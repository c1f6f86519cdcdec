//! The check of a replay after a change: it is the first reply, even when its object is no longer what it was.

use super::check::{Check, Experiment, Need, Seen, draft, stripe, this};
use super::session::{Key, Session, Trouble};

/// In the order in which they run.
pub const ALL: &[Experiment] = &[Experiment {
    group: "replays",
    sends: "the request, --change under another key, and the request again under its key",
    needs: &[Need::Change],
    requests: 5,
    intents: 1,
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

async fn after_change(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let name = "replay-after-change";
    let skipped = |why: String| Ok(vec![Seen::skipped(name, why)]);
    let intent = session.intent().await?;
    let request = session.request(&intent, &Key::fresh());
    let first = session.outcome(&request).await?;
    let Some(change) = &session.target.given.change else { return skipped("there is no --change".to_owned()) };
    let change = match intent.beside(change, Some(&first)) {
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
