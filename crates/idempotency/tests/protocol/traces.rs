//! Traces: the steps that the requests of one key reported. `.ci/model` checks each trace against the model of the
//! protocol, so that the model can't drift from the code.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::connection::Connection;
use diesel::pg::PgConnection;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::lifted::{Db, Response};
use crate::locks::address;
use crate::support::{Proxy, connect, execute, fresh_database};
use crate::toy::{ACCOUNT, MAKE, MAKE_OR_REMEMBER, NewToy, Runs, ToyError, Workshop, keyed, make};
use idempotency::{Address, Database, Error, Observer, Policy, Reply, SingleFlight, Step, finalize, hours};

/// How often each scene is played. The scheduler orders the steps differently each time.
const ROUNDS: usize = 25;

/// One trace: the first line names the model and its world, each other line a request and its step.
struct Trace {
    head: String,
    told: Mutex<(HashMap<Uuid, usize>, String)>,
}

impl Trace {
    fn tell(&self, request: usize, what: &str) {
        writeln!(self.told.lock().unwrap().1, "{request} {what}").unwrap();
    }

    /// Writes the file that `.ci/model` reads.
    fn end(&self, name: &str) -> String {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("record-traces");
        std::fs::create_dir_all(&directory).unwrap();
        let text = format!("{}\n{}", self.head, self.told.lock().unwrap().1);
        std::fs::write(directory.join(format!("{name}.txt")), &text).unwrap();
        text
    }
}

impl Observer for Trace {
    fn reached(&self, request_id: Uuid, _: &Address, step: Step) {
        let mut told = self.told.lock().unwrap();
        let request = told.0[&request_id];
        writeln!(told.1, "{request} {step:?}").unwrap();
    }
}

/// A process whose requests report their steps.
#[derive(Clone)]
struct Process {
    db: Db,
    trace: Arc<Trace>,
}

impl Database for Process {
    fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.db.run(account_id, work)
    }

    fn single_flight(&self) -> &SingleFlight {
        self.db.single_flight()
    }

    fn observer(&self) -> Option<Arc<dyn Observer>> {
        Some(Arc::clone(&self.trace) as Arc<dyn Observer>)
    }
}

type Body = Arc<dyn Fn(&mut PgConnection, &NewToy) -> Result<Reply, ToyError> + Send + Sync>;

/// Several requests of one key, in two processes.
struct Scene {
    name: &'static str,
    /// The process and the toy of each request.
    requests: &'static [(usize, &'static str)],
    /// The rest of the trace's first line.
    world: &'static str,
    policy: Policy,
}

impl Scene {
    /// Plays the scene once on a database. `meanwhile` runs beside the requests, and gets the trace.
    async fn play(&self, round: usize, urls: [&str; 2], body: Body, meanwhile: impl Future<Output = ()>) -> String {
        let requests: Vec<_> = self.requests.iter().map(|(process, toy)| format!("{process}{}", &toy[..1])).collect();
        let head = format!("record requests={} {}", requests.join(","), self.world);
        let trace = Arc::new(Trace { head, told: Mutex::default() });
        let processes = urls.map(|url| Process { db: Db::open(url, 4), trace: Arc::clone(&trace) });
        let sent: Vec<_> = self
            .requests
            .iter()
            .enumerate()
            .map(|(number, (process, toy))| {
                let request = keyed("/toys", "key", &serde_json::json!({"name": toy}).to_string()).unwrap();
                trace.told.lock().unwrap().0.insert(request.instance, number);
                let (process, trace, body, policy) =
                    (processes[*process].clone(), Arc::clone(&trace), Arc::clone(&body), self.policy);
                tokio::spawn(async move {
                    // The requests come within a few milliseconds, so that they meet at different steps.
                    tokio::time::sleep(Duration::from_micros((number * round * 131 % 4000) as u64)).await;
                    let answer = policy.run(&process, ACCOUNT, request, move |conn, toy| body(conn, toy)).await;
                    trace.tell(number, &format!("Answered {}", heard(answer.map(Response::from))));
                })
            })
            .collect();
        meanwhile.await;
        for request in sent {
            request.await.unwrap();
        }
        trace.end(&format!("{}-{round}", self.name))
    }
}

fn heard(answer: Result<Response, ToyError>) -> &'static str {
    match answer {
        Ok(response) if response.status == 202 => "Provisional",
        Ok(response) if response.is_replay() => "Replay",
        Ok(_) => "Fresh",
        Err(ToyError::Impossible) => "Failed",
        Err(ToyError::Idempotency(Error::KeyReused)) => "Reused",
        Err(ToyError::Idempotency(Error::InFlight)) => "InFlight",
        Err(_) => "Broken",
    }
}

