//! Lists take filters, alone and together, and return only matching items.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, Client, GLOBEX, send};
use crate::gateways::away;
use crate::support::{execute, fresh_database};

/// One member of each item of a list, for example the ids.
async fn listed(app: &Client, path: &str, member: &str) -> Vec<String> {
    let page = app.get(path).await.expect(200).json();
    let text = |item: &Value| item[member].as_str().unwrap().to_owned();
    page["data"].as_array().unwrap().iter().map(text).collect()
}

/// Makes an object old, as if the API had created it then. Returns its id, which begins with the time.
fn made_at(app: &Client, table: &str, id: &str, day: &str) -> String {
    let millis = chrono::NaiveDate::parse_from_str(day, "%F").unwrap().and_time(chrono::NaiveTime::MIN).and_utc();
    let random = Uuid::parse_str(id).unwrap().as_u128() & (u128::MAX >> 48);
    let old = Uuid::from_u128((u128::try_from(millis.timestamp_millis()).unwrap() << 80) | random);
    execute(
        &app.database,
        &format!("UPDATE {table} SET created_at = '{day}T00:00:00Z', id = '{old}' WHERE id = '{id}'"),
    );
    old.to_string()
}

/// The clocks of the API and of the database may differ by less than an hour.
#[tokio::test]
async fn an_object_whose_id_has_another_clock_is_found_by_its_time() {
    let app = App::start_with_pool(2).await;
    let order = app.order("k", "sticker", 1).await.expect(201).id();
    for minutes in [-59, 59] {
        let shifted =
            format!("UPDATE orders SET created_at = now() + interval '{minutes} minutes' WHERE id = '{order}'");
        execute(&app.database, &shifted);
        let at = app.member(&format!("/v1/orders/{order}"), "created_at").await;
        let at = chrono::DateTime::parse_from_rfc3339(at.as_str().unwrap()).unwrap().to_utc();
        let (before, after) = (at - chrono::TimeDelta::seconds(1), at + chrono::TimeDelta::seconds(1));
        let range = format!("created_from={}&created_before={}", before.format("%FT%TZ"), after.format("%FT%TZ"));
        assert_eq!(
            listed(&app, &format!("/v1/orders?{range}"), "id").await,
            std::slice::from_ref(&order),
            "{minutes}: {range}"
        );
    }
}

#[tokio::test]
async fn entitlements_are_found_by_customer_feature_and_time() {
    let app = App::start_with_pool(2).await;
    let mut ids = Vec::new();
    for (customer, feature, at) in [("ada", "x", "2026-01-01"), ("ada", "y", "2026-01-02"), ("bob", "x", "2026-01-03")]
    {
        let new = json!({"customer": customer, "feature": feature});
        let made = app.post("/v1/entitlements", &Uuid::new_v4().to_string(), new).await.expect(201).json();
        let id = made["id"].as_str().unwrap().to_owned();
        ids.push(made_at(&app, "entitlements", &id, at));
    }
    let found = async |query: &str| {
        let found = listed(&app, &format!("/v1/entitlements?{query}"), "id").await;
        ids.iter().enumerate().filter(|(_, id)| found.contains(id)).map(|(number, _)| number).collect::<Vec<_>>()
    };

    assert_eq!(found("").await, [0, 1, 2]);
    assert_eq!(found("customer=ada").await, [0, 1]);
    assert_eq!(found("customer=ada&feature=x").await, [0]);
    assert_eq!(found("created_from=2026-01-02T00:00:00Z").await, [1, 2]);
    assert_eq!(found("created_before=2026-01-02T00:00:00Z").await, [0]);
    assert_eq!(found("created_from=2026-01-02T01:00:00%2B01:00&created_before=2026-01-03T00:00:00Z").await, [1]);
    assert_eq!(found("created_from=2026-01-02T00:00:00Z&feature=x").await, [2]);
}

#[tokio::test]
async fn events_are_found_by_type_and_object() {
    let app = App::start_with_pool(2).await;
    app.product("mug", 10).await.expect(201);
    app.product("mug", 11).await.expect(200);
    let order = app.order("key", "mug", 1).await.expect(201).json()["id"].as_str().unwrap().to_owned();
    app.post(&format!("/v1/orders/{order}/cancel"), "key", json!({})).await.expect(200);
    let types = async |query: &str| listed(&app, &format!("/v1/events?limit=100&{query}"), "type").await;

    assert_eq!(types("type=order.created").await, ["order.created"]);
    let misspelt = app.get("/v1/events?type=order.create").await.expect_problem(422, "invalid-request");
    assert_eq!(misspelt.pointers(), ["/type"]);
    assert_eq!(types(&format!("object_id={order}")).await, ["order.created", "order.canceled"]);
    assert_eq!(types("object_id=mug").await, ["product.created", "product.updated"]);
    assert_eq!(types(&format!("object_id={order}&type=order.canceled")).await, ["order.canceled"]);
    assert_eq!(types("created_before=2020-01-01T00:00:00Z").await, [] as [&str; 0]);
    // A filtered feed continues after its last cursor.
    let first = app.get("/v1/events?object_id=mug&limit=1").await.expect(200).json();
    assert_eq!(first["has_more"], true);
    let cursor = first["data"][0]["cursor"].as_str().unwrap();
    assert_eq!(types(&format!("object_id=mug&after={cursor}")).await, ["product.updated"]);
}

