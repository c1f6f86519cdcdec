//! A server without the demo: it has no API key that everybody knows, and no page may call it.

use std::io::Read as _;
use std::process::Stdio;

use crate::app::{ACME, App, GLOBEX, send};
use crate::binary::{Replica, command, printed};
use crate::gateways::away;
use crate::paying::Sandbox;
use crate::support::{cluster, count, eventually, execute, fresh_database};

/// A migrated database without accounts.
fn empty_database(name: &str) -> String {
    execute(&cluster().url("postgres"), &format!("CREATE DATABASE {name} TEMPLATE template0"));
    let url = cluster().url(name);
    printed(&url, &["migrate"]);
    url
}

#[tokio::test]
async fn a_server_with_a_database_has_no_demo() {
    let database = empty_database("production");

    let replica = Replica::start_without_demo(&database, &[]);

    for key in [ACME, GLOBEX] {
        send(replica.request_as(key, "GET", "/v1/products")).await.expect_problem(401, "unauthorized");
    }
    assert_eq!(printed(&database, &["account", "list"]), "");
    let made = printed(&database, &["account", "create", "initech"]);
    let key = made.lines().find_map(|line| line.strip_prefix("API key ")).unwrap();
    let request = replica.request_as(key, "GET", "/v1/products").header("Origin", "http://localhost:9999");
    let answer = send(request).await.expect(200);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{answer:?}");
}

#[tokio::test]
async fn without_the_demo_live_demo_keys_end_the_start() {
    let database = fresh_database();
    let start = || {
        let mut command = command(&database, "http://127.0.0.1:1");
        let mut program =
            command.env_remove("DEMO").arg("serve").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // If the program starts after all, its banner arrives here, and the test ends the program.
        if program.stdout.as_mut().unwrap().read(&mut [0]).unwrap() > 0 {
            program.kill().unwrap();
        }
        program.wait_with_output().unwrap()
    };
    for left in [&[ACME, GLOBEX][..], &[GLOBEX]] {
        let output = start();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
        for key in left {
            assert!(text.contains(&format!("`payments key revoke {key}`")), "{text}");
        }
        printed(&database, &["key", "revoke", left[0]]);
    }

    let replica = Replica::start_without_demo(&database, &[]);

    send(replica.request_as(GLOBEX, "GET", "/v1/products")).await.expect_problem(401, "unauthorized");
}

/// Every replica has a sweeper, which goes on after a failure.
#[tokio::test]
async fn the_server_sweeps_by_itself_even_after_a_failure() {
    let database = fresh_database();
    let replica = Replica::start_logging(&database, "http://127.0.0.1:1", &[("SWEEP_INTERVAL", "1")]);
    let expired = async |key: &str| {
        replica.order(key, "pro-monthly", 1).await.expect(201);
        execute(&database, &format!("UPDATE idempotency_keys SET expires_at = now() WHERE key = '{key}'"));
        eventually("the expired record is swept", || count(&database, "idempotency_keys") == 0).await;
    };

    expired("first").await;
    execute(&database, "ALTER TABLE idempotency_keys RENAME TO away");
    replica.logged("the sweep failed").await;
    execute(&database, "ALTER TABLE away RENAME TO idempotency_keys");
    expired("second").await;
}

/// A proxy from the environment would see payments and the gateway's key.
#[tokio::test]
async fn payments_go_through_no_proxy_from_the_environment() {
    let sandbox = Sandbox::start();
    let app = App::start_without_resolver(fresh_database(), away());
    let order = app.pending_order().await;
    app.pay("k", &order, "pm_card_visa").await.expect(202);
    app.let_leases_end();

    let mut resolve = command(&app.database, &sandbox.url);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        resolve.env(name, "http://127.0.0.1:1");
    }
    resolve.env("NO_PROXY", "").env("no_proxy", "").arg("resolve");
    let output = tokio::task::spawn_blocking(move || resolve.output().unwrap()).await.unwrap();

    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("1 charges and refunds taken, 1 resolved"), "{said}");
    assert_eq!(sandbox.captures(), 1);
}
