//! The proxy: each new key gets the current plan, and each sending of the key one step of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};

use crate::answer::{After, deliver, hang};
use crate::http::{self, Answer, Request, header};
use crate::table::{Forward, Sending, Stray};

/// What the proxy saw of one key.
#[derive(Debug)]
pub struct Decision {
    plan: Arc<[Sending]>,
    request: Vec<u8>,
    sendings: AtomicUsize,
    first: OnceCell<Answer>,
    /// The method, path or body of a sending differed from the first one's.
    changed: AtomicBool,
    /// The client read an endless answer to the end.
    greedy: AtomicBool,
}

impl Decision {
    /// What is wrong with the sendings themselves, if anything is.
    pub fn wrong(&self) -> Option<String> {
        let sendings = self.sendings.load(Ordering::Relaxed);
        if self.changed.load(Ordering::Relaxed) {
            return Some("two sendings of one key had different methods, paths or bodies".to_owned());
        }
        if self.greedy.load(Ordering::Relaxed) {
            return Some("the client has no limit on the size of an answer".to_owned());
        }
        (sendings < self.plan.len())
            .then(|| format!("sent {sendings} times, but the case has {} steps", self.plan.len()))
    }

    /// How often the client sent it.
    pub fn sendings(&self) -> usize {
        self.sendings.load(Ordering::Relaxed)
    }
}

/// The proxy, shared by its connections.
#[derive(Debug)]
pub struct Proxy {
    api: SocketAddr,
    plan: Mutex<Arc<[Sending]>>,
    decisions: Mutex<HashMap<String, Arc<Decision>>>,
    held: Mutex<Vec<JoinHandle<()>>>,
    /// Counts the releases of held requests.
    released: watch::Sender<usize>,
    /// Counts the answers that hang.
    hanging: watch::Sender<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Starts to listen. Returns the proxy and its address.
    pub async fn start(api: SocketAddr, listen: SocketAddr) -> Result<(Arc<Self>, SocketAddr)> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
        let address = listener.local_addr()?;
        let proxy = Arc::new(Self {
            api,
            plan: Mutex::default(),
            decisions: Mutex::default(),
            held: Mutex::default(),
            released: watch::Sender::new(0),
            hanging: watch::Sender::new(0),
        });
        let accepting = Arc::clone(&proxy);
        tokio::spawn(async move {
            loop {
                // Out of file descriptors: an open connection ends soon.
                let Ok((socket, _)) = listener.accept().await else {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let proxy = Arc::clone(&accepting);
                tokio::spawn(async move { proxy.serve(socket).await });
            }
        });
        Ok((proxy, address))
    }

    /// Sets the plan of the keys that are new from now on.
    pub fn plan(&self, sendings: &[Sending]) {
        *lock(&self.plan) = sendings.into();
    }

    /// What the proxy saw of a key.
    pub fn decision(&self, key: &str) -> Option<Arc<Decision>> {
        lock(&self.decisions).get(key).cloned()
    }

    /// Sends the held requests to the API, and waits until it has answered them.
    pub async fn release(&self) {
        self.released.send_modify(|count| *count += 1);
        let held = std::mem::take(&mut *lock(&self.held));
        for request in held {
            // A request that the API refuses has no effect, which the count of effects shows.
            let _ = request.await;
        }
    }

    /// Releases held requests again and again, for a proxy that nobody directs. Never returns.
    pub async fn release_every(&self, pause: Duration) -> ! {
        loop {
            sleep(pause).await;
            self.release().await;
        }
    }

    /// A counter that moves with every answer that hangs.
    pub fn hanging(&self) -> watch::Receiver<usize> {
        self.hanging.subscribe()
    }

