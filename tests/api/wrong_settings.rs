//! If a setting has a wrong value, the program ends with a single line, before it changes anything.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::binary::{bare, printed};
use crate::support::{cluster, execute, fresh_database};

/// Starts the program with a wrong value, and returns its one line. Asserts that the start created nothing.
fn refused(name: &str, value: &str, more: &[(&str, &str)]) -> String {
    let untouched = tempfile::tempdir().unwrap();
    let cluster = untouched.path().join("cluster");
    let mut command = bare();
    command.env("DEV_POSTGRES_DIR", &cluster).env("BIND", "127.0.0.1:0").env("SANDBOX_BIND", "127.0.0.1:0");
    command.envs(more.iter().copied()).env(name, value).arg("serve");
    let Output { status, stdout, stderr } = ended(&mut command);

    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{name}={value}: {text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with(&format!("payments: {name}=\"")), "{text}");
    assert!(text.contains(" is wrong: "), "{text}");
    assert!(stdout.is_empty());
    assert!(!cluster.exists(), "a cluster was created for {name}={value}");
    text
}

/// The output of a program that should end at once. If it starts after all, its banner arrives, and the test ends it.
fn ended(command: &mut Command) -> Output {
    let mut program = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if program.stdout.as_mut().unwrap().read(&mut [0]).unwrap() > 0 {
        program.kill().unwrap();
    }
    program.wait_with_output().unwrap()
}

#[test]
fn a_value_of_the_wrong_form_is_refused_with_the_right_form() {
    for (name, value, right) in [
        ("GATEWAY_URL", ":::", "http://"),
        ("GATEWAY_URL", "", "http://"),
        ("GATEWAY_URL", "http://", "http://"),
        ("GATEWAY_URL", "https://user@pay.example.com", "http://"),
        ("GATEWAY_URL", "https://user:secret@pay.example.com", "without a user"),
        ("GATEWAY_URL", "https://:secret@pay.example.com", "without a user"),
        ("GATEWAY_URL", "sk_live_secret", "GATEWAY_KEY"),
        ("SANDBOX_WEBHOOK_URL", "http://user:secret@127.0.0.1:1/", "without a user"),
        ("GATEWAY_KEY", "secret", "sk_test_"),
        ("GATEWAY_KEY", "", "sk_test_"),
        ("GATEWAY_KEY", "pk_live_secret", "sk_test_"),
        ("GATEWAY_WEBHOOK_SECRET", "secret", "whsec_"),
        ("GATEWAY_WEBHOOK_SECRET", "whsec_a,whsec_b,whsec_secret", "whsec_"),
        ("GATEWAY_URL", "ftp://pay.example.com", "http://"),
        ("SANDBOX_BIND", "localhost:8081", "an IP address and a port"),
        ("SANDBOX_KEY_TTL", "0", "from 1 to 86400"),
        ("BIND", "localhost:8080", "an IP address and a port"),
        ("BIND", "8080", "an IP address and a port"),
        ("DEMO", "yes", "true or false"),
        ("DB_POOL_SIZE", "0", "from 1 to 1000"),
        ("SWEEP_INTERVAL", "1m", "whole number of seconds"),
        ("CORS_ORIGINS", "https://a.example,*", "no origin"),
        ("KEEP_ALIVE", "0", "from 1 to 3600"),
        ("SHUTDOWN_DELAY", "-1", "from 0 to 300"),
        ("RUST_LOG", "chatty", "warn, info"),
        ("LOG_FORMAT", "xml", "text or json"),
        ("FAILPOINT", "nowhere", "before-claim"),
        ("DATABASE_URL", "", "set and empty"),
        ("DATABASE_URL", " ", "set and empty"),
        ("DATABASE_URL", "garbage", "postgres://"),
        ("DATABASE_URL", "postgres://u:secret%@127.0.0.1:1/payments", "%25 for %"),
        ("DATABASE_URL", "postgres://u:12/secret@127.0.0.1:1/payments", "%2F for /"),
        ("DATABASE_URL", "postgres://u:12@secret@127.0.0.1:1/payments", "%40 for @"),
        ("DATABASE_URL", "postgres://u:a secret@127.0.0.1:1/payments", "%20 for a space"),
        ("DATABASE_URL", "u:secret@127.0.0.1/payments", "percent-encode"),
        ("DATABASE_URL", "host=127.0.0.1 port=1 password=a secret", "key=value"),
        ("DATABASE_URL", "host=127.0.0.1 port=1 password='a secret", "key=value"),
        ("DATABASE_URL", "mysql://root:secret@localhost/payments", "postgres://"),
        ("DATABASE_URL", "postgres://u:secret@nowhere.invalid/payments", "nowhere.invalid"),
        ("DATABASE_URL", "host=127.0.0.1 port=1 password=secret", "Connection refused"),
    ] {
        let text = refused(name, value, &[]);
        assert!(text.contains(right), "{right} is not in: {text}");
        assert!(!text.contains("secret"), "a password is in: {text}");
    }
}

