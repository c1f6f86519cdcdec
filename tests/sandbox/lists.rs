//! Lists at the sandbox gateway: pages and time windows.

use serde_json::Value;

use crate::{Sandbox, fresh_reference};

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|object| object["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn lists_are_newest_first_and_pages_follow_each_other() {
    let sandbox = Sandbox::start();
    let intent = sandbox.paid(1000).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.insert(0, sandbox.refund(&fresh_reference(), &intent, 10).await.id());
    }
    let first = sandbox.get(&format!("/v1/refunds?payment_intent={intent}&limit=2")).await.json();
    let second =
        sandbox.get(&format!("/v1/refunds?payment_intent={intent}&limit=2&starting_after={}", made[1])).await.json();

    assert_eq!((ids(&first), &first["has_more"], &first["object"]), (made[..2].to_vec(), &true.into(), &"list".into()));
    assert_eq!((ids(&second), &second["has_more"]), (made[2..].to_vec(), &false.into()));
}

#[tokio::test]
async fn a_window_of_whole_seconds_holds_what_was_created_in_it() {
    let sandbox = Sandbox::start();
    let paid = sandbox.pay(&fresh_reference(), 500, "pm_card_visa").await;
    let (id, created) = (paid.id(), paid.json()["created"].as_i64().unwrap());
    for (window, holds) in [
        (format!("created[gte]={created}&created[lte]={created}"), true),
        (format!("created[gt]={}&created[lt]={}", created - 1, created + 1), true),
        (format!("created[gt]={created}"), false),
        (format!("created[lt]={created}"), false),
    ] {
        let page = sandbox.get(&format!("/v1/payment_intents?limit=100&{window}")).await.json();
        // Other tests may make more than a page of payments in a second, so the expected one may be further back.
        assert!(ids(&page).contains(&id) == holds || (holds && page["has_more"] == true), "{window}");
    }
}

#[tokio::test]
async fn parameters_of_lists_that_are_not_known_are_refused() {
    let sandbox = Sandbox::start();
    for query in ["limit=0", "limit=101", "limit=x", "customer=cus_1", "created[gte]=x", "payment_intent=pi_1"] {
        assert_eq!(sandbox.get(&format!("/v1/payment_intents?{query}")).await.status, 400, "{query}");
    }
    for path in ["/v1/payment_intents?starting_after=pi_none", "/v1/payment_intents/pi_none", "/v1/refunds/re_none"] {
        let missing = sandbox.get(path).await;
        assert_eq!((missing.status, missing.error().1.as_deref()), (404, Some("resource_missing")), "{path}");
    }
    assert_eq!(sandbox.get("/v1/charges").await.status, 404);
}
