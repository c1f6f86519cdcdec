//! Every property holds in every small world, and the worlds are not empty: every step and state of the model occurs in
//! them.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

use idempotent_payments_model::scenarios::{self, Scenario, Size};
use stateright::Model;

#[test]
fn every_property_holds() {
    for (name, checked) in scenarios::small() {
        assert!(checked.complete, "{name}: not all states were seen: {checked:?}");
        assert_eq!(checked.broken, [""; 0], "{name}");
    }
}

/// The words in the debug output of these worlds' steps and states: the variants, and the values of fields.
fn words<M>(worlds: Vec<Scenario<M>>, of_state: impl Fn(&M::State) -> String) -> BTreeSet<String>
where
    M: Model,
    M::State: Clone + Hash + Eq,
    M::Action: Debug + Clone,
{
    let mut all = BTreeSet::new();
    let mut add = |text: &str| {
        all.extend(text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned));
    };
    for Scenario { model, .. } in worlds {
        let mut seen: HashSet<M::State> = model.init_states().into_iter().collect();
        let mut next: VecDeque<M::State> = seen.iter().cloned().collect();
        // The first states have everything that is common; the rest of a world is more of the same.
        while let Some(state) = next.pop_front().filter(|_| seen.len() < 40_000) {
            add(&of_state(&state));
            let mut actions = Vec::new();
            model.actions(&state, &mut actions);
            for action in actions {
                add(&format!("{action:?}"));
                let after = model.next_state(&state, action).expect("each action has a next state");
                if seen.insert(after.clone()) {
                    next.push_back(after);
                }
            }
        }
    }
    all
}

fn assert_all(words: &BTreeSet<String>, expected: &str) {
    let missing: Vec<&str> = expected.split_whitespace().filter(|word| !words.contains(*word)).collect();
    assert_eq!(missing, [""; 0], "never happens in the small worlds");
}

#[test]
fn every_step_of_the_record_happens() {
    let words = words(scenarios::record(Size::Small), |world| format!("{:?}", world.requests));
    assert_all(
        &words,
        "Arrive Look Begin TryLock LockRecord TakeOver Succeed Fail Insert Commit LookAfterFailure LookAgain WaitEnds Hear \
         Lose Sever Notice Abort LateCommit Leave Kill Resolve Expire FindExpired Sweep \
         Success Provisional Resolved Failure Reply Reused InFlight Failed Broken Nobody",
    );
}

#[test]
fn every_step_of_the_external_call_happens() {
    let words =
        words(scenarios::call(Size::Small), |world| format!("{:?} {:?} {:?}", world.row, world.holders, world.keys));
    assert_all(
        &words,
        "Take Resume Start LookUp LookUpFails Send Read TimeOut Fence Apply ApplyUnheard NotRecorded GiveBack Crash Arrive \
         Drop Copy ProxyFails Forget Hint Tick BackUp Restore Retry \
         Capture Decline Refuse StoreError Replay LookFirst LookAfter Await Record Locked Succeeded Failed Captured Declined \
         Refused Error",
    );
}