#[test]
fn an_address_that_cannot_be_listened_on_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for name in ["BIND", "SANDBOX_BIND"] {
        assert!(refused(name, &taken, &[]).contains("listens there already"));
        // RFC 5737 reserves this address for documentation, so no machine has it.
        assert!(refused(name, "192.0.2.1:8080", &[]).contains("no such address"));
    }
    let text = refused("SANDBOX_BIND", "127.0.0.1:9", &[("BIND", "127.0.0.1:9")]);
    assert!(text.contains("listens there already"), "{text}");
}

#[test]
fn a_database_that_is_not_utf8_is_refused() {
    let admin = cluster().url("postgres");
    execute(&admin, "CREATE DATABASE sql_ascii TEMPLATE template0 ENCODING 'SQL_ASCII'");

    let text = refused("DATABASE_URL", &cluster().url("sql_ascii"), &[]);

    assert!(text.contains("its encoding is SQL_ASCII") && text.contains("ENCODING 'UTF8'"), "{text}");
}

#[test]
fn a_pool_that_the_server_has_no_room_for_is_refused() {
    let database = fresh_database();
    let text = refused("DB_POOL_SIZE", "1000", &[("DATABASE_URL", &database), ("GATEWAY_URL", "http://127.0.0.1:1")]);
    assert!(text.contains("the server allows 497 connections") && text.contains("must be 494 or less"), "{text}");

    let (_, name) = database.rsplit_once('/').unwrap();
    execute(&cluster().url("postgres"), &format!("ALTER DATABASE {name} CONNECTION LIMIT 8"));
    let text = refused("DB_POOL_SIZE", "10", &[("DATABASE_URL", &database)]);
    assert!(text.contains("the server allows 8 connections") && text.contains("must be 1 or less"), "{text}");
    // The commands for accounts need no pool.
    assert!(printed(&database, &["account", "list"]).contains("acme"));
}

#[test]
fn an_unreachable_database_host_ends_the_start_within_twenty_seconds() {
    // No machine answers at an address of TEST-NET-1, so only the program's own time limit ends the attempt.
    let started = std::time::Instant::now();
    refused("DATABASE_URL", "postgres://192.0.2.1/payments", &[]);
    assert!(started.elapsed().as_secs() < 20, "it took {:?}", started.elapsed());
}

/// A missing secret often arrives as an empty variable. A local cluster must not take the place of the real database.
#[test]
fn an_empty_database_url_ends_every_command() {
    for action in ["migrate", "backlog", "sweep"] {
        let output = bare().env("DATABASE_URL", "").env("DEV_POSTGRES_DIR", "/etc").arg(action).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.starts_with("payments: DATABASE_URL=\"\" is wrong: it is set and empty"), "{text}");
    }
}

#[test]
fn a_directory_that_cannot_hold_a_cluster_is_refused_and_an_empty_one_is_unset() {
    let output = bare().env("DEV_POSTGRES_DIR", "/etc").arg("migrate").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("payments: /etc can't hold a PostgreSQL cluster"), "{text}");
    assert!(text.contains("DEV_POSTGRES_DIR") && !text.contains("chmod") && !text.contains("remove"), "{text}");
    let unset = bare().env("DEV_POSTGRES_DIR", "").arg("openapi").output().unwrap();
    assert!(unset.status.success(), "{unset:?}");
}

