//! One constant a promise: what the API says of its policies, and what the pages say, is what the handlers do.

use idempotent_payments::policies;
use serde_json::json;

use crate::app::App;

/// The table that a page shows, between its markers.
fn shown<'a>(name: &str, page: &'a str) -> &'a str {
    let (_, rest) = page.split_once("<!-- policies:begin -->\n").unwrap_or_else(|| panic!("no table in {name}"));
    rest.split_once("<!-- policies:end -->").unwrap_or_else(|| panic!("the table of {name} has no end")).0
}

#[test]
fn the_pages_show_the_policies_as_they_are() {
    let pages = [
        ("README.md", include_str!("../../README.md")),
        ("docs/failure-policies.md", include_str!("../../docs/failure-policies.md")),
    ];
    let table = policies::markdown();
    for (name, page) in pages {
        assert_eq!(shown(name, page), table, "put this table between the markers of {name}:\n{table}");
    }
}

#[tokio::test]
async fn the_policies_are_served_as_data() {
    let app = App::start().await;
    let page = app.get("/v1/policies").await.expect(200).json();
    let policies = page["data"].as_array().unwrap();
    assert_eq!(policies.len(), policies::ALL.len());
    let find = |route: &str| policies.iter().find(|policy| policy["route"] == route).unwrap();
    assert_eq!(
        *find("POST /v1/entitlements/{id}/consume"),
        json!({
            "route": "POST /v1/entitlements/{id}/consume",
            "scope": "resource",
            "failures": {"kind": "cache-failures", "failure_ttl_seconds": 60},
            "success_ttl_seconds": 86400,
            "wait_seconds": 5,
        })
    );
    assert_eq!(find("POST /v1/orders")["failures"], json!({"kind": "success-only"}));
    crate::app::send(app.anonymous("GET", "/v1/policies")).await.expect_problem(401, "unauthorized");
}

#[test]
fn every_route_that_takes_post_has_a_policy_and_every_policy_its_route() {
    let mut posts: Vec<String> = idempotent_payments::http::routed()
        .into_iter()
        .filter(|(method, _)| *method == "POST")
        .map(|(method, path)| format!("{method} {path}"))
        .collect();
    let mut policies: Vec<_> = policies::ALL.iter().map(|policy| policy.route.to_owned()).collect();
    posts.sort();
    policies.sort();
    assert_eq!(posts, policies);
}
