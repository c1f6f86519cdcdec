//! The stage of the demo: real runs against the real binary, whose replicas are real processes.

use std::collections::HashMap;

use idempotent_payments::process::failpoint::POINTS;
use serde_json::{Value, json};

use crate::binary::Replica;
use crate::paying::Sandbox;
use crate::support::{count, fresh_database};

/// The demo's server, and a gateway with another database.
pub struct Scene {
    pub server: Replica,
    pub sandbox: Sandbox,
    pub database: String,
}

/// The events of a run that is playing.
pub struct Playing {
    response: reqwest::Response,
    buffer: String,
}

impl Scene {
    pub fn open() -> Self {
        let (database, sandbox) = (fresh_database(), Sandbox::start());
        Self { server: Replica::start(&database, &sandbox.url), sandbox, database }
    }

    pub async fn begin(&self, settings: Value) -> Playing {
        let response = self.server.anonymous("POST", "/demo/runs").json(&settings).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["Content-Type"], "text/event-stream");
        Playing { response, buffer: String::new() }
    }

    /// Plays a run to its end. When a replica has died, its leases end at once, as if 15 s had passed.
    pub async fn play(&self, settings: Value) -> Vec<Value> {
        let mut playing = self.begin(settings).await;
        let mut events = Vec::new();
        while let Some(event) = playing.next().await {
            if event["what"] == "died" {
                self.server.let_leases_end();
            }
            events.push(event);
        }
        assert_eq!(events.last().unwrap()["what"], "end", "{events:#?}");
        events
    }

    fn succeeded(&self) -> i64 {
        count(&self.database, "charges WHERE status = 'succeeded'")
    }
}

impl Playing {
    async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some((line, rest)) = self.buffer.split_once("\n\n") {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.buffer = rest;
                if let Some(event) = line.strip_prefix("data: ") {
                    return Some(serde_json::from_str(event).unwrap());
                }
                assert_eq!(line, ":");
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.buffer.push_str(str::from_utf8(&chunk).unwrap());
        }
    }

    pub async fn until(&mut self, what: &str) -> Value {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the run ended without {what}"));
            if event["what"] == what {
                return event;
            }
        }
    }
}

fn of<'a>(events: &'a [Value], what: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["what"] == what).collect()
}

pub fn end(events: &[Value]) -> &Value {
    let end = events.last().unwrap();
    assert_eq!((&end["complete"], &end["purchases"], &end["lost"]), (&json!(true), &json!(1), &json!(0)), "{end}");
    end
}

#[tokio::test]
async fn a_kill_at_any_point_ends_with_one_capture_and_one_charge() {
    let scene = Scene::open();
    for (before, point) in (0..).zip(POINTS) {
        println!("at {point}");
        let events = scene.play(json!({"kill": {"at": point, "replica": "a"}})).await;

        let end = end(&events);
        assert_eq!(
            (&end["charged"], &end["paid_once"], &end["paid_twice"]),
            (&json!(1), &json!(1), &json!(0)),
            "{end}"
        );
        assert_eq!(end["unexplained"], 0, "{end}");
        assert_eq!((scene.sandbox.captures(), scene.succeeded()), (before + 1, before + 1));
        let died = of(&events, "died");
        assert_eq!((died.len(), &died[0]["at"]), (1, &json!(point)));
        assert_eq!(of(&events, "up").len(), 2, "the replica is started again");
        assert_eq!(of(&events, "gateway").iter().filter(|event| event["kind"] == "capture").count(), 1, "one coin");
        let answers = of(&events, "answered");
        let last = answers.last().unwrap();
        assert_eq!((&last["status"], &last["retry"]), (&json!(201), &Value::Null), "{last}");
        // Its own replica resolves it, and reports that. The demo's server leaves it alone.
        let resolver = ["after-commit-1", "before-call", "after-call", "before-commit-2"].contains(&point);
        assert_eq!(of(&events, "leased").len(), usize::from(resolver), "{point}");
    }
}

#[tokio::test]
async fn a_record_apart_charges_twice() {
    let scene = Scene::open();

    let events = scene.play(json!({"record": "apart", "kill": {"at": "after-call"}})).await;
    let end = end(&events);
    assert_eq!((&end["charged"], &end["paid_twice"], &end["unexplained"]), (&json!(2), &json!(1), &json!(1)), "{end}");
    assert_eq!((scene.sandbox.captures(), count(&scene.database, "demo.charges")), (2, 1));

    // Between the two transactions: two charges, and each has its money.
    let events = scene.play(json!({"record": "apart", "kill": {"at": "before-commit-2"}})).await;
    assert_eq!((&events.last().unwrap()["charged"], &events.last().unwrap()["unexplained"]), (&json!(2), &json!(0)));
    assert_eq!((scene.sandbox.captures(), count(&scene.database, "demo.charges")), (4, 3));

    let events = scene.play(json!({"record": "apart"})).await;
    assert_eq!(events.last().unwrap()["charged"], 1, "without a crash even this works");
}

/// The written rows of the transaction that a crash left open: their ids, and the states that they would have.
fn open_rows(events: &[Value]) -> HashMap<String, String> {
    let died = events.iter().position(|event| event["what"] == "died").unwrap();
    let open = of(&events[..died], "begins").last().unwrap()["tx"].clone();
    let rows = events[..died].iter().filter(|event| event["tx"] == open && event["row"].is_object());
    rows.map(|event| {
        (event["row"]["id"].as_str().unwrap().to_owned(), event["row"]["after"].as_str().unwrap().to_owned())
    })
    .collect()
}

