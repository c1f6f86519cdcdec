//! This project's own API, with a real database, under the project's own profile.

use clap::Parser as _;
use idempotency_verify::{Args, Report, Status, Target};

use crate::app::{ACME, App, GLOBEX};
use crate::support::fresh_database;

async fn report(words: &[String]) -> Result<Report, String> {
    let words = std::iter::once("idempotency-verify").chain(words.iter().map(String::as_str));
    let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
    idempotency_verify::run(Target::of(&args)?, &args).await
}

/// The names and texts of the findings with this status.
fn with_status(report: &Report, status: Status) -> Vec<(&str, &str)> {
    let findings = report.findings.iter().filter(|finding| finding.status == status);
    findings.map(|finding| (finding.check, finding.seen.as_str())).collect()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(ToOwned::to_owned).into()
}

#[tokio::test]
async fn orders_pass_every_check_that_can_be_made_from_outside() {
    let database = fresh_database();
    let (api, replica) = (App::start_on(database.clone(), 10).await, App::start_on(database, 10).await);
    let (ours, theirs) = (format!("Authorization: Bearer {ACME}"), format!("Authorization: Bearer {GLOBEX}"));
    let base = &api.base;
    let mut line = words(["POST", &format!("{base}/v1/orders"), "--header", &ours, "--other-header", &theirs]);
    let order =
        |quantity: u32| format!(r#"{{"customer":"ada","items":[{{"sku":"pro-monthly","quantity":{quantity}}}]}}"#);
    line.extend(words(["--body", &order(1), "--other-body", &order(2), "--vary", "customer"]));
    line.extend(words(["--failing-body", r#"{"customer":"ada","items":[{"sku":"sticker","quantity":10000}]}"#]));
    line.extend(words(["--failures", "free", "--replica", &replica.base, "--profile", "this"]));
    line.extend(words(["--count", &format!("GET {base}/v1/orders?customer={{customer}}")]));
    line.extend(words(["--other-path", "/v1/charges", "--other-method", "PUT"]));
    line.extend(words(["--change", "POST {location}/cancel {}"]));
    let seen = report(&line).await.unwrap();
    let skipped: Vec<_> = with_status(&seen, Status::Skip).into_iter().map(|(check, _)| check).collect();
    // No other endpoint with the same key space takes this body, nor does another method, and no request makes this API
    // answer 5xx.
    assert_eq!(skipped, ["other-path", "other-method", "server-error-key", "server-error-effect"], "{seen:#?}");
    let passed = with_status(&seen, Status::Pass).len();
    assert_eq!(passed + skipped.len(), seen.findings.len(), "{:#?}", with_status(&seen, Status::Fail));
    assert!(seen.requests_sent <= seen.requests_announced);
}

/// Each charge needs a separate order. A decline is stored with its charge, so only charges that succeeded are effects.
#[tokio::test]
async fn charges_pass_every_check_on_orders_that_are_created_for_them() {
    let database = fresh_database();
    let (api, replica) = (App::start_on(database.clone(), 10).await, App::start_on(database, 10).await);
    let base = &api.base;
    let mut line = words(["POST", &format!("{base}/v1/charges"), "--header", &format!("Authorization: Bearer {ACME}")]);
    let order = r#"POST /v1/orders {"customer":"ada-{uuid}","items":[{"sku":"pro-monthly","quantity":1}]}"#;
    let charge = |card: &str| format!(r#"{{"order_id":"{{setup.id}}","payment_method":"pm_card_{card}"}}"#);
    line.extend(words(["--setup", order, "--body", &charge("visa"), "--other-body", &charge("mastercard")]));
    line.extend(words(["--failing-body", &charge("visa_chargeDeclined"), "--failures", "stored"]));
    line.extend(words(["--count", "GET /v1/charges?order_id={order_id}&status=succeeded"]));
    line.extend(words(["--replica", &replica.base, "--profile", "this", "--change", "POST {location}/refunds {}"]));
    line.extend(words(["--other-path", "/v1/orders", "--other-method", "PUT"]));
    let seen = report(&line).await.unwrap();
    let skipped: Vec<_> = with_status(&seen, Status::Skip).into_iter().map(|(check, _)| check).collect();
    // As for orders. In addition, the order belongs to one account.
    let never = ["other-path", "other-method", "server-error-key", "server-error-effect", "accounts-apart"];
    assert_eq!(skipped, never, "{seen:#?}");
    let passed = with_status(&seen, Status::Pass).len();
    assert_eq!(passed + skipped.len(), seen.findings.len(), "{:#?}", with_status(&seen, Status::Fail));
    assert!(seen.requests_sent <= seen.requests_announced);
}
