// SPDX-License-Identifier: MIT OR Apache-2.0
//! The foreground: a request begins an external call in its first transaction, resolves it, and answers.
//!
//! Read [`Resolver::run`] here, then `resolve` and `apply` in `resolve.rs`. `background.rs` resolves what is left.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chrono::Utc;
use diesel::pg::PgConnection;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::concurrency::Slots;
use super::lease::{self, Lease};
use super::progress;
use super::resolve::{Resolved, Unresolved};
use crate::{ExternalSystem, MadeBy, Started, Step};
use idempotency::{self, ANSWER_WITHIN, Answer, Database, Failure, Keyed, Origin, Policy, Reply};

/// The longest Retry-After of a 202, in seconds: a person may resume a parked external call at any time.
const LONGEST_RETRY_AFTER: i64 = 60;

/// Requests make at most so many calls at once for each of the resolver's ([`Limits::calls_at_once`](super::Limits::calls_at_once)),
/// 256 by default. If a call takes a second, that is 256 a second. More would only wait for an external system that hangs, each
/// with a socket and a task that outlives its client.
const REQUESTS_PER_CALL_AT_ONCE: usize = 4;

/// What the resolver has done since the process started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Outcomes recorded.
    pub resolved: AtomicU64,
    /// Attempts that ended without an outcome, except those that a database outage cut short or that lost their lease.
    pub unknown: AtomicU64,
    /// External calls parked.
    pub parked: AtomicU64,
}

/// Runs external calls to their outcomes. Clones share everything.
#[derive(Clone)]
pub struct Resolver<O, D> {
    pub(super) system: O,
    pub(super) db: D,
    runtime: Handle,
    tasks: TaskTracker,
    pub(super) counts: Arc<Counts>,
    pub(super) slots: Slots,
    /// The calls that requests make. One account leaves a quarter of them to the others.
    own_slots: Slots,
}

impl<O: ExternalSystem, D: Database> Resolver<O, D> {
    /// Spawns its tasks on the current runtime. The runtime must outlive the server's workers: tasks on a worker's own
    /// runtime would end with that worker.
    #[must_use]
    pub fn new(system: O, db: D) -> Self {
        const { assert!(O::LIMITS.is_sound(), "a lease must outlast all that its holder may spend") };
        Self {
            system,
            db,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            counts: Arc::default(),
            slots: Slots::new(O::LIMITS.calls_at_once),
            own_slots: Slots::new(REQUESTS_PER_CALL_AT_ONCE * O::LIMITS.calls_at_once),
        }
    }

    /// What the service supplied.
    #[must_use]
    pub fn system(&self) -> &O {
        &self.system
    }

    /// What the resolver has done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits until all work that has begun is done, for at most a lease.
    pub async fn shutdown(&self) {
        self.tasks.close();
        let _ = tokio::time::timeout(O::LIMITS.lease, self.tasks.wait()).await;
    }

    /// Runs a request that needs a call: the first transaction, the call, the second transaction. Answers with the
    /// final reply, or with 202 when [`Limits::handler`](super::Limits::handler) ends. `body` is the first
    /// transaction's business part. It gets the request's body, and the names that the new resource may store.
    ///
    /// # Errors
    /// As [`Policy::run`]. [`idempotency::Error::KeyExpired`] if the key made an external call, and its record is gone.
    pub async fn run<T, F>(
        &self,
        policy: Policy,
        account_id: Uuid,
        request: Keyed<T>,
        body: F,
    ) -> Result<Answer, O::Error>
    where
        T: Send + Sync + 'static,
        F: Fn(&mut PgConnection, &T, &MadeBy) -> Result<Started<O::Call>, O::Error> + Send + Sync + 'static,
    {
        let made_by = MadeBy::of(&request, account_id, &policy)?;
        self.system.reached(&made_by, None, Step::Received);
        // A separate task, so that the work goes on if the client leaves. Were the work dropped between COMMIT and the
        // call, nobody would touch the external call until its lease ends.
        let whole = {
            let (this, made_by) = (self.clone(), made_by.clone());
            self.spawn(async move { this.begin_and_resolve(policy, request, made_by, body).await })
        };
        let answer = whole.await.unwrap_or_else(|_| Err(idempotency::Error::Panicked.into()))?;
        self.system.reached(&made_by, None, Step::Answering);
        Ok(answer)
    }

    async fn begin_and_resolve<T, F>(
        &self,
        policy: Policy,
        request: Keyed<T>,
        made_by: MadeBy,
        body: F,
    ) -> Result<Answer, O::Error>
    where
        T: Send + Sync + 'static,
        F: Fn(&mut PgConnection, &T, &MadeBy) -> Result<Started<O::Call>, O::Error> + Send + Sync + 'static,
    {
        let came_at = Instant::now();
        let begun: Arc<Mutex<Option<Lease>>> = Arc::default();
        let first_transaction = {
            let (system, made_by, begun) = (self.system.clone(), made_by.clone(), Arc::clone(&begun));
            move |conn: &mut PgConnection, new: &T| {
                let taken_at = Instant::now();
                system.reached(&made_by, None, Step::Claimed);
                let started = body(conn, new, &made_by);
                let (lease, reply) = begin::<O>(conn, &made_by, taken_at, started)?;
                *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
                Ok::<_, O::Error>(reply)
            }
        };
        let answer = policy.run(&self.db, made_by.account_id, request, first_transaction).await?;
        if !answer.reply.is_provisional() {
            return Ok(answer);
        }
        if answer.origin == Origin::Replayed {
            return Ok(self.as_it_is_now(answer, made_by, came_at).await);
        }
        self.system.reached(&made_by, Some(1), Step::Begun);
        let lease = begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        // After a lost COMMIT the body may have run twice. Only the row knows which run was committed.
        let lease = lease.filter(|_| answer.origin == Origin::Fresh);
        Ok(self.resolve_own(answer, made_by, lease, came_at).await)
    }

