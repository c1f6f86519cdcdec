//! One constant for each promise: the API and the pages show the same policies that the handlers use.

use idempotent_payments::server::{advice, api, policies};
use serde_json::json;

use crate::app::App;

const FAILURE_POLICIES: (&str, &str) = ("docs/failure-policies.md", include_str!("../../docs/failure-policies.md"));
const ERRORS: (&str, &str) = ("docs/errors.md", include_str!("../../docs/errors.md"));

/// Checks the table that a page shows between its markers.
fn shows((name, page): (&str, &str), what: &str, table: &str) {
    let begin = format!("<!-- {what}:begin -->\n");
    let end = format!("<!-- {what}:end -->");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{name} has no {begin}"));
    let (shown, _) = rest.split_once(&end).unwrap_or_else(|| panic!("{name} has no {end}"));
    assert_eq!(shown, table, "put this table between the markers of {name}:\n{table}");
}

#[test]
fn the_pages_show_the_policies_and_problems_as_they_are() {
    shows(FAILURE_POLICIES, "policies", &policies::table(&api()).markdown());
    shows(ERRORS, "problems", &advice::table(&api()).markdown());
}

#[tokio::test]
async fn the_policies_are_served_as_data() {
    let app = App::start().await;
    let page = app.get("/v1/policies").await.expect(200).json();
    let policies = page["data"].as_array().unwrap();
    assert_eq!(policies.len(), api().policies().count());
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

/// Records store the policy's route, so the policy repeats what the handler's own declaration says.
#[test]
fn every_post_has_a_policy_and_the_policy_names_its_route() {
    let mut keyed = 0;
    for endpoint in api().endpoints {
        let is_keyed = endpoint.method == "POST" && endpoint.is_secured();
        assert_eq!(endpoint.policy.is_some(), is_keyed, "{}", endpoint.name());
        if let Some(policy) = endpoint.policy {
            assert_eq!(policy.route, endpoint.name());
            keyed += 1;
        }
    }
    assert!(keyed > 0, "the test has seen no policy");
}
