//! The foreground: a request begins a settlement in its first transaction, settles it, and answers.
//!
//! A reader follows [`Settler::run`] here, then `settle` and `conclude` in `settle.rs`. `watch.rs` settles what is left.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::learn::Sending;
use super::lease::{self, Lease};
use super::progress;
use super::settle::Unsettled;
use super::{Begun, Outside, Step};
use crate::idempotency::{self, Address, Answer, Database, Failure, Keyed, Nature, Origin, Policy, Reply};

/// The longest that a client is asked to wait before it asks for an outcome again: a person may resume what is parked at
/// any time.
const LONGEST_RETRY_AFTER: i64 = 60;

/// What settling has done since the process started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Outcomes recorded.
    pub settled: AtomicU64,
    /// Attempts that ended without one.
    pub unknown: AtomicU64,
    /// Settlements parked.
    pub parked: AtomicU64,
}

/// Settles. Clones share everything.
#[derive(Clone)]
pub struct Settler<O, D> {
    pub(super) outside: O,
    pub(super) db: D,
    runtime: Handle,
    tasks: TaskTracker,
    pub(super) counts: Arc<Counts>,
    pub(super) calls: Arc<Semaphore>,
    /// Of those calls, what settlements that keep failing may use.
    pub(super) failing: Arc<Semaphore>,
}

impl<O: Outside, D: Database> Settler<O, D> {
    /// Works on the current runtime, which must outlive the server's workers: their tasks end with them.
    #[must_use]
    pub fn new(outside: O, db: D) -> Self {
        const { assert!(O::LIMITS.is_sound(), "a lease must outlast all that its holder may spend") };
        let calls = O::LIMITS.calls_at_once;
        Self {
            outside,
            db,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            counts: Arc::default(),
            calls: Arc::new(Semaphore::new(calls)),
            failing: Arc::new(Semaphore::new(calls / 2)),
        }
    }

    /// What the service supplied.
    #[must_use]
    pub fn outside(&self) -> &O {
        &self.outside
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits until all that was begun has ended: at most a lease's time.
    pub async fn drain(&self) {
        self.tasks.close();
        let _ = tokio::time::timeout(O::LIMITS.lease, self.tasks.wait()).await;
    }

    /// Runs a request that makes a call necessary: the first transaction, the call, the second transaction. Answers with
    /// the final reply, or with 202 when [`Limits::handler`](super::Limits::handler) ends. The work goes on when the client leaves: else a request
    /// that was dropped between its COMMIT and its call would leave the settlement alone until the lease ends.
    ///
    /// # Errors
    /// As [`Policy::run`], and [`idempotency::Error::KeyExpired`] for a key that made a settlement whose record is gone.
    pub async fn run<T, F>(
        &self,
        policy: Policy,
        account_id: Uuid,
        request: Keyed<T>,
        body: F,
    ) -> Result<HttpResponse, O::Error>
    where
        T: Send + Sync + 'static,
        F: Fn(&mut PgConnection, &T) -> Result<Begun<O::Call>, O::Error> + Send + Sync + 'static,
    {
        let this = self.clone();
        let whole = self.spawn(async move { this.begin_and_settle(policy, account_id, request, body).await });
        let answer = whole.await.unwrap_or_else(|_| Err(idempotency::Error::Panicked.into()))?;
        Ok(answer.into_response())
    }

    async fn begin_and_settle<T, F>(
        &self,
        policy: Policy,
        account_id: Uuid,
        request: Keyed<T>,
        body: F,
    ) -> Result<Answer, O::Error>
    where
        T: Send + Sync + 'static,
        F: Fn(&mut PgConnection, &T) -> Result<Begun<O::Call>, O::Error> + Send + Sync + 'static,
    {
        let came_at = Instant::now();
        let address = request.address(account_id, &policy)?;
        let begun: Arc<Mutex<Option<Lease>>> = Arc::default();
        let first_transaction = {
            let (address, request_id, begun) = (address.clone(), request.instance, Arc::clone(&begun));
            move |conn: &mut PgConnection, new: &T| {
                let begun_by_body = body(conn, new);
                let (lease, reply) = begin::<O>(conn, &address, request_id, begun_by_body)?;
                *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
                Ok::<_, O::Error>(reply)
            }
        };
        let answer = policy.answer(&self.db, account_id, request, first_transaction).await?;
        if !answer.reply.is_provisional() {
            return Ok(answer);
        }
        if answer.origin == Origin::Replayed {
            return Ok(self.as_it_is_now(answer, address).await);
        }
        self.outside.reached(Step::Begun);
        let own = begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let this = self.clone();
        let work = {
            let (address, origin) = (address.clone(), answer.origin);
            self.spawn(async move {
                let lease = match (origin, own) {
                    (Origin::Fresh, Some(lease)) => lease,
                    // A lost COMMIT: which of the body's runs was committed, the row knows.
                    _ => this.first_lease(address, came_at).await?,
                };
                this.settle(lease).await
            })
        };
        match tokio::time::timeout(O::LIMITS.handler, work).await {
            Ok(Ok(Ok(settled))) => Ok(Answer { reply: settled.reply, expires_at: settled.expires_at, ..answer }),
            // Unknown so far. The settler goes on, and a retry learns more.
            _ => Ok(self.as_it_is_now(answer, address).await),
        }
    }

    /// A 202 with the resource as it is now, and with a Retry-After that grows as the settlement waits. If the outcome is
    /// there by now, the outcome is the answer.
    async fn as_it_is_now(&self, answer: Answer, address: Address) -> Answer {
        let outside = self.outside.clone();
        let look = self.db.run(address.account_id, move |conn| now::<O>(conn, &outside, &address));
        match look.await {
            Ok(Some(Now::Final { reply, expires_at })) => Answer { reply, expires_at, ..answer },
            Ok(Some(Now::Pending { body, retry_after })) => {
                Answer { reply: Reply { body, ..answer.reply }, retry_after, ..answer }
            }
            // The stored 202 is true, too, if older.
            Ok(None) | Err(_) => answer,
        }
    }

    async fn first_lease(&self, address: Address, came_at: Instant) -> Result<Lease, Unsettled<O::Error>> {
        let found = self.db.run(address.account_id, move |conn| {
            lease::first_lease(conn, &address, came_at)?.ok_or(Unsettled::LostLease)
        });
        found.await
    }

    pub(super) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn_on(O::carried(work), &self.runtime)
    }
}

