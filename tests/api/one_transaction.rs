//! A change, its event and the record of its key are one transaction: if COMMIT fails, none of them stays.

use serde_json::{Value, json};

use crate::app::{App, Client, one_item, send, terms};
use crate::support::{connect, execute};

/// The triggers are deferred, so that all statements of the request succeed and only COMMIT fails.
const REFUSE_COMMITS: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN RAISE EXCEPTION 'this COMMIT is refused by a test'; END $$; \
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON idempotency_keys DEFERRABLE INITIALLY DEFERRED \
      FOR EACH ROW EXECUTE FUNCTION refuse(); \
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON products DEFERRABLE INITIALLY DEFERRED \
      FOR EACH ROW EXECUTE FUNCTION refuse()";

const ALLOW_COMMITS: &str = "DROP TRIGGER refuse ON idempotency_keys; DROP TRIGGER refuse ON products";

/// All rows of all tables that these requests write, as one text.
fn all_rows(app: &Client) -> String {
    use diesel::prelude::*;
    let tables = ["events", "orders", "products", "entitlements", "idempotency_keys"];
    let rows = tables.map(|table| format!("(SELECT json_agg(t ORDER BY t::text)::text FROM {table} t)"));
    let all = diesel::dsl::sql::<diesel::sql_types::Text>(&format!("concat_ws(',', {})", rows.join(",")));
    diesel::select(all).get_result(&mut connect(&app.database)).unwrap()
}

/// The requests, each with the status of its success.
async fn requests(app: &Client) -> Vec<(String, Value, u16)> {
    let order = app.order("order", "sticker", 2).await.expect(201).header("Location").unwrap().to_owned();
    let grant = json!({"customer": "ada", "feature": "pro", "units": 5});
    let entitlement = app.post("/v1/entitlements", "grant", grant.clone()).await.expect(201);
    let entitlement = entitlement.header("Location").unwrap();
    vec![
        ("/v1/orders".to_owned(), one_item("sticker", 1), 201),
        (format!("{order}/cancel"), json!({}), 200),
        ("/v1/entitlements".to_owned(), grant, 201),
        (format!("{entitlement}/consume"), json!({"units": 2}), 200),
        (format!("{entitlement}/revoke"), json!({}), 200),
    ]
}

#[tokio::test]
async fn if_commit_fails_neither_the_change_nor_its_event_nor_the_record_stays() {
    let app = App::start_with_pool(2).await;
    let requests = requests(&app).await;
    let before = all_rows(&app);
    execute(&app.database, REFUSE_COMMITS);

    for (path, body, _) in &requests {
        app.post(path, "key", body.clone()).await.expect_problem(500, "internal");
        assert_eq!(all_rows(&app), before, "{path}");
    }
    send(app.request("PUT", "/v1/products/mug").json(&terms(5))).await.expect_problem(500, "internal");
    assert_eq!(all_rows(&app), before);

    // Without the triggers, each request succeeds.
    execute(&app.database, ALLOW_COMMITS);
    for (path, body, success) in requests {
        let events = app.count("events");
        assert!(!app.post(&path, "key", body).await.expect(success).is_replay(), "{path}");
        assert_eq!(app.count("events"), events + 1, "{path}");
    }
}