#[tokio::test]
async fn a_page_after_an_item_of_another_list_is_refused() {
    let app = App::start().await;
    let order = app.order("o", "sticker", 1).await.expect(201).id();
    let paid = json!({"order_id": order, "payment_method": "pm_card_visa"});
    let charge = app.post("/v1/charges", "c", paid).await.expect(201).id();
    let refund = app.post(&format!("/v1/charges/{charge}/refunds"), "r", json!({"amount": 1})).await.expect(201).id();
    let grant = json!({"customer": "ada", "feature": "x"});
    let grant = app.post("/v1/entitlements", "e", grant).await.expect(201).id();
    let refunds = format!("/v1/charges/{charge}/refunds");
    let items = [("/v1/orders", &order), ("/v1/charges", &charge), (&*refunds, &refund), ("/v1/entitlements", &grant)];

    for (list, own) in items {
        for (_, after) in items {
            let answer = app.get(&format!("{list}?after={after}")).await;
            if after == own {
                answer.expect(200);
            } else {
                assert_eq!(answer.expect_problem(422, "invalid-request").pointers(), ["/after"], "{list} {after}");
            }
        }
        // Another account's item is treated like one that does not exist.
        let theirs = send(app.request_as(GLOBEX, "GET", &format!("{list}?after={own}"))).await;
        theirs.expect_problem(
            if list == refunds { 404 } else { 422 },
            if list == refunds { "not-found" } else { "invalid-request" },
        );
    }
}

#[tokio::test]
async fn products_are_found_by_time() {
    let app = App::start_with_pool(2).await;
    execute(&app.database, "UPDATE products SET created_at = '2020-01-01' WHERE sku = 'sticker'");
    assert_eq!(listed(&app, "/v1/products?created_before=2021-01-01T00:00:00Z", "sku").await, ["sticker"]);
}

#[tokio::test]
async fn orders_are_found_by_customer_status_and_time() {
    let app = App::start_with_pool(2).await;
    let order = async |key: &str, customer: &str| {
        let items = json!([{"sku": "sticker", "quantity": 1}]);
        app.post("/v1/orders", key, json!({"customer": customer, "items": items})).await.expect(201).id()
    };
    let (ada, canceled, bob) = (order("a", "ada").await, order("b", "ada").await, order("c", "bob").await);
    app.post(&format!("/v1/orders/{canceled}/cancel"), "k", json!({})).await.expect(200);
    let bob = made_at(&app, "orders", &bob, "2020-01-01");
    let found = async |query: &str| listed(&app, &format!("/v1/orders?{query}"), "id").await;

    assert_eq!(found("customer=ada").await, [canceled.clone(), ada.clone()]);
    assert_eq!(found("customer=ada&status=pending").await, std::slice::from_ref(&ada));
    assert_eq!(found("status=canceled").await, std::slice::from_ref(&canceled));
    assert_eq!(found("created_before=2021-01-01T00:00:00Z").await, [bob]);
    assert_eq!(found(&format!("customer=ada&after={canceled}")).await, [ada]);
    let unknown = app.get("/v1/orders?status=paidd").await.expect_problem(422, "invalid-request");
    assert_eq!(unknown.pointers(), ["/status"]);
}

#[tokio::test]
async fn charges_are_found_by_order_customer_status_and_whether_they_are_parked() {
    let app = App::start_without_resolver(fresh_database(), away());
    let mut charges = Vec::new();
    for (key, customer) in [("a", "ada"), ("b", "bob")] {
        let items = json!([{"sku": "sticker", "quantity": 1}]);
        let order = app.post("/v1/orders", key, json!({"customer": customer, "items": items})).await.expect(201).id();
        let paying = json!({"order_id": order, "payment_method": "pm_card_visa"});
        charges.push((order, app.post("/v1/charges", &format!("pay-{key}"), paying).await.expect(202).id()));
    }
    let (order, first) = charges[0].clone();
    let second = charges[1].1.clone();
    execute(
        &app.database,
        &format!(
            "UPDATE external_calls SET parked_at = now() \
             WHERE reference = (SELECT reference FROM charges WHERE id = '{first}')"
        ),
    );
    let found = async |query: &str| listed(&app, &format!("/v1/charges?{query}"), "id").await;

    assert_eq!(found("").await, [second.clone(), first.clone()]);
    assert_eq!(found(&format!("order_id={order}")).await, std::slice::from_ref(&first));
    assert_eq!(found("customer=bob").await, std::slice::from_ref(&second));
    assert_eq!(found("status=processing&parked=true").await, std::slice::from_ref(&first));
    assert_eq!(found("parked=false").await, [second]);
    assert_eq!(found("status=succeeded").await, [] as [&str; 0]);
    assert_eq!(found("created_from=2020-01-01T00:00:00Z&customer=ada").await, [first]);
    let wrong =
        app.get("/v1/charges?parked=maybe&order_id=7&costumer=ada").await.expect_problem(422, "invalid-request");
    assert_eq!(wrong.pointers(), ["/costumer", "/order_id", "/parked"]);
}
