//! The checks of a client that leaves before the answer, and retries with the same key.

use std::time::Duration;

use super::check::{Check, Experiment, Rule, Run, Seen, draft, stripe, this};
use super::effects::Uncounted;
use super::send::{Answer, Leave};
use super::session::{Key, Session, Trouble};

const GROUP: &str = "leaving";

/// When the client leaves: before the server has read the request, while the server reads it, while the server works, and after
/// the work but before the client reads the answer.
const MOMENTS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(80)];

/// How long to wait for the writes of work that has lost its client. There is nothing to wait for but time, so later
/// writes are missed.
const LATE_WORK: Duration = Duration::from_millis(250);

/// A count, the request, its retry, and a count again.
const REQUESTS: usize = MOMENTS.len() * 4;

const FINISH: &str = "A closed connection must not cancel the work, or the cancellation must undo all of the work: \
     the effect and the key's record must commit together.";

const RETRIED: &[Rule] = &[
    draft("MUST (Uniqueness) and SHOULD (Enforcement): the retry is recognized as the same request"),
    stripe("a retry after a connection error makes no second object"),
    this("one effect"),
];

const FREE: &str = "A key whose request died must become free: tie its lock to the transaction or to the connection, or give it a short lease.";

const ANSWERED: &[Rule] = &[this("the retry gets a 2xx within seconds")];

const fn leaving(sends: &'static str, checks: &'static [Check], run: for<'a> fn(&'a Session) -> Run<'a>) -> Experiment {
    let (requests, rounds) = (REQUESTS, MOMENTS.len());
    Experiment {
        group: GROUP,
        sends,
        needs: &[],
        requests,
        intents: rounds,
        follows: rounds,
        counts: rounds,
        checks,
        run,
    }
}

/// In the order in which they run.
pub const ALL: &[Experiment] = &[
    leaving(
        "the request on a connection that is closed (FIN) after 0, 5, 20 and 80 ms, and then the request again",
        &[
            Check { name: "leave-fin-one-effect", rules: RETRIED, advice: FINISH },
            Check { name: "leave-fin-retry", rules: ANSWERED, advice: FREE },
        ],
        |session| Box::pin(rounds(session, Leave::Fin, "leave-fin-one-effect", "leave-fin-retry")),
    ),
    leaving(
        "the request on a connection that is reset (RST) after 0, 5, 20 and 80 ms, and then the request again",
        &[
            Check { name: "leave-rst-one-effect", rules: RETRIED, advice: FINISH },
            Check { name: "leave-rst-retry", rules: ANSWERED, advice: FREE },
        ],
        |session| Box::pin(rounds(session, Leave::Rst, "leave-rst-one-effect", "leave-rst-retry")),
    ),
];

async fn rounds(
    session: &Session,
    leave: Leave,
    one_effect: &'static str,
    retry: &'static str,
) -> Result<Vec<Seen>, Trouble> {
    let (mut retries, mut counts) = (Vec::new(), Vec::new());
    for moment in MOMENTS {
        let intent = session.intent().await?;
        let request = session.request(&intent, &Key::fresh());
        let effects = session.watch(&intent).await?;
        session.send_and_leave(&request, moment, leave).await?;
        let retry = session.until_final(&request).await?;
        tokio::time::sleep(LATE_WORK).await;
        counts.push(effects.settle(u64::from(retry.is_success())).await?);
        retries.push(retry);
    }
    let at = |values: Vec<String>| {
        let rounds = MOMENTS.iter().zip(values).map(|(moment, value)| format!("{value} at {} ms", moment.as_millis()));
        rounds.collect::<Vec<_>>().join(", ")
    };
    let counted = match counts.into_iter().collect::<Result<Vec<u64>, Uncounted>>() {
        Err(why) => Seen::uncounted(one_effect, &why),
        Ok(counts) => {
            let text = format!("effects: {}", at(counts.iter().map(ToString::to_string).collect()));
            Seen::judged(one_effect, counts.iter().all(|&count| count == 1), text)
        }
    };
    let text = format!("retries: {}", at(retries.iter().map(|answer| answer.status.to_string()).collect()));
    Ok(vec![counted, Seen::judged(retry, retries.iter().all(Answer::is_success), text)])
}
