//! The words for each step, so that a counterexample reads as a story.

use super::world::{Answer, At, Reply, Shareable, Step, World};
use super::{Action, Record};
use crate::story::{Line, Tells};

const DATABASE: &str = "database";

impl Tells for Record {
    fn actors(&self) -> Vec<String> {
        let requests = (0..self.bounds.requests.len()).map(|i| self.name(i));
        requests.chain([DATABASE.to_owned()]).collect()
    }

    fn tell(&self, before: &World, action: &Action, after: &World) -> Line {
        use Action as A;
        let at = |i: usize| &after.requests[i].at;
        match *action {
            A::Arrive(i) => match at(i) {
                At::Follows { leader } => self.alone(i, &format!("arrives, and follows {}", self.name(*leader))),
                _ => self.alone(i, "arrives, and leads"),
            },
            A::Look(i) => self.asks(i, "reads the record", after),
            A::Begin(i) => {
                let seen = before.row.map_or("no record", |row| record_is(row.reply, row.is_live_at(before.clock)));
                self.to_database(i, &format!("BEGIN; the claim's snapshot has {seen}"))
            }
            A::TryLock(i) => self.asks(i, "the claim tries the lock", after),
            A::LockRecord(i) => self.asks(i, "SELECT .. FOR UPDATE takes its snapshot", after),
            A::TakeOver(i) => self.asks(i, "SELECT .. FOR UPDATE reads the newest version", after),
            A::Succeed(i) => self.to_database(i, "the body writes"),
            A::Fail(i) => self.to_database(i, "the body fails"),
            A::Insert(i) => self.asks(i, "INSERT of the record", after),
            A::Commit(i) => self.asks(i, "COMMIT", after),
            A::LookAfterFailure(i) => self.asks(i, "reads the record after the failure", after),
            A::LookAgain(i) => self.alone(i, "looks again"),
            A::WaitEnds(i) | A::Hear(i) | A::Refuse(i) => {
                let what = match action {
                    A::WaitEnds(_) => "its wait ends",
                    A::Hear(_) => "hears of the result",
                    _ => "hears that its leader, another request, holds the key",
                };
                self.alone(i, &format!("{what}: {}", outcome(at(i))))
            }
            A::Lose(i) => self.alone(i, &format!("loses its connection; {}", outcome(at(i)))),
            A::Sever(i) => Line::new(DATABASE, &self.name(i), "ends its transaction; the request has not noticed"),
            A::Notice(i) => self.alone(i, &format!("notices that its connection is gone; {}", outcome(at(i)))),
            A::Abort(_) => Line::note(DATABASE, "notices the lost connection, and rolls back"),
            A::LateCommit(_) => Line::note(DATABASE, "the COMMIT on its way takes effect"),
            A::Leave(i) => self.alone(i, "its client leaves"),
            A::Kill(process) => Line::note(DATABASE, &format!("process {} is killed", process + 1)),
            A::Resolve => Line::note(DATABASE, "the external call is resolved: the final reply replaces the 202"),
            A::Expire => Line::note(DATABASE, "the record's lifetime ends"),
            A::FindExpired => Line::note(DATABASE, "the sweeper finds the expired record"),
            A::Sweep if before.row.is_some() && after.row.is_none() => {
                Line::note(DATABASE, "the sweeper deletes the record that is there now")
            }
            A::Sweep => Line::note(DATABASE, "the sweeper deletes nothing"),
        }
    }
}

impl Record {
    fn name(&self, i: usize) -> String {
        let (process, body) = self.bounds.requests[i];
        format!("request {} (body {body}, process {})", i + 1, process + 1)
    }

    fn alone(&self, i: usize, text: &str) -> Line {
        Line::note(&self.name(i), text)
    }

    fn to_database(&self, i: usize, text: &str) -> Line {
        Line::new(&self.name(i), DATABASE, text)
    }

    fn asks(&self, i: usize, text: &str, after: &World) -> Line {
        self.to_database(i, &format!("{text}: {}", outcome(&after.requests[i].at)))
    }
}

fn record_is(reply: Reply, is_live: bool) -> &'static str {
    match reply {
        Reply::None => "a record without a reply",
        Reply::Provisional => "a 202",
        _ if is_live => "a record",
        _ => "an expired record",
    }
}

fn outcome(at: &At) -> &'static str {
    match at {
        At::Away => "not sent yet",
        At::Follows { .. } => "follows",
        At::Heard(Shareable::Nothing) => "its leader left nothing",
        At::Heard(_) => "its leader shares its result",
        At::Leads(Step::Look | Step::Begin) => "it runs again",
        At::Leads(Step::TryLock { .. }) => "the claim goes on",
        At::Leads(Step::LockRecord) => "the lock is its own, the record is expired",
        At::Leads(Step::TakeOver { .. }) => "the record is there",
        At::Leads(Step::Body) => "the key is its own",
        At::Leads(Step::Insert(_)) => "the record comes next",
        At::Leads(Step::Commit(_)) => "done",
        At::Leads(Step::LookAfterFailure) => "rolled back",
        At::Leads(Step::Paused { .. }) => "in flight, so it waits without a connection",
        At::Answered(answer) => match answer {
            Answer::Reply { row, .. } if row.reply == Reply::Provisional => "answered with the 202",
            Answer::Reply { row, replayed } => match (row.reply, replayed) {
                (Reply::Failure, true) => "answered with the stored failure",
                (Reply::Failure, false) => "answered with its own failure",
                (_, true) => "answered with the record's reply, as a replay",
                (_, false) => "answered with its own reply",
            },
            Answer::Reused { .. } => "answered 422, the key is another request's",
            Answer::InFlight => "answered 409, in flight",
            Answer::Failed { .. } => "answered with the body's failure",
            Answer::Broken => "answered 503",
            Answer::Nobody => "nobody waits for an answer",
        },
    }
}