#[tokio::test]
async fn rows_of_an_open_transaction_are_not_true_yet() {
    let scene = Scene::open();
    for (point, before) in [("before-commit-1", None), ("before-commit-2", Some(("processing", 202)))] {
        let mut playing = scene.begin(json!({"kill": {"at": point}})).await;
        let order = playing.until("run").await["purchases"][0]["order_id"].as_str().unwrap().to_owned();
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &Value| event["what"] != "died") {
            events.push(playing.next().await.unwrap());
        }
        // The state that a client sees while nobody works on the purchase.
        let charges = scene.server.get(&format!("/v1/charges?order_id={order}")).await.expect(200).json();
        assert_eq!(scene.server.member(&format!("/v1/orders/{order}"), "status").await, "pending");
        // No replica lives and no lease ends before the next one is up. Until then the last look is the truth.
        while of(&events, "up").len() < 2 {
            events.push(playing.next().await.unwrap());
        }
        let truth = *of(&events, "truth").last().unwrap();
        let rows = open_rows(&events);
        assert!(
            rows.iter().any(|(id, after)| id.starts_with("idempotency_keys:") && after.starts_with("20")),
            "{rows:?}"
        );
        assert!(rows.keys().any(|id| id.starts_with("charges:…")), "{rows:?}");
        let (status, record) = match before {
            None => (Value::Null, Value::Null),
            Some((status, record)) => {
                assert_eq!(
                    rows.values().filter(|after| *after == "paid" || *after == "granted").count(),
                    2,
                    "{rows:?}"
                );
                (json!(status), json!(record))
            }
        };
        assert_eq!((&truth["charges"][0]["status"], &charges["data"][0]["status"]), (&status, &status), "{truth}");
        assert_eq!(
            (&truth["records"][0]["status"], &truth["orders"][0]["status"]),
            (&record, &json!("pending")),
            "{truth}"
        );
        assert_eq!(truth["entitlements"], json!([]));
    }
}

#[tokio::test]
async fn a_lost_message_costs_nobody_anything() {
    let scene = Scene::open();
    for (before, lost) in (0..).zip(["request", "reply", "call", "answer"]) {
        println!("without the {lost}");
        let events = scene.play(json!({"drop": lost})).await;
        assert_eq!(end(&events)["charged"], 1);
        let dropped = of(&events, "dropped");
        assert_eq!((dropped.len(), &dropped[0]["of"]), (1, &json!(lost)));
        assert_eq!((scene.sandbox.captures(), scene.succeeded()), (before + 1, before + 1));
        let answered = *of(&events, "answered").last().unwrap();
        // Except where the request never arrived, the answer is that of the first attempt, replayed.
        assert_eq!(
            (&answered["status"], &answered["replayed"]),
            (&json!(201), &json!(lost != "request")),
            "{answered}"
        );
    }
}

#[tokio::test]
async fn ten_clicks_on_two_replicas_get_the_same_bytes() {
    let scene = Scene::open();

    let events = scene.play(json!({"clicks": 10, "spacing_ms": 0, "replicas": 2})).await;

    assert_eq!(end(&events)["charged"], 1);
    let answers: Vec<_> = of(&events, "answered").into_iter().filter(|answer| answer["retry"].is_null()).collect();
    assert_eq!(answers.len(), 10);
    assert!(answers.iter().all(|answer| answer["digest"] == answers[0]["digest"] && answer["status"] == 201));
    assert_eq!(answers.iter().filter(|answer| answer["replayed"] == false).count(), 1);
    for word in ["waits", "claimed", "met_record"] {
        assert!(!of(&events, word).is_empty(), "nobody {word}");
    }
    let times: Vec<_> = events.iter().map(|event| event["t"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");

    // With a key for each click nothing of this helps.
    let events = scene.play(json!({"clicks": 3, "spacing_ms": 0, "key": "click"})).await;
    assert_eq!((&end(&events)["charged"], &end(&events)["paid_twice"]), (&json!(3), &json!(1)));
    assert_eq!(scene.sandbox.captures(), 4);
}

#[tokio::test]
async fn the_replica_that_is_to_die_gets_the_work() {
    let scene = Scene::open();
    for (before, clicks, replica) in [(0, 1, "b"), (1, 10, "b"), (2, 10, "a")] {
        println!("{clicks} clicks, a kill of {replica}");
        let kill = json!({"at": "after-call", "replica": replica});
        let events = scene.play(json!({"clicks": clicks, "spacing_ms": 0, "replicas": 2, "kill": kill})).await;

        let died = of(&events, "died");
        assert_eq!((died.len(), &died[0]["replica"], &died[0]["at"]), (1, &json!(replica), &json!("after-call")));
        assert_eq!(end(&events)["charged"], 1);
        assert_eq!((scene.sandbox.captures(), scene.succeeded()), (before + 1, before + 1));
        let sent = of(&events, "sent");
        let first_tries = sent.iter().filter(|sent| sent["try"] == 1).count();
        assert_eq!(first_tries, clicks, "{sent:?}");
    }
}