#[test]
fn the_help_shows_no_secret_of_the_environment() {
    let mut command = bare();
    for name in ["DATABASE_URL", "GATEWAY_URL", "GATEWAY_KEY", "GATEWAY_WEBHOOK_SECRET", "SANDBOX_WEBHOOK_URL"] {
        command.env(name, "https://u:secret@pay.example.com");
    }
    let help = String::from_utf8(command.arg("--help").output().unwrap().stdout).unwrap();
    assert!(help.contains("GATEWAY_URL") && !help.contains("secret@"), "{help}");
}

#[test]
fn a_command_whose_reader_leaves_ends_without_an_error() {
    let mut process = bare().arg("openapi").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    assert_eq!(first, "{\n");

    drop(output);

    let end = process.wait_with_output().unwrap();
    assert_eq!((end.status.code(), end.stderr.as_slice()), (Some(0), b"".as_slice()));
}

/// Without the demo, a guess about the gateway would resolve real charges at a gateway that knows nothing of them.
#[test]
fn without_the_demo_no_gateway_is_guessed() {
    let database = fresh_database();
    let database = [("DATABASE_URL", database.as_str())];
    let text = refused("GATEWAY_URL", "", &database);
    assert!(text.contains("http://"), "{text}");
    for action in ["serve", "resolve"] {
        for (set, names) in [
            (None, "GATEWAY_URL"),
            (Some(("GATEWAY_KEY", "sk_test_secret")), "GATEWAY_URL"),
            (Some(("GATEWAY_URL", "https://api.stripe.com")), "GATEWAY_KEY"),
        ] {
            let mut command = bare();
            command.envs(database).envs(set).env("BIND", "127.0.0.1:0").arg(action);
            let Output { status, stderr, .. } = ended(&mut command);
            let text = String::from_utf8(stderr).unwrap();
            assert_eq!(status.code(), Some(2), "{action} {set:?}: {text}");
            assert!(
                text.starts_with(&format!("payments: {names}=\"\" is wrong")) && !text.contains("secret"),
                "{text}"
            );
        }
    }
}

#[test]
fn a_live_key_is_refused_over_clear_text_and_with_the_demo() {
    let live = [("GATEWAY_KEY", "sk_live_secret")];
    let text = refused(
        "GATEWAY_URL",
        "http://127.0.0.1:8081",
        &[live[0], ("DEMO", "false"), ("DATABASE_URL", &fresh_database())],
    );
    assert!(text.contains("https") && !text.contains("secret"), "{text}");
    let mut command = bare();
    let untouched = tempfile::tempdir().unwrap();
    command.env("DEV_POSTGRES_DIR", untouched.path().join("cluster")).env("BIND", "127.0.0.1:0");
    command.envs(live).env("GATEWAY_URL", "https://api.stripe.com").arg("serve");
    let Output { status, stderr, .. } = ended(&mut command);
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.starts_with("payments: GATEWAY_KEY=\"..\" is wrong") && text.contains("demo"), "{text}");
}

#[test]
fn a_database_remembers_its_gateways_mode_and_refuses_another() {
    let database = fresh_database();
    let resolve = |url: &str, key: &str| {
        let mut command = bare();
        command.env("DATABASE_URL", &database).env("GATEWAY_URL", url).env("GATEWAY_KEY", key).arg("resolve");
        command.output().unwrap()
    };
    assert!(resolve("http://127.0.0.1:1", "sk_test_secret").status.success());
    for (url, key, mode) in
        [("https://api.stripe.com", "sk_test_secret", "test"), ("https://api.stripe.com", "rk_live_secret", "live")]
    {
        let Output { status, stderr, .. } = resolve(url, key);
        let text = String::from_utf8(stderr).unwrap();
        assert!(!status.success() && text.lines().count() == 1, "{text}");
        assert!(text.contains("in sandbox mode") && text.contains(&format!("in {mode} mode")), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    assert!(resolve("http://127.0.0.1:2", "sk_test_other").status.success());
}
