//! The catalogue: the body of a PUT is the whole product, so PUT is idempotent without a key.

use diesel::connection::SimpleConnection as _;
use serde_json::{Value, json};

use crate::app::{App, GLOBEX, send, terms};
use crate::support::{connect, eventually_blocked, number};

#[tokio::test]
async fn a_put_creates_a_product_and_a_second_one_changes_it() {
    let app = App::start_with_pool(2).await;
    let grants = json!({"feature": "coffee", "units": 3, "days": 30});
    let mug = json!({"name": "Mug", "unit_amount": 500, "currency": "EUR", "stock": 10, "grants": grants});

    let made = app.put("/v1/products/mug", mug.clone()).await.expect(201);
    let changed = app.put("/v1/products/mug", terms(None)).await.expect(200);

    let product = made.json();
    assert_eq!(made.header("Location"), Some("/v1/products/mug"));
    for (member, value) in mug.as_object().unwrap() {
        assert_eq!(&product[member], value, "{member}");
    }
    assert_eq!((&product["sku"], &product["reserved"]), (&json!("mug"), &json!(0)));
    assert_eq!((&changed.json()["stock"], &changed.json()["grants"]), (&Value::Null, &Value::Null));
    assert_eq!(changed.json()["created_at"], product["created_at"]);
    assert_eq!(app.get("/v1/products/mug").await.expect(200).json(), changed.json());
}

#[tokio::test]
async fn a_put_writes_its_event_unless_it_changes_nothing() {
    let app = App::start_with_pool(2).await;
    let count = |kind: &str| app.count(&format!("events WHERE type = '{kind}' AND data->>'sku' = 'mug'"));
    let events = || (count("product.created"), count("product.updated"));

    let made = app.product("mug", 10).await.expect(201);
    assert_eq!(events(), (1, 0));
    let unchanged = app.product("mug", 10).await.expect(200);
    assert_eq!((events(), unchanged.json()), ((1, 0), made.json()));
    app.product("mug", 11).await.expect(200);
    assert_eq!(events(), (1, 1));

    let latest =
        number(&app.database, "max((data->>'stock')::int)::bigint AS n FROM events WHERE data->>'sku' = 'mug'");
    assert_eq!(latest, 11);
}

#[tokio::test]
async fn of_many_puts_at_once_one_creates_the_product() {
    let app = App::start_with_pool(4).await;

    let answers = app.patient().at_once(16, |app, _| async move { app.product("mug", 10).await.status }).await;

    assert_eq!(answers.iter().filter(|status| **status == 201).count(), 1);
    assert!(answers.iter().all(|status| [200, 201].contains(status)), "{answers:?}");
    assert_eq!(app.count("events WHERE data->>'sku' = 'mug'"), 1);
}

#[tokio::test]
async fn stock_below_the_reserved_amount_is_refused_and_changes_nothing() {
    let app = App::start_with_pool(2).await;
    let made = app.product("mug", 10).await.expect(201).json();
    app.order("key", "mug", 7).await.expect(201);

    app.product("mug", 6).await.expect_problem(409, "out-of-stock");

    let mug = app.get("/v1/products/mug").await.expect(200).json();
    assert_eq!((&mug["stock"], &mug["reserved"], &mug["updated_at"]), (&json!(10), &json!(7), &made["updated_at"]));
    app.product("mug", 7).await.expect(200);
}

#[tokio::test]
async fn each_account_has_its_own_catalogue() {
    let app = App::start_with_pool(2).await;
    app.product("mug", 10).await.expect(201);
    let theirs = |method| app.request_as(GLOBEX, method, "/v1/products/mug");

    send(theirs("GET")).await.expect_problem(404, "not-found");
    send(theirs("PUT").json(&terms(3))).await.expect(201);

    assert_eq!(app.get("/v1/products/mug").await.json()["stock"], 10);
}

#[tokio::test]
async fn products_are_listed_by_sku() {
    let app = App::start_with_pool(2).await;
    let listed = async |query: &str| {
        let page = app.get(&format!("/v1/products?{query}")).await.expect(200).json();
        let skus: Vec<String> =
            page["data"].as_array().unwrap().iter().map(|p| p["sku"].as_str().unwrap().to_owned()).collect();
        (skus.join(" "), page["has_more"].as_bool().unwrap())
    };

    assert_eq!(listed("").await, ("credits-1000 pro-monthly sticker".into(), false));
    assert_eq!(listed("limit=2").await, ("credits-1000 pro-monthly".into(), true));
    assert_eq!(listed("limit=2&after=pro-monthly").await, ("sticker".into(), false));
    // A cursor may be a SKU that does not exist.
    assert_eq!(listed("after=d").await, ("pro-monthly sticker".into(), false));
    assert_eq!(listed("after=zzz").await, (String::new(), false));
}