    /// Resolves what this request began, and waits for the outcome until [`Limits::handler`](super::Limits::handler) after the
    /// request came.
    async fn resolve_own(&self, answer: Answer, made_by: MadeBy, lease: Option<Lease>, came_at: Instant) -> Answer {
        let Some(slot) = self.own_slots.try_begin(made_by.account_id, 1) else {
            // The resolver makes the call when the lease is over.
            return self.as_it_is_now(answer, made_by, came_at).await;
        };
        let work = {
            let (this, made_by) = (self.clone(), made_by.clone());
            self.spawn(async move {
                let lease = match lease {
                    Some(lease) => lease,
                    None => this.first_lease(made_by, came_at).await?,
                };
                let end = this.resolve(lease).await;
                drop(slot);
                end
            })
        };
        match timeout_at((came_at + O::LIMITS.handler).into(), work).await {
            Ok(Ok(Ok(resolved))) => resolved.instead_of(&answer),
            // Unknown so far. The work goes on, and a retry will get more.
            _ => self.as_it_is_now(answer, made_by, came_at).await,
        }
    }

    /// A 202 with the resource as it is now, and with a Retry-After that grows as the external call waits. If the
    /// outcome is there by now, it is the answer.
    async fn as_it_is_now(&self, answer: Answer, made_by: MadeBy, came_at: Instant) -> Answer {
        let (system, stored) = (self.system.clone(), answer.clone());
        let look = self.db.run(made_by.account_id, move |conn| {
            // One snapshot for all reads, so that the answer is not a 202 with a resource that is already final.
            conn.build_transaction().repeatable_read().run(|conn| now::<O>(conn, &system, &made_by, stored))
        });
        match timeout_at((came_at + ANSWER_WITHIN).into(), look).await {
            Ok(Ok(now)) => now,
            // The stored 202 is older, but still true.
            _ => answer,
        }
    }

    async fn first_lease(&self, made_by: MadeBy, came_at: Instant) -> Result<Lease, Unresolved<O::Error>> {
        let found = self.db.run(made_by.account_id, move |conn| {
            lease::first_lease(conn, &made_by, came_at)?.ok_or(Unresolved::LostLease)
        });
        found.await
    }

    pub(super) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn_on(O::carried(work), &self.runtime)
    }
}

/// The end of the first transaction: the external call beside the business rows, and the 202.
///
/// The transaction checks for a late retry only if the body fails or the external call exists, which saves the usual
/// request a round trip. A late retry always gets [`idempotency::Error::KeyExpired`], and never its body's failure.
fn begin<O: ExternalSystem>(
    conn: &mut PgConnection,
    made_by: &MadeBy,
    taken_at: Instant,
    body: Result<Started<O::Call>, O::Error>,
) -> Result<(Lease, Reply), O::Error> {
    let Started { call, location, body } = match body {
        Ok(started) => started,
        Err(error) if error.database_error().is_some() => return Err(error),
        Err(error) => return Err(late(conn, made_by)?.unwrap_or(error)),
    };
    let call = serde_json::to_value(call).map_err(|e| diesel::result::Error::SerializationError(e.into()))?;
    let Some(row) = lease::begin(conn, made_by, &call, &location, O::LIMITS.lease)? else {
        return Err(late(conn, made_by)?.unwrap_or_else(|| idempotency::Error::InFlight.into()));
    };
    let reply =
        Reply { status: 202, content_type: Some("application/json".to_owned()), location: Some(location), body };
    Ok((Lease::first(row, taken_at), reply))
}

fn late<E: Failure>(conn: &mut PgConnection, made_by: &MadeBy) -> Result<Option<E>, E> {
    let location = lease::location(conn, made_by)?;
    Ok(location.map(|location| idempotency::Error::KeyExpired { location }.into()))
}

/// The answer with the resource as it is now, or with the final reply if that is there.
fn now<O: ExternalSystem>(
    conn: &mut PgConnection,
    system: &O,
    made_by: &MadeBy,
    stored: Answer,
) -> Result<Answer, O::Error> {
    let Some((call, progress)) = progress::open(conn, made_by)? else {
        return Ok(match Resolved::find(conn, made_by)? {
            Some(resolved) => resolved.instead_of(&stored),
            None => stored,
        });
    };
    let body = system.pending(conn, made_by.account_id, &lease::parsed(call)?)?;
    let seconds = if progress.parked {
        LONGEST_RETRY_AFTER
    } else if progress.attempts == 1 {
        // The request's own work goes on, and usually has an outcome within moments.
        1
    } else {
        (progress.next_attempt_at - Utc::now()).num_seconds() + 1
    };
    let retry_after = seconds.clamp(1, LONGEST_RETRY_AFTER).unsigned_abs();
    Ok(Answer { reply: Reply { body, ..stored.reply }, retry_after, ..stored })
}
