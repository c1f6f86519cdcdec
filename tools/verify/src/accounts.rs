//! The checks of accounts: two accounts use the same key, and neither gets the other's reply.

use super::check::{Check, Experiment, Need, Seen, draft_recommends, stripe, this};
use super::send::Request;
use super::session::{Key, Session, Trouble};

/// In the order in which they run.
pub const ALL: &[Experiment] = &[Experiment {
    group: "accounts",
    sends: "the request, and the same request under the same key with --other-header. If that is refused, once more under another key",
    needs: &[Need::OtherHeader],
    requests: 3,
    intents: 1,
    follows: 3,
    counts: 0,
    checks: &[Check {
        name: "accounts-apart",
        rules: &[
            draft_recommends(
                "recommended (Security Considerations): the server looks the key up together with what it knows about the client",
            ),
            stripe("a key identifies an operation within one account"),
            this("each account has its own key, effect and reply"),
        ],
        advice: "Look the key up together with the authenticated account. Otherwise a customer who guesses a key reads another \
                 customer's reply, or blocks the key.",
    }],
    run: |session| Box::pin(two(session)),
}];

async fn two(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let name = "accounts-apart";
    let intent = session.intent().await?;
    let key = Key::fresh();
    let ours = session.request(&intent, &key);
    let theirs = Request { headers: intent.other_headers.clone(), ..session.keyless(&intent) };
    let form = session.target.key_form;
    let first = session.outcome(&ours).await?;
    let second = session.under(theirs.clone(), key.form(form));
    let answer = session.send(&second).await?;
    // The final answer after a 202 is a replay, so the marker counts only on the first answer.
    let is_marked = answer.marker(session.target.given.marker.as_ref()).is_some();
    let second = session.follow(&second, answer).await?;
    if !second.is_success() {
        // The other account may be refused for another reason: it has no right to the resource in the URL, for example.
        let with_its_own = session.outcome(&session.under(theirs, Key::fresh().form(form))).await?;
        let (shared, own) = (second.status, with_its_own.status);
        return Ok(vec![if own == shared {
            Seen::skipped(name, format!("the other account gets {own} here, also under another key"))
        } else {
            Seen::judged(name, false, format!("the other account got {shared}, and {own} under another key"))
        }]);
    }
    let apart = !first.names_the_same(&second) && !is_marked;
    let text =
        if apart { "two replies, each its account's own" } else { "the other account got the first one's reply" };
    Ok(vec![Seen::judged(name, apart, text)])
}