fn body(body: impl Fn(&mut PgConnection, &NewToy) -> Result<Reply, ToyError> + Send + Sync + 'static) -> Body {
    Arc::new(body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_requests() {
    let scene = Scene {
        name: "concurrent",
        requests: &[(0, "a-ball"), (1, "a-ball"), (0, "a-ball"), (1, "b-ball")],
        world: "body=create",
        policy: MAKE,
    };
    for round in 0..ROUNDS {
        let url = fresh_database();
        let trace = scene.play(round, [&url, &url], body(make), async {}).await;
        assert_eq!(Workshop::open_on(url, 1).toys(), 1, "{trace}");
        assert_eq!(trace.matches("Answered Fresh").count(), 1, "{trace}");
    }
}

/// The first body fails, later ones may succeed.
fn fails_first() -> Body {
    let runs = Runs::default();
    body(move |conn, toy| if runs.is_first() { Err(ToyError::Impossible) } else { make(conn, toy) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bodies_that_fail() {
    for (name, policy, world) in
        [("fails", MAKE, "body=may-fail"), ("fails-and-is-stored", MAKE_OR_REMEMBER, "body=may-fail failures=cached")]
    {
        let requests = &[(0, "a-ball"), (1, "a-ball"), (0, "a-ball"), (1, "b-ball")];
        for round in 0..ROUNDS {
            let url = fresh_database();
            let scene = Scene { name, requests, world, policy };
            let trace = scene.play(round, [&url, &url], fails_first(), async {}).await;
            let made = i64::from(name == "fails");
            assert!(Workshop::open_on(url, 1).toys() <= made, "{trace}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_to_commit_that_are_lost() {
    let scene = Scene {
        name: "lost-commit",
        requests: &[(0, "a-ball"), (1, "a-ball"), (0, "a-ball")],
        world: "body=create losses=2",
        policy: MAKE,
    };
    let proxy = Proxy::start();
    for round in 0..ROUNDS {
        let url = fresh_database();
        proxy.lose_answer_of_next_commit();
        let trace = scene.play(round, [&proxy.url(&url), &url], body(make), async {}).await;
        assert_eq!(Workshop::open_on(url, 1).toys(), 1, "{trace}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_that_the_database_aborts() {
    let scene = Scene {
        name: "ended",
        requests: &[(0, "a-ball"), (1, "a-ball"), (1, "a-ball")],
        world: "body=create losses=2",
        policy: MAKE,
    };
    for round in 0..ROUNDS {
        let url = fresh_database();
        let slow = body(|conn: &mut PgConnection, toy: &NewToy| {
            let reply = make(conn, toy)?;
            // The transaction is open and idle, so that the database may end it here.
            Handle::current().block_on(tokio::time::sleep(Duration::from_millis(4)));
            Ok(reply)
        });
        let end = async {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(2)).await;
                execute(
                    &url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                     AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%' LIMIT 1",
                );
            }
        };
        let trace = scene.play(round, [&url, &url], slow, end).await;
        assert_eq!(Workshop::open_on(url, 1).toys(), 1, "{trace}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_202_that_gets_its_final_reply() {
    let scene = Scene {
        name: "provisional",
        requests: &[(0, "a-ball"), (1, "a-ball"), (0, "b-ball")],
        world: "body=create reply=provisional",
        policy: MAKE,
    };
    for round in 0..ROUNDS {
        let url = fresh_database();
        let begins = body(|conn: &mut PgConnection, toy: &NewToy| {
            make(conn, toy)?;
            Ok(Reply::json(202, &"processing")?)
        });
        let resolve = async {
            let reply = Reply::created("/toys/7".into(), &"finalized").unwrap();
            let mut conn = connect(&url);
            while conn.transaction(|conn| finalize(conn, &address("key"), &reply, hours(2))).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let trace = scene.play(round, [&url, &url], begins, resolve).await;
        assert_eq!(Workshop::open_on(url, 1).toys(), 1, "{trace}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_expired_record() {
    let scene = Scene {
        name: "expired",
        requests: &[(0, "a-ball"), (1, "a-ball"), (1, "b-ball")],
        world: "body=create record=expired",
        policy: MAKE,
    };
    for round in 0..ROUNDS {
        let url = fresh_database();
        let workshop = Workshop::open_on(url.clone(), 1);
        workshop.make("key").await;
        workshop.expire("key");
        execute(&url, "DELETE FROM toys");
        let trace = scene.play(round, [&url, &url], body(make), async {}).await;
        assert_eq!(workshop.toys(), 1, "{trace}");
    }
}
