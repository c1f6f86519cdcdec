//! The checks of accounts: two accounts use the same key, and neither gets the other's reply.

use super::check::{Check, Experiment, Need, Seen, draft_recommends, stripe, this};
use super::send::Request;
use super::session::{Key, Session, Trouble};

/// In the order in which they run.
pub const ALL: &[Experiment] = &[Experiment {
    group: "accounts",
    sends: "the request, and the same request under the same key with --other-header",
    needs: &[Need::OtherHeader],
    requests: 2,
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
    let intent = session.intent()?;
    let key = Key::fresh();
    let ours = session.request(&intent, &key);
    let theirs = Request { headers: intent.other_headers.clone(), ..session.keyless(&intent) };
    let theirs = session.under(theirs, key.form(session.target.key_form));
    let first = session.send(&ours).await?;
    let second = session.send(&theirs).await?;
    if matches!(second.status, 401 | 403) {
        return Ok(vec![Seen::skipped(name, format!("--other-header was answered {}", second.status))]);
    }
    if !second.is_success() {
        return Ok(vec![Seen::judged(name, false, format!("the other account's request got {}", second.status))]);
    }
    let apart = !first.names_the_same(&second) && second.marker(session.target.marker.as_ref()).is_none();
    let text =
        if apart { "two replies, each its account's own" } else { "the other account got the first one's reply" };
    Ok(vec![Seen::judged(name, apart, text)])
}
