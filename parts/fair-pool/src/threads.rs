// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads on which work waits for the database, and how many of them may be given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

/// How many silences of the database may leave threads behind. Each leaves a thread for each connection. If a pooler
/// accepts connections and never answers, the attempts to connect leave up to four every five seconds, while work waits.
/// A thread that is never released means that a whole network went away, and an operator acts long before that has
/// happened eight times. Beyond this bound, work keeps its turn until a thread returns.
const SILENCES: usize = 8;

/// How long [`Threads::close`] waits for running work. A statement ends after 5 s.
const CLOSE_WITHIN: Duration = Duration::from_secs(6);

/// The threads of the pool. They are tokio's, on a runtime that runs only what belongs to the pool.
pub(super) struct Threads {
    runtime: Mutex<Option<Runtime>>,
    pub handle: Handle,
    most_given_up: usize,
    /// A thread whose work was given up holds a permit until it returns.
    pub may_give_up: Arc<Semaphore>,
    /// Threads that run work of [`Threads::run_within`], which hold a permit from its beginning.
    in_time: AtomicUsize,
}

impl Threads {
    pub fn start(connections: usize) -> std::io::Result<Self> {
        let most_given_up = SILENCES * connections;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(connections + most_given_up)
            .thread_name("db")
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let may_give_up = Arc::new(Semaphore::new(most_given_up));
        let (runtime, in_time) = (Mutex::new(Some(runtime)), AtomicUsize::new(0));
        Ok(Self { runtime, handle, most_given_up, may_give_up, in_time })
    }

    /// Runs a task until it ends or the pool is closed.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Runs work that has no turn, and gives it up after this time, or at once if too many threads wait already. Blocks.
    ///
    /// # Errors
    /// `Disconnected` if the pool is closed.
    pub fn run_within<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RecvTimeoutError> {
        let permit = Arc::clone(&self.may_give_up).try_acquire_owned().map_err(|_| RecvTimeoutError::Timeout)?;
        self.in_time.fetch_add(1, Ordering::Relaxed);
        let (sender, result) = mpsc::channel();
        self.handle.spawn_blocking(move || {
            let result = work();
            drop(permit);
            // Nobody waits any more if the work was given up.
            let _ = sender.send(result);
        });
        let result = result.recv_timeout(within);
        self.in_time.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// How many threads still run work that was given up.
    pub fn given_up(&self) -> usize {
        let permits = self.most_given_up - self.may_give_up.available_permits();
        permits.saturating_sub(self.in_time.load(Ordering::Relaxed))
    }

    pub fn is_closed(&self) -> bool {
        self.runtime.lock().is_none()
    }

    /// Waits until the running work has ended, for at most [`CLOSE_WITHIN`]. Blocks.
    pub fn close(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_timeout(CLOSE_WITHIN);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}