/// The end of the first transaction: the settlement beside the business rows, and the 202.
///
/// A late retry is looked for only where the body failed or the settlement is there already: a request that begins has no
/// round trip to spare. So a late retry hears that its key is expired, and not what its body found.
fn begin<O: Outside>(
    conn: &mut PgConnection,
    address: &Address,
    request_id: Uuid,
    body: Result<Begun<O::Call>, O::Error>,
) -> Result<(Lease, Reply), O::Error> {
    let Begun { call, location, body } = match body {
        Ok(begun) => begun,
        Err(error) if matches!(error.nature(), Nature::Database(_)) => return Err(error),
        Err(error) => return Err(late(conn, address)?.unwrap_or(error)),
    };
    let taken_at = Instant::now();
    let call = serde_json::to_value(call).map_err(|e| diesel::result::Error::SerializationError(e.into()))?;
    if !lease::begin(conn, address, request_id, &call, &location, O::LIMITS.lease)? {
        return Err(late(conn, address)?.unwrap_or_else(|| idempotency::Error::InFlight.into()));
    }
    let reply = Reply {
        status: 202,
        content_type: Some("application/json".to_owned()),
        location: Some(location.clone()),
        body,
    };
    let lease = Lease {
        address: address.clone(),
        reference: address.reference(),
        request_id,
        location,
        call,
        attempt: 1,
        sending: Sending::default(),
        taken_at,
        earlier_unanswered_at: None,
    };
    Ok((lease, reply))
}

fn late<E: Failure>(conn: &mut PgConnection, address: &Address) -> Result<Option<E>, E> {
    let location = lease::location(conn, address)?;
    Ok(location.map(|location| idempotency::Error::KeyExpired { location }.into()))
}

enum Now {
    Final { reply: Reply, expires_at: Option<DateTime<Utc>> },
    Pending { body: Bytes, retry_after: u64 },
}

fn now<O: Outside>(conn: &mut PgConnection, outside: &O, address: &Address) -> Result<Option<Now>, O::Error> {
    let Some((call, progress)) = progress::open(conn, address)? else {
        let record = idempotency::find(conn, address)?.filter(|record| !record.reply.is_provisional());
        return Ok(record.map(|record| Now::Final { reply: record.reply, expires_at: record.expires_at }));
    };
    let call = serde_json::from_value(call).map_err(|e| diesel::result::Error::DeserializationError(e.into()))?;
    let body = outside.pending(conn, address.account_id, &call)?;
    let seconds = if progress.parked {
        LONGEST_RETRY_AFTER
    } else if progress.attempts == 1 {
        // The request's own work: most of it ends within moments.
        1
    } else {
        (progress.next_attempt_at - Utc::now()).num_seconds() + 1
    };
    Ok(Some(Now::Pending { body, retry_after: seconds.clamp(1, LONGEST_RETRY_AFTER).unsigned_abs() }))
}
