//! The limits of the stage: who may begin a run, and what a run leaves behind.

use std::fs;
use std::time::{Duration, Instant};

use idempotent_payments::process::failpoint::POINTS;
use serde_json::json;

use crate::app::{ACME, send};
use crate::binary::{Replica, printed};
use crate::stage::{Scene, end};
use crate::support::{count, eventually, fresh_database};

impl Scene {
    /// The processes of the runs.
    fn replicas(&self) -> Vec<u32> {
        children(self.server.id())
    }
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next() != Some("Z") && fields.next() == Some(parent.to_string().as_str())
    };
    processes.filter(is_child).collect()
}

#[tokio::test]
async fn a_run_ends_when_its_client_leaves() {
    let scene = Scene::open();
    assert!(scene.replicas().is_empty());
    // The lease of the dead replica lasts for 15 s, and the run with it.
    let mut playing = scene.begin(json!({"kill": {"at": "after-call"}, "replicas": 2})).await;
    playing.until("died").await;
    assert!(!scene.replicas().is_empty());

    let left = Instant::now();
    drop(playing);

    eventually("the replicas are gone", || scene.replicas().is_empty()).await;
    assert!(left.elapsed() < Duration::from_secs(8), "they went on for {:?}", left.elapsed());
}

#[tokio::test]
async fn no_replica_outlives_its_server() {
    let mut scene = Scene::open();
    let mut playing = scene.begin(json!({"replicas": 2, "gateway": "slow"})).await;
    playing.until("call").await;
    let replicas = scene.replicas();
    assert_eq!(replicas.len(), 2);

    scene.server.signal(rustix::process::Signal::KILL);
    scene.server.end().await;

    let lives = |process: &u32| {
        fs::read_to_string(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.contains("stage-replica"))
    };
    eventually("the replicas have ended", || !replicas.iter().any(lives)).await;
}

#[tokio::test]
async fn three_runs_play_at_once_and_a_fourth_is_told_when_to_come_back() {
    let scene = Scene::open();
    let mut playing = Vec::new();
    for _ in 0..3 {
        playing.push(scene.begin(json!({"gateway": "slow"})).await);
    }
    let refused = send(scene.server.anonymous("POST", "/demo/runs").json(&json!({}))).await;
    assert!(refused.expect_problem(503, "overloaded").header("Retry-After").is_some());
    for mut run in playing {
        assert_eq!(run.until("end").await["charged"], 1);
    }
    assert_eq!(end(&scene.play(json!({})).await)["charged"], 1);
    assert_eq!(scene.sandbox.captures(), 4);
}

#[tokio::test]
async fn wrong_settings_are_refused() {
    let scene = Scene::open();
    for (settings, what) in [
        (json!({"clicks": 0}), "/clicks"),
        (json!({"clicks": 11}), "/clicks"),
        (json!({"spacing_ms": 2001}), "/spacing_ms"),
        (json!({"replicas": 3}), "/replicas"),
        (json!({"guess": 3}), "/guess"),
        (json!({"kill": {"at": "nowhere"}}), "/kill/at"),
        (json!({"kill": {"at": "after-call", "replica": "b"}}), "/kill/replica"),
        (json!({"clickz": 1}), "clickz"),
        (json!({"gateway": "closed"}), "closed"),
    ] {
        let answer = send(scene.server.anonymous("POST", "/demo/runs").json(&settings)).await;
        let problem = answer.expect_problem(422, "invalid-request");
        assert!(problem.body.contains(what), "{settings}: {}", problem.body);
    }
    assert!(scene.replicas().is_empty());
    assert_eq!(count(&scene.database, "orders"), 0);
}

#[tokio::test]
async fn only_the_demo_has_a_stage() {
    let scene = Scene::open();
    let about = send(scene.server.anonymous("GET", "/demo/stage")).await.expect(200).json();
    assert_eq!(about["points"], json!(POINTS));
    for (step, file) in [("naive", "src/demo/naive.rs"), ("call", "parts/stripe-gateway/src/stripe.rs")] {
        let place = about["code"][step].as_str().unwrap();
        assert_eq!(place.split(':').next(), Some(file), "{about}");
        send(scene.server.anonymous("GET", &format!("/source/{file}"))).await.expect(200);
    }

    let database = fresh_database();
    for (_, key) in idempotent_payments::demo::keys() {
        printed(&database, &["key", "revoke", key]);
    }
    let server = Replica::start_without_demo(&database, &[]);
    for (method, path) in [("GET", "/demo/stage"), ("POST", "/demo/runs"), ("POST", "/v1/naive-charges")] {
        send(server.request_as(ACME, method, path)).await.expect_problem(404, "not-found");
    }
    assert_eq!(count(&database, "pg_namespace WHERE nspname = 'demo'"), 0);
    // The demo's own server has no naive endpoint either.
    send(scene.server.request("POST", "/v1/naive-charges")).await.expect_problem(404, "not-found");
}
