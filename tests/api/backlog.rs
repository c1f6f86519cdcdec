//! `payments backlog`: the charges and refunds whose outcome is not known yet.

use serde_json::{Value, json};

use crate::app::{ACME, App, GLOBEX, one_item};
use crate::binary::{printed, refused};
use crate::gateways::away;
use crate::support::{execute, fresh_database};

#[tokio::test]
async fn the_backlog_is_shown_by_account_and_as_json() {
    let app = App::start_without_resolver(fresh_database(), away());
    for (account, key) in [(ACME, "one"), (ACME, "two"), (GLOBEX, "other")] {
        let order = app.post_as(account, "/v1/orders", key, one_item("pro-monthly", 1)).await.expect(201).json();
        let charge = json!({"order_id": order["id"], "payment_method": "pm_card_visa"});
        app.post_as(account, "/v1/charges", &format!("pay-{key}"), charge).await.expect(202);
    }
    execute(&app.database, "UPDATE external_calls SET parked_at = now(), attempts = 20 WHERE key = 'pay-two'");
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&printed(&app.database, &[&["backlog", "--format", "json"], arguments].concat())).unwrap()
    };
    let keys = |backlog: &Value| {
        let calls = backlog["calls"].as_array().unwrap().clone();
        calls.iter().map(|call| call["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    let all = json(&[]);

    let part = |of: &Value| (of["account"].clone(), of["open"].clone(), of["parked"].clone());
    let accounts: Vec<_> = all["accounts"].as_array().unwrap().iter().map(part).collect();
    assert_eq!(accounts, [(json!("acme"), json!(1), json!(1)), (json!("globex"), json!(1), json!(0))]);
    assert_eq!(keys(&all), ["pay-one", "pay-two", "pay-other"]);
    assert_eq!((&all["calls"][1]["attempts"], all["calls"][0]["parked_at"].is_null()), (&json!(20), true));
    assert!(all["calls"][0]["next_attempt_at"].is_string(), "{all}");
    assert_eq!(keys(&json(&["--parked"])), ["pay-two"]);
    assert_eq!(keys(&json(&["--account", "globex"])), ["pay-other"]);
    let table = printed(&app.database, &["backlog", "--account", "acme"]);
    assert!(table.contains("pay-one") && table.contains("parked 20") && !table.contains("globex"), "{table}");
    assert!(refused(&app.database, &["backlog", "--account", "nobody"]).contains("there is no account nobody"));
}
