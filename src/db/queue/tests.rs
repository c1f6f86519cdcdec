//! Whose turn it is, without a database.

use std::sync::mpsc;
use std::thread;

use super::*;

fn account(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Takes every turn that is possible now, and returns the accounts.
fn turns<T>(queue: &Queue<T>) -> Vec<u128> {
    let mut state = queue.lock();
    std::iter::from_fn(|| state.take()).map(|turn| turn.account_id.as_u128()).collect()
}

fn queue_of(connections: usize, work: &[u128]) -> Queue<()> {
    let queue = Queue::new(connections, 64 * connections);
    for number in work {
        queue.push(account(*number), ()).map(drop).unwrap();
    }
    queue
}

#[test]
fn accounts_take_turns_in_the_order_in_which_they_came() {
    assert_eq!(turns(&queue_of(10, &[1, 1, 1, 2, 2, 3])), [1, 2, 3, 1, 2, 1]);
}

#[test]
fn an_account_alone_takes_half_of_the_connections_and_leaves_the_others_for_who_comes_later() {
    for (connections, share) in [(1, 1), (2, 1), (3, 2), (4, 2), (10, 5)] {
        assert_eq!(turns(&queue_of(connections, &[1; 20])), vec![1; share], "of {connections}");
    }
    let queue = queue_of(10, &[1; 60]);
    assert_eq!(turns(&queue).len(), 5);
    for later in [2, 2, 2, 2, 3, 3] {
        queue.push(account(later), ()).map(drop).unwrap();
    }
    assert_eq!(turns(&queue), [2, 3, 2, 3]);
}

#[test]
fn a_connection_that_comes_free_goes_to_whoever_is_next() {
    let queue = queue_of(4, &[1, 1, 1, 1, 2, 2]);
    assert_eq!(turns(&queue), [1, 2, 1]);
    queue.lock().done(account(1));
    assert_eq!(turns(&queue), [2]);
    queue.lock().done(account(2));
    assert_eq!(turns(&queue), [1]);
}

#[test]
fn a_turn_that_another_turn_makes_possible_wakes_a_thread() {
    const SOON: std::time::Duration = std::time::Duration::from_secs(10);
    let (queue, (started, starts)) = (Queue::<mpsc::Receiver<()>>::new(6, 64), mpsc::channel());
    thread::scope(|scope| {
        for _ in 0..6 {
            let (queue, started) = (&queue, started.clone());
            scope.spawn(move || {
                let mut done = None;
                while let Some(turn) = queue.next(done) {
                    started.send(turn.account_id.as_u128()).unwrap();
                    // Runs until the test ends it.
                    turn.work.recv().ok();
                    done = Some(turn.account_id);
                }
            });
        }
        let mut ends = VecDeque::new();
        let mut bring = |number| {
            let (end, work) = mpsc::channel();
            queue.push(account(number), work).map(drop).unwrap();
            ends.push_back(end);
        };
        let next = || starts.recv_timeout(SOON).ok();
        let begun = [1, 2, 1, 2].map(|number| {
            bring(number);
            next()
        });
        bring(2);
        bring(1);
        // Account 1 gives a connection back. Account 2 takes a third one, and account 1 may have its second one again.
        drop(ends.pop_front());
        let mut then = [next(), next()];
        // Two threads report, in any order.
        then.sort_unstable();
        drop(ends);
        queue.close();
        assert_eq!((begun, then), ([Some(1), Some(2), Some(1), Some(2)], [Some(1), Some(2)]));
    });
}

#[test]
fn an_account_fills_half_of_the_queue_and_another_one_still_finds_a_place() {
    let queue = Queue::new(1, 64);
    let accepted = (0..64).filter(|_| queue.push(account(1), ()).is_ok()).count();
    assert_eq!(accepted, 32);
    assert!(queue.push(account(2), ()).is_ok());
    assert_eq!(queue.push(account(1), ()).map(drop), Err(Refused::Full));
}

#[test]
fn work_is_withdrawn_only_while_it_waits() {
    let queue = queue_of(1, &[]);
    let tickets: Vec<_> = (0..3).map(|_| queue.push(account(1), ()).unwrap()).collect();
    assert_eq!(turns(&queue), [1]);

    let withdrawn: Vec<_> = tickets.iter().map(|ticket| queue.withdraw(ticket).is_some()).collect();

    assert_eq!(withdrawn, [false, true, true]);
    assert_eq!(queue.load(), (1, 0));
    queue.lock().done(account(1));
    assert!(turns(&queue).is_empty());
    assert!(queue.lock().accounts.is_empty(), "an account without work is forgotten");
}

#[test]
fn a_closed_queue_gives_out_what_it_accepted_and_then_ends() {
    let queue = queue_of(2, &[1, 1]);
    queue.close();
    assert_eq!(queue.push(account(1), ()).map(drop), Err(Refused::Closed));
    let mut done = None;
    let mut given = 0;
    while let Some(turn) = queue.next(done) {
        done = Some(turn.account_id);
        given += 1;
    }
    assert_eq!(given, 2);
}
