//! The checks of concurrent duplicates: one effect, one reply, and no 5xx. The duplicates go to one address, or to two.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::check::{Check, Experiment, Need, Profile, Seen, draft, stripe, this};
use super::effects::Counted;
use super::send::{Answer, NoAnswer, Request};
use super::session::{Key, Session, Trouble};

const GROUP: &str = "duplicates";

/// The number of duplicates. Fifty nearly always expose a server that looks first and writes later, without being a
/// load test.
const AT_ONCE: usize = 50;

const ONE_TRANSACTION: &str = "Let the database decide who was first: a unique key, and the record in the transaction of the work. \
     If a server first looks for a record and later writes one, two requests can look before either writes.";

/// In the order in which they run.
pub const ALL: &[Experiment] = &[
    Experiment {
        group: GROUP,
        sends: "50 duplicates at once, each on its own connection, and one more when all are answered",
        needs: &[],
        requests: AT_ONCE + 3,
        intents: 1,
        follows: 1,
        counts: 1,
        checks: &[
            Check {
                name: "duplicates-one-effect",
                rules: &[
                    draft(
                        "SHOULD (Idempotency Enforcement): a concurrent request is recognized, and answered with a conflict",
                    ),
                    stripe("no second object is created"),
                    this("one effect"),
                ],
                advice: ONE_TRANSACTION,
            },
            Check {
                name: "duplicates-one-reply",
                rules: &[this("all replies are the same")],
                advice: "Read the reply from the committed record. Don't answer a duplicate from its own attempt.",
            },
            Check {
                name: "duplicates-no-5xx",
                rules: &[this("no 5xx, no broken connection")],
                advice: "If a duplicate loses the race, the server has not failed: map the unique violation to a replay or to a 409.",
            },
            Check {
                name: "duplicates-in-flight",
                rules: &[
                    draft("SHOULD (Error Handling): 409 while the first is processed, else its result"),
                    stripe(
                        "a request that conflicts with a running request is not saved, and can be retried: the retry gets the reply",
                    ),
                    this("the reply, or 409 with Retry-After"),
                ],
                advice: "Let a duplicate wait for the first one's reply, or answer 409 with Retry-After: the client must learn that a retry is right.",
            },
        ],
        run: |session| {
            Box::pin(async move {
                let burst = Burst::send(session, false).await?;
                Ok(vec![
                    burst.one_effect("duplicates-one-effect"),
                    burst.one_reply(),
                    burst.no_5xx(),
                    burst.in_flight(),
                ])
            })
        },
    },
    Experiment {
        group: GROUP,
        sends: "50 duplicates at once, half of them to --replica, and one more when all are answered",
        needs: &[Need::Replica],
        requests: AT_ONCE + 3,
        intents: 1,
        follows: 1,
        counts: 1,
        checks: &[Check {
            name: "replicas-one-effect",
            rules: &[stripe("no second object is created"), this("one effect")],
            advice: "A lock in the memory of one process does not hold in another. The database must decide who was first.",
        }],
        run: |session| {
            Box::pin(async move { Ok(vec![Burst::send(session, true).await?.one_effect("replicas-one-effect")]) })
        },
    },
];

/// The answers to the duplicates.
struct Burst {
    answers: Vec<Result<Answer, NoAnswer>>,
    last: Answer,
    done: Counted,
}

impl Burst {
    async fn send(session: &Session, over_two: bool) -> Result<Self, Trouble> {
        let intent = session.intent().await?;
        let request = session.request(&intent, &Key::fresh());
        let effects = session.watch(&intent).await?;
        let url = |number: usize| match &intent.replica {
            Some(replica) if over_two && number % 2 == 1 => replica.clone(),
            _ => intent.url.clone(),
        };
        let requests: Vec<_> = (0..AT_ONCE).map(|number| Request { url: url(number), ..request.clone() }).collect();
        // All connections are opened first, so that the requests arrive at the same time.
        let connections = join_all(requests.iter().map(|request| session.open(request))).await;
        let sending = connections
            .into_iter()
            .zip(&requests)
            .map(async |(connection, request)| session.send_on(connection?, request).await);
        let answers = join_all(sending).await;
        let last = session.until_final(&request).await?;
        let expected = answers.iter().flatten().chain([&last]).any(Answer::is_success);
        Ok(Self { answers, last, done: effects.settle(u64::from(expected)).await? })
    }

    /// Every success, including the answer to the last request. A 202 counts only where it is the endpoint's final answer.
    fn finals(&self) -> impl Iterator<Item = &Answer> {
        let is_final = |answer: &&Answer| answer.is_success() && (answer.status != 202 || self.last.status == 202);
        self.answers.iter().flatten().chain([&self.last]).filter(is_final)
    }

    /// The number of different replies among the successes.
    fn replies(&self) -> usize {
        let mut replies: Vec<_> = self.finals().map(Answer::reply).collect();
        replies.sort_unstable();
        replies.dedup();
        replies.len()
    }

    fn one_effect(&self, check: &'static str) -> Seen {
        if let Ok(done) = self.done {
            return Seen::judged(check, done == 1, format!("{done} counted, after {}", self.statuses()));
        }
        let mut made: Vec<&Answer> = Vec::new();
        for answer in self.finals() {
            if !made.iter().any(|other| other.names_the_same(answer)) {
                made.push(answer);
            }
        }
        let text = format!("{}, judged by the replies (--count would count), after {}", made.len(), self.statuses());
        Seen::judged(check, made.len() == 1, text)
    }

    fn one_reply(&self) -> Seen {
        let replies = self.replies();
        Seen::judged("duplicates-one-reply", replies == 1, format!("{replies} different"))
    }

    fn no_5xx(&self) -> Seen {
        let broken = |answer: &Result<Answer, NoAnswer>| answer.as_ref().map_or(true, |answer| answer.status >= 500);
        let broken = self.answers.iter().filter(|answer| broken(answer)).count();
        Seen::judged("duplicates-no-5xx", broken == 0, self.statuses())
    }

    fn in_flight(&self) -> Seen {
        let others: Vec<_> = self.answers.iter().flatten().filter(|answer| !answer.is_success()).collect();
        let conflicts = others.iter().all(|answer| answer.status == 409);
        let patient = others.iter().all(|answer| answer.retry_after().is_some());
        let answered = self.answers.iter().all(Result::is_ok) && self.last.is_success();
        let mut text = self.statuses();
        if !others.is_empty() {
            text.push_str(if patient { ", with Retry-After" } else { ", without Retry-After" });
        }
        if !self.last.is_success() {
            text = format!("{text}; the last one, alone, {}", self.last.status);
        }
        Seen::by(
            "duplicates-in-flight",
            |profile| match profile {
                Profile::Draft => conflicts && answered,
                Profile::Stripe => self.last.is_success(),
                Profile::This => conflicts && answered && patient,
            },
            text,
        )
    }

    /// For a reader: `49 × 201, 1 × 409`.
    fn statuses(&self) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for answer in &self.answers {
            let status = answer.as_ref().map_or_else(|_| "no answer".to_owned(), |answer| answer.status.to_string());
            *counts.entry(status).or_default() += 1;
        }
        counts.iter().map(|(status, count)| format!("{count} × {status}")).collect::<Vec<_>>().join(", ")
    }
}