    async fn serve(self: Arc<Self>, mut socket: TcpStream) {
        let (mut buffer, mut stray) = (Vec::new(), None);
        // An error is a client that left, or no HTTP: the connection ends.
        while let Ok(Some(request)) = http::read_request(&mut socket, &mut buffer).await {
            let last = header(&request.headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            match self.exchange(&mut socket, request, &mut stray).await {
                Ok(true) if !last => {}
                // The client knows how this ended, even if closing fails.
                _ => return drop(socket.shutdown().await),
            }
        }
    }

    /// Handles one request. True when the connection can be used again.
    async fn exchange(&self, socket: &mut TcpStream, request: Request, stray: &mut Option<Answer>) -> Result<bool> {
        let (decision, index) = self.count(&request);
        let sending = decision.plan.get(index).cloned().unwrap_or_default();
        let own = self.forward(request, sending.forward).await?;
        if let Some(stray) = stray.take() {
            deliver(socket, stray, &Sending::default(), &decision.greedy).await?;
        }
        if let (0, Some(answer)) = (index, &own) {
            let _ = decision.first.set(answer.clone());
        }
        let answer = match (&sending.answer, own) {
            (Some(made), _) => made.into(),
            _ if sending.first_answer => decision.first.get().context("the first sending has no answer")?.clone(),
            (None, Some(own)) => own,
            // Nothing was sent on and no answer is made up: the client gets none.
            (None, None) => return Ok(self.hang(socket).await),
        };
        sleep(Duration::from_millis(sending.wait_ms)).await;
        *stray = (sending.stray == Some(Stray::Next)).then(|| answer.clone());
        match deliver(socket, answer, &sending, &decision.greedy).await? {
            After::Reuse => Ok(true),
            After::Close => Ok(false),
            After::Hang => Ok(self.hang(socket).await),
        }
    }

    /// Sends nothing more until the client leaves. Returns false: the connection can't be used again.
    async fn hang(&self, socket: &mut TcpStream) -> bool {
        self.hanging.send_modify(|count| *count += 1);
        hang(socket).await;
        false
    }

    /// The decision of a request, and how many sendings it had before.
    fn count(&self, request: &Request) -> (Arc<Decision>, usize) {
        let told = [request.method.as_bytes(), request.path.as_bytes(), &request.body].join(&b' ');
        let fresh = |plan| {
            Arc::new(Decision {
                plan,
                request: told.clone(),
                sendings: AtomicUsize::new(0),
                first: OnceCell::new(),
                changed: AtomicBool::new(false),
                greedy: AtomicBool::new(false),
            })
        };
        let Some(key) = header(&request.headers, "idempotency-key") else { return (fresh(Arc::default()), 0) };
        let key = key.trim_matches('"').to_owned();
        let decision =
            Arc::clone(lock(&self.decisions).entry(key).or_insert_with(|| fresh(Arc::clone(&lock(&self.plan)))));
        if decision.request != told {
            decision.changed.store(true, Ordering::Relaxed);
        }
        let index = decision.sendings.fetch_add(1, Ordering::Relaxed);
        (decision, index)
    }

    /// Sends the request on as the step says. `None` if the API has not answered and the client is not to wait for it.
    async fn forward(&self, request: Request, forward: Forward) -> Result<Option<Answer>> {
        let api = self.api;
        // In a task, so that a client that leaves doesn't cancel the request.
        let send = |request: Request| tokio::spawn(async move { http::send(api, &request).await });
        match forward {
            Forward::Never => Ok(None),
            Forward::Now => Ok(Some(send(request).await??)),
            Forward::Twice => {
                let both = (send(request.clone()), send(request));
                let (first, second) = (both.0.await?, both.1.await?);
                first?;
                Ok(Some(second?))
            }
            Forward::Held => {
                self.hold(request);
                Ok(None)
            }
            Forward::NowAndHeld => {
                self.hold(request.clone());
                Ok(Some(send(request).await??))
            }
        }
    }

    fn hold(&self, request: Request) {
        let (api, mut released) = (self.api, self.released.subscribe());
        let task = tokio::spawn(async move {
            // An error means that the proxy ends: the request is lost, as in a network.
            if released.changed().await.is_ok() {
                let _ = http::send(api, &request).await;
            }
        });
        lock(&self.held).push(task);
    }
}
