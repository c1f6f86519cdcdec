//! The words for each step, so that a counterexample reads as a story.

use super::world::{Answer, Charge, Holder, Step, World};
use super::{Action, Call, Reaction};
use crate::story::{Line, Tells};

const DATABASE: &str = "database";
const NETWORK: &str = "network";
const PROVIDER: &str = "provider";

impl Tells for Call {
    fn actors(&self) -> Vec<String> {
        let workers = (0..self.bounds.workers).map(|i| worker(i).to_owned());
        workers.chain([DATABASE, NETWORK, PROVIDER].map(str::to_owned)).collect()
    }

    fn tell(&self, before: &World, action: &Action, after: &World) -> Line {
        use Action as A;
        let next = |i: usize| next_of(after.holders[i].as_ref());
        match *action {
            A::Take(i) | A::Resume(i) => {
                let who =
                    if matches!(action, A::Take(_)) { "takes" } else { "is told by an operator to resume, and takes" };
                match after.holders[i] {
                    Some(holder) => Line::new(worker(i), DATABASE, &format!("{who} lease {}", holder.attempt)),
                    None => Line::new(worker(i), DATABASE, "parks the call"),
                }
            }
            A::Start(i) => Line::note(worker(i), &format!("begins: {}", next(i))),
            A::LookUp(i) => {
                let found = before.holders[i].and_then(|holder| before.listed(holder.reference));
                let found = match found {
                    Some(Charge::Succeeded) => "a capture",
                    Some(_) => "a decline",
                    None => "nothing",
                };
                Line::new(worker(i), PROVIDER, &format!("looks the call up and finds {found}: {}", next(i)))
            }
            A::LookUpFails(i) => Line::new(worker(i), PROVIDER, &format!("can't look the call up: {}", next(i))),
            A::Send(i) if matches!(after.holders[i].map(|holder| holder.step), Some(Step::Await { .. })) => {
                Line::new(worker(i), NETWORK, "sends the call")
            }
            A::Send(i) => Line::note(worker(i), "finds that its lease is nearly over, and does not send"),
            A::Read(i) => {
                let answer = match before.holders[i].map(|holder| holder.step) {
                    Some(Step::Await { answer: Some(answer), .. }) => answer_is(answer),
                    _ => "nothing",
                };
                Line::note(worker(i), &format!("reads {answer}: {}", next(i)))
            }
            A::TimeOut(i) => Line::note(worker(i), "gets no answer in time"),
            A::Fence(i) => {
                let what = if after.holders[i].is_some() {
                    "the lease counts"
                } else {
                    "the lease is lost, nothing is written"
                };
                Line::new(worker(i), DATABASE, &format!("second transaction: {what}"))
            }
            A::Apply(i) => {
                let charge = after.row.map_or(Charge::Processing, |row| row.charge);
                Line::new(worker(i), DATABASE, &format!("COMMIT: the charge has {}", charge_is(charge)))
            }
            A::ApplyUnheard(i) => Line::new(worker(i), DATABASE, "COMMIT takes effect, and its answer is lost"),
            A::RollBack(i) => Line::new(worker(i), DATABASE, "the second transaction is rolled back"),
            A::NotRecorded(i) => Line::new(worker(i), DATABASE, "can't record the outcome"),
            A::GiveBack(i) => {
                let kept = before.row.map(|row| row.attempts) == before.holders[i].map(|holder| holder.attempt);
                let what = match after.row {
                    Some(row) if kept && row.parked => "gives its lease back, and the call is parked",
                    Some(_) if kept => "gives its lease back",
                    _ => "would give its lease back, and has lost it",
                };
                Line::new(worker(i), DATABASE, what)
            }
            A::Crash(i) => Line::note(worker(i), "is killed"),
            A::Arrive(place, reaction) => {
                let (attempt, repeat) = (before.sendings[place].name.attempt, before.sendings[place].name.repeat);
                let which =
                    if repeat > 0 { format!("repeat {repeat} of lease {attempt}") } else { format!("lease {attempt}") };
                Line::new(NETWORK, PROVIDER, &format!("the sending of {which} arrives: {}", reaction_is(reaction)))
            }
            A::Drop(place) => {
                Line::note(NETWORK, &format!("loses the sending of lease {}", before.sendings[place].name.attempt))
            }
            A::Copy(place) => {
                Line::note(NETWORK, &format!("copies the sending of lease {}", before.sendings[place].name.attempt))
            }
            A::ProxyFails(_) => Line::note(NETWORK, "a proxy answers 5xx, while the sending goes on"),
            A::Forget => Line::note(PROVIDER, "forgets the key"),
            A::Hint => Line::new(PROVIDER, DATABASE, "a webhook makes the call due"),
            A::Tick => Line::note(DATABASE, "time passes"),
            A::BackUp => Line::note(DATABASE, "a backup is taken"),
            A::Restore => Line::note(DATABASE, "all processes are stopped, the backup is restored"),
            A::Retry => Line::new(worker(0), DATABASE, "the client sends again, and the first transaction commits"),
        }
    }
}

fn worker(i: usize) -> &'static str {
    ["handler", "resolver 1", "resolver 2"][i.min(2)]
}

fn charge_is(charge: Charge) -> &'static str {
    match charge {
        Charge::Processing => "no outcome",
        Charge::Succeeded => "succeeded",
        Charge::Failed => "failed",
    }
}

fn answer_is(answer: Answer) -> &'static str {
    match answer {
        Answer::Captured => "that the money has moved",
        Answer::Declined => "that the card is declined",
        Answer::Refused => "a refusal (4xx)",
        Answer::Error => "a 5xx",
    }
}

fn reaction_is(reaction: Reaction) -> &'static str {
    match reaction {
        Reaction::Capture => "the money moves",
        Reaction::Decline => "the card is declined",
        Reaction::Refuse => "it is refused, and nothing is kept",
        Reaction::StoreError { captures: true } => "the money moves, and a 500 is stored as the answer",
        Reaction::StoreError { captures: false } => "nothing is done, and a 500 is stored as the answer",
        Reaction::Replay => "the key is known, the stored answer goes back",
    }
}

fn next_of(holder: Option<&Holder>) -> &'static str {
    match holder.map(|holder| holder.step) {
        None => "it is done",
        Some(Step::Start) => "it begins",
        Some(Step::LookFirst | Step::LookAfter { .. }) => "it will look the call up",
        Some(Step::Send) => "it will send",
        Some(Step::Await { .. }) => "it waits for the answer",
        Some(Step::Record(charge) | Step::Locked(charge)) => match charge {
            Charge::Failed => "it will record that no money moved",
            _ => "it will record that the money moved",
        },
        Some(Step::GiveBack { .. }) => "the outcome is unknown",
    }
}
