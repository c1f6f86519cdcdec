//! The aim at the fence. To expose a fault of the fence takes three things: a holder that was refused, and that sleeps
//! past its lease before it records the refusal; a next holder that takes the money; and that this next holder does not
//! know of the money yet when the first one wakes. Any other fault in these twenty seconds undoes one of them, so
//! chance alone produced all three in none of thirteen runs.
//!
//! So the soak produces the three, and begins no other fault meanwhile. It does not say what the result must be: only
//! the history's rules judge.

use std::collections::HashSet;
use std::time::Duration;

use test_database::Proxy;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The replica's calls are refused for this long, so that several holders are refused, since some find no connection
/// later, and some sent their call before. A look that waits meanwhile has the time of a call (4 s).
const GATHERS: Duration = Duration::from_millis(2500);

/// How long the aim waits for the first call that it can refuse. Without a call there is no load.
const CALLS_WITHIN: Duration = Duration::from_secs(15);

/// Longer than a lease (15 s), the pause until the other replica's next look (1 s), and a second for a busy machine.
/// The answers to the calls of the next holder and of the one after it are lost.
const SLEEPS: Duration = Duration::from_millis(17_500);

/// The holders wake and record. Meanwhile nobody else finds out what became of their calls.
const RECORDS: Duration = Duration::from_secs(2);

#[derive(Default)]
struct State {
    /// The replica whose calls are refused and whose looks wait.
    gathers: Option<usize>,
    /// The references of the calls that were refused. From the next sending on, their answers are lost.
    refused: HashSet<String>,
}

/// What an aim does with a sending.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Aimed {
    Refuses,
    LosesAnswer,
}

pub struct Aim(watch::Sender<State>);

impl Aim {
    pub fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// Refuses a replica's calls. Once some holders are about to read the books, nothing that they send to their
    /// database arrives until their leases are long over. Returns how many holders slept.
    pub async fn at_the_fence(&self, replica: usize, database: &Proxy) -> usize {
        self.0.send_modify(|state| state.gathers = Some(replica));
        let is_refused = |state: &State| !state.refused.is_empty();
        let came = timeout(CALLS_WITHIN, self.0.subscribe().wait_for(is_refused)).await.is_ok();
        if came {
            sleep(GATHERS).await;
            database.pause();
        }
        self.0.send_modify(|state| state.gathers = None);
        if came {
            sleep(SLEEPS).await;
            database.resume();
            sleep(RECORDS).await;
        }
        let mut slept = 0;
        self.0.send_modify(|state| slept = std::mem::take(&mut state.refused).len());
        slept
    }

    /// What happens to a replica's sending. None if the aim leaves it alone.
    pub fn decides(&self, replica: usize, reference: &str) -> Option<Aimed> {
        let mut aimed = None;
        self.0.send_if_modified(|state| {
            if state.refused.contains(reference) {
                aimed = Some(Aimed::LosesAnswer);
                return false;
            }
            let refuses = state.gathers == Some(replica);
            if refuses {
                aimed = Some(Aimed::Refuses);
                state.refused.insert(reference.to_owned());
            }
            refuses
        });
        aimed
    }

    /// A replica's look waits here while the aim gathers.
    pub async fn look_may_go_on(&self, replica: usize) {
        // The sender lives as long as the aim.
        let _ = self.0.subscribe().wait_for(|state| state.gathers != Some(replica)).await;
    }
}
