//! Named points of a charge or a refund, at which a process may end: for the crash matrix in `tests/api/crashes.rs`, and for the
//! demo's stage.
//!
//! In a debug build, `FAILPOINT=<name>` aborts the process at the point of this name. The process does not unwind or clean up, as
//! with `kill -9`. A replica of the stage listens to all points, in a release build too. Without either, a point costs
//! one look at an empty cell.

use std::sync::OnceLock;

use idempotency::{Address, Observer, Step};
use uuid::Uuid;

use super::logging;

/// Every failpoint, in the order in which a charge or a refund passes them.
pub const POINTS: [&str; 9] = [
    "before-claim",
    "after-claim",
    BEFORE_COMMIT_1,
    "after-commit-1",
    "before-call",
    "after-call",
    "before-commit-2",
    "after-commit-2",
    "before-answer",
];

/// The record is written, but not committed.
const BEFORE_COMMIT_1: &str = "before-commit-1";

/// Called at each point, with the lease's number if the resolver passes it under a lease.
pub type Listener = fn(point: &'static str, attempt: Option<i32>);

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Tells the listener of each point from now on. A process has one listener: the first.
pub fn listen(listener: Listener) {
    LISTENER.get_or_init(|| listener);
}

/// Aborts if `FAILPOINT` names this point.
#[inline]
pub fn failpoint(name: &'static str) {
    passed(name, None);
}

/// Like [`failpoint`], under a lease.
#[inline]
pub fn passed(name: &'static str, attempt: Option<i32>) {
    if let Some(listener) = LISTENER.get() {
        listener(name, attempt);
    }
    #[cfg(debug_assertions)]
    abort_if_named(name);
}

#[cfg(debug_assertions)]
fn abort_if_named(name: &str) {
    use std::sync::LazyLock;
    static FAILPOINT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("FAILPOINT").ok());
    if FAILPOINT.as_deref() == Some(name) {
        log::warn!("crashing at {name}, as FAILPOINT says");
        std::process::abort();
    }
}

/// Lets work that outlives its request pass its points in the request's name, but only if somebody listens: the
/// resolver's log lines already name the request in their text, and would name it twice.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let request = LISTENER.get().and_then(|_| logging::request());
    async move {
        match request {
            Some(id) => logging::of_request(id, work).await,
            None => work.await,
        }
    }
}

/// Passes the point that lies inside the crate `idempotency`.
#[derive(Clone, Copy, Debug)]
pub struct InsideTheCrate;

impl Observer for InsideTheCrate {
    fn reached(&self, _: Uuid, _: &Address, step: Step) {
        if step == Step::Recorded {
            failpoint(BEFORE_COMMIT_1);
        }
    }
}
