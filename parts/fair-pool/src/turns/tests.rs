// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose turn it is, without a database.

use futures_util::FutureExt as _;

use super::*;

fn account(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

type Receiver = oneshot::Receiver<Turn>;

fn push(turns: &Turns, number: u128) -> Option<Receiver> {
    let (sender, receiver) = oneshot::channel();
    turns.0.lock().push(account(number), sender).map(|_| receiver)
}

fn turns_of(connections: usize, work: &[u128]) -> (Turns, Vec<Receiver>) {
    let turns = Turns::new(connections);
    let receivers = work.iter().map(|number| push(&turns, *number).unwrap()).collect();
    (turns, receivers)
}

/// Takes every turn that is possible now, and returns the accounts.
fn next(turns: &Turns) -> Vec<u128> {
    let mut state = turns.0.lock();
    std::iter::from_fn(|| state.next_turn()).map(|(account_id, _)| account_id.as_u128()).collect()
}

#[test]
fn accounts_take_turns_in_the_order_in_which_they_came() {
    assert_eq!(next(&turns_of(10, &[1, 1, 1, 2, 2, 3]).0), [1, 2, 3, 1, 2, 1]);
}

#[test]
fn an_account_alone_takes_nearly_all_connections_and_leaves_one_for_each_later_account() {
    for (connections, share) in [(1, 1), (2, 1), (3, 2), (5, 4), (6, 4), (10, 8), (32, 30)] {
        assert_eq!(next(&turns_of(connections, &[1; 40]).0), vec![1; share], "of {connections}");
    }
    let (turns, _receivers) = turns_of(10, &[1; 60]);
    assert_eq!(next(&turns).len(), 8);
    let _later: Vec<_> = [2, 2, 2, 3, 3, 4].map(|later| push(&turns, later).unwrap()).into();
    assert_eq!(next(&turns), [2, 3]);
}

#[test]
fn a_freed_connection_goes_to_whoever_is_next() {
    let (turns, _receivers) = turns_of(3, &[1, 1, 1, 2, 2, 3]);
    assert_eq!(next(&turns), [1, 2, 3]);
    // The last free connection goes to an account that holds none.
    turns.0.lock().done(account(1));
    assert_eq!(next(&turns), [1]);
    turns.0.lock().done(account(2));
    turns.0.lock().done(account(3));
    assert_eq!(next(&turns), [2]);
}

#[tokio::test]
async fn a_turn_that_ends_goes_to_the_next_in_the_queue() {
    let turns = Turns::new(1);
    let first = turns.take(account(1)).await.unwrap();
    let mut second = Box::pin(turns.take(account(2)));
    assert!(second.as_mut().now_or_never().is_none());

    drop(first);

    let second = second.await.unwrap();
    assert_eq!((second.account_id, turns.load()), (account(2), (1, 0)));
    drop(second);
    assert!(turns.0.lock().accounts.is_empty(), "an account without work is forgotten");
}

#[test]
fn an_account_fills_seven_eighths_of_the_queue_and_another_one_still_finds_a_place() {
    let (turns, mut receivers) = turns_of(1, &[]);
    while let Some(receiver) = push(&turns, 1) {
        receivers.push(receiver);
    }
    assert_eq!(receivers.len(), 56);
    while let Some(receiver) = push(&turns, 2) {
        receivers.push(receiver);
    }
    assert_eq!(receivers.len(), 63);
    assert!(push(&turns, 3).is_some());
}

#[tokio::test(start_paused = true)]
async fn work_waits_for_two_seconds_and_is_then_forgotten() {
    let turns = Turns::new(1);
    let _stuck = turns.take(account(1)).await.unwrap();
    let asked = tokio::time::Instant::now();

    assert!(turns.take(account(2)).await.is_none());

    assert_eq!((asked.elapsed().as_secs(), turns.load()), (2, (1, 0)));
    assert!(turns.0.lock().order.is_empty());
}

#[tokio::test]
async fn work_whose_caller_leaves_is_withdrawn_and_the_turn_that_was_on_its_way_is_not_lost() {
    let turns = Turns::new(1);
    let running = turns.take(account(1)).await.unwrap();
    let mut leaves = Box::pin(turns.take(account(1)));
    let mut is_handed_a_turn = Box::pin(turns.take(account(2)));
    assert!(leaves.as_mut().now_or_never().is_none());
    assert!(is_handed_a_turn.as_mut().now_or_never().is_none());

    drop(leaves);
    assert_eq!(turns.load(), (1, 1));
    drop(running);
    drop(is_handed_a_turn);

    assert_eq!(turns.load(), (0, 0));
    assert!(turns.0.lock().accounts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_counted_by_its_reason_and_by_whose_load_was_in_the_way() {
    let turns = Turns::new(1);
    let _stuck = turns.take(account(1)).await.unwrap();
    // Of two pieces of work, one is account 2's: the other account is in the way.
    assert!(turns.take(account(2)).await.is_none());
    assert!(turns.take(account(1)).await.is_none());
    let waited = ByLoad { own: 1, others: 1 };
    assert_eq!(turns.refusals(), Refusals { waited, ..Refusals::default() });

    let mut waiting = Vec::new();
    for number in [1, 2] {
        while let Some(receiver) = push(&turns, number) {
            waiting.push(receiver);
        }
        assert!(turns.take(account(number)).await.is_none());
    }

    assert_eq!(turns.refusals(), Refusals { queue_full: ByLoad { own: 1, others: 1 }, waited });
}