#[tokio::test]
async fn a_late_put_cannot_undo_a_newer_one() {
    let app = App::start_with_pool(2).await;
    let seen = app.product("mug", 10).await.expect(201);
    let etag = seen.header("ETag").unwrap().to_owned();
    let put = |etag: &str, stock: i64| {
        send(app.request("PUT", "/v1/products/mug").header("If-Match", etag).json(&terms(stock)))
    };
    assert_eq!(app.get("/v1/products/mug").await.header("ETag"), Some(&*etag));
    // An order changes `reserved`, but not the terms of the product.
    app.order("key", "mug", 1).await.expect(201);

    let newer = put(&etag, 20).await.expect(200);
    let late = put(&etag, 15).await.expect_problem(412, "precondition-failed");
    assert_eq!(late.json()["retry"], "fix");
    assert_eq!(app.get("/v1/products/mug").await.json()["stock"], 20);

    // The retry of the successful PUT finds its own terms, so it succeeds.
    assert_eq!(put(&etag, 20).await.expect(200).header("ETag"), newer.header("ETag"));
    put(newer.header("ETag").unwrap(), 15).await.expect(200);
    put("*", 16).await.expect(200);
    // The product has its first terms again, but it is another version.
    put("*", 10).await.expect(200);
    put(&etag, 15).await.expect_problem(412, "precondition-failed");
}

#[tokio::test]
async fn a_put_whose_precondition_fails_changes_nothing() {
    let app = App::start_with_pool(2).await;
    let etag = app.product("mug", 10).await.expect(201).header("ETag").unwrap().to_owned();
    let before = app.rows();
    let put = |sku: &str, if_match: &str| {
        let request = app.request("PUT", &format!("/v1/products/{sku}")).header("If-Match", if_match);
        send(request.json(&terms(11)))
    };

    let weak = put("mug", &format!("\"another\", W/{etag}")).await.expect_problem(412, "precondition-failed");
    assert!(weak.json()["detail"].as_str().unwrap().contains("weak ETag"), "{weak:?}");
    for another in ["\"another\"", "W/\"another\""] {
        let changed = put("mug", another).await.expect_problem(412, "precondition-failed");
        assert_eq!(changed.json()["detail"], "the product was changed since");
    }
    put("unheard-of", "*").await.expect_problem(412, "precondition-failed");
    for unreadable in [etag.trim_matches('"'), "", &format!("*, {etag}")] {
        let answer = put("mug", unreadable).await.expect_problem(400, "malformed-request");
        assert!(answer.json()["detail"].as_str().unwrap().contains("quotes"), "{answer:?}");
    }

    assert_eq!(app.rows(), before);
    put("mug", &format!("\"another\", {etag}")).await.expect(200);
}

#[tokio::test]
async fn a_put_may_change_any_one_member() {
    let app = App::start_with_pool(2).await;
    let mut terms = json!({"name": "Mug", "unit_amount": 500, "currency": "EUR", "stock": 10, "grants": null});
    app.put("/v1/products/mug", terms.clone()).await.expect(201);
    let changes = [
        ("name", json!("Cup")),
        ("unit_amount", json!(700)),
        ("currency", json!("USD")),
        ("stock", json!(null)),
        ("grants", json!({"feature": "coffee", "units": 3, "days": 30})),
        ("grants", json!({"feature": "coffee", "units": 4, "days": 30})),
        ("grants", json!({"feature": "coffee", "units": 4, "days": null})),
        ("grants", json!({"feature": "tea", "units": 4, "days": null})),
    ];
    for (updates, (member, value)) in (1..).zip(changes) {
        terms[member] = value.clone();
        let answer = app.put("/v1/products/mug", terms.clone()).await.expect(200).json();
        let read = app.get("/v1/products/mug").await.expect(200).json();
        assert_eq!((&answer[member], &read[member]), (&value, &value), "{member}");
        assert_eq!(app.count("events WHERE type = 'product.updated' AND data->>'sku' = 'mug'"), updates, "{member}");
    }
}

#[tokio::test]
async fn of_two_puts_with_one_etag_at_once_one_is_refused() {
    let app = App::start_with_pool(4).await;
    let etag = app.product("mug", 10).await.expect(201).header("ETag").unwrap().to_owned();
    let mut holder = connect(&app.database);
    holder.batch_execute("BEGIN; SELECT FROM products WHERE sku = 'mug' FOR UPDATE").unwrap();
    let puts = tokio::spawn(app.at_once(2, move |app, number| {
        let put = app.request("PUT", "/v1/products/mug").header("If-Match", &etag);
        async move { send(put.json(&terms(20 + i64::try_from(number).unwrap()))).await.status }
    }));
    eventually_blocked(&app.database, 2).await;
    holder.batch_execute("COMMIT").unwrap();

    let mut statuses = puts.await.unwrap();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
}
