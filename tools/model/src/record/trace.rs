//! The steps that a request reports (crates/idempotency, observer.rs), and its answer.

use super::world::{Answer, At, Reply, Step as Place, World};
use super::{Action, Record};
use crate::trace::Told;

/// A step as the crate's observer sees it, or the answer to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the names of `idempotency::Step`")]
pub enum Step {
    Waits,
    Begins,
    Claimed,
    MetTransaction,
    MetRecord {
        provisional: bool,
    },
    BodyRan,
    Recorded,
    Committed,
    Failed,
    /// The client has its answer.
    Answered(Heard),
}

/// What a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// A 202.
    Provisional,
    /// A final reply without the replay marker.
    Fresh,
    /// A final reply with it.
    Replay,
    /// 422: the key is another request's.
    Reused,
    /// 409: in flight.
    InFlight,
    /// The failure of a body, which was not stored.
    Failed,
    /// The database failed too often.
    Broken,
}

impl Told for Record {
    type Step = Step;

    fn actor(&self, action: &Action) -> Option<usize> {
        match *action {
            Action::Arrive(i)
            | Action::Look(i)
            | Action::Begin(i)
            | Action::TryLock(i)
            | Action::LockRecord(i)
            | Action::TakeOver(i)
            | Action::Succeed(i)
            | Action::Fail(i)
            | Action::Insert(i)
            | Action::Commit(i)
            | Action::LookAfterFailure(i)
            | Action::LookAgain(i)
            | Action::WaitEnds(i)
            | Action::Hear(i)
            | Action::Refuse(i)
            | Action::Lose(i)
            | Action::Notice(i) => Some(i),
            Action::Sever(_)
            | Action::Abort(_)
            | Action::LateCommit(_)
            | Action::Leave(_)
            | Action::Kill(_)
            | Action::Resolve
            | Action::Expire
            | Action::FindExpired
            | Action::Sweep => None,
        }
    }

    fn tells(&self, before: &World, action: &Action, after: &World) -> Option<Step> {
        let i = self.actor(action)?;
        let at = &after.requests[i].at;
        match action {
            Action::Arrive(_) | Action::Hear(_) => matches!(at, At::Follows { .. }).then_some(Step::Waits),
            Action::Look(_) => before.row.filter(|row| before.is_live(row)).map(|row| met(row.reply)),
            Action::TryLock(_) | Action::LockRecord(_) | Action::TakeOver(_) => claimed(before, i, at),
            Action::Succeed(_) | Action::Fail(_) if matches!(at, At::Leads(Place::Insert(_))) => Some(Step::BodyRan),
            Action::Insert(_) if matches!(at, At::Leads(Place::Commit(_))) => Some(Step::Recorded),
            Action::Commit(_) => Some(Step::Committed),
            // A read outside a transaction fails, and is not reported.
            Action::Lose(_) if before.requests[i].transaction.is_none() => None,
            Action::Succeed(_) | Action::Fail(_) | Action::Insert(_) | Action::Lose(_) | Action::Notice(_) => {
                Some(Step::Failed)
            }
            _ => None,
        }
    }

    fn announces(&self, action: &Action) -> Option<Step> {
        matches!(action, Action::Begin(_)).then_some(Step::Begins)
    }

    fn may_tell(&self, world: &World, actor: usize, step: Step) -> bool {
        match (step, &world.requests[actor].at) {
            (Step::Begins, At::Leads(Place::Begin)) => true,
            (Step::Answered(heard), At::Answered(answer)) => heard_of(answer) == Some(heard),
            _ => false,
        }
    }

    fn may_end(&self, world: &World) -> Option<bool> {
        Some(world.requests.iter().all(|request| matches!(request.at, At::Answered(_))))
    }
}

fn met(reply: Reply) -> Step {
    Step::MetRecord { provisional: reply == Reply::Provisional }
}

/// How a claim ended, if it has ended.
fn claimed(before: &World, i: usize, at: &At) -> Option<Step> {
    let found = match before.requests[i].at {
        At::Leads(Place::TryLock { seen }) => seen,
        _ => before.row,
    };
    match at {
        At::Leads(Place::Body) => Some(Step::Claimed),
        At::Leads(Place::LockRecord | Place::TakeOver { .. }) => None,
        At::Leads(Place::Paused { seen: None }) => Some(Step::MetTransaction),
        _ => found.map(|row| met(row.reply)),
    }
}

fn heard_of(answer: &Answer) -> Option<Heard> {
    Some(match answer {
        Answer::Reply { row, .. } if row.reply == Reply::Provisional => Heard::Provisional,
        Answer::Reply { replayed: true, .. } => Heard::Replay,
        Answer::Reply { replayed: false, .. } => Heard::Fresh,
        Answer::Reused { .. } => Heard::Reused,
        Answer::InFlight => Heard::InFlight,
        Answer::Failed { .. } => Heard::Failed,
        Answer::Broken => Heard::Broken,
        Answer::Nobody => return None,
    })
}
