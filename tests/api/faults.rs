//! What the faults of an input say: where each is, and what is right, without repeating the client's value.

use serde_json::{Value, json};

use crate::app::{App, one_item, terms};
use crate::bad_input::{LISTS, expect_nothing_changed, post_raw, told};

#[tokio::test]
async fn a_product_of_the_wrong_shape_is_refused_with_pointers() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let with = |member: &str, value: Value| {
        let mut terms = terms(10);
        terms[member] = value;
        terms
    };
    let grants = |grants: Value| with("grants", grants);
    let vectors = [
        (json!({}), "/currency /name /unit_amount"),
        (json!(["Mug", 500, "EUR"]), ""),
        (
            json!({"name": 7, "unit_amount": 0, "currency": "eur", "grants": {"days": 0}}),
            "/currency /grants/days /grants/feature /name /unit_amount",
        ),
        (with("name", json!("")), "/name"),
        (with("name", json!("x".repeat(201))), "/name"),
        (with("name", json!("a\0b")), "/name"),
        (with("unit_amount", json!(0)), "/unit_amount"),
        (with("unit_amount", json!(-1)), "/unit_amount"),
        (with("unit_amount", json!(100_000_000)), "/unit_amount"),
        (with("unit_amount", json!(1.5)), "/unit_amount"),
        (with("currency", json!("eur")), "/currency"),
        (with("currency", json!("XXQ")), "/currency"),
        (with("currency", json!("EURO")), "/currency"),
        (with("stock", json!(-1)), "/stock"),
        (with("stock", json!(1_000_000_001)), "/stock"),
        (with("stock", json!(9_007_199_254_740_992_i64)), "/stock"),
        (with("colour", json!("red")), "/colour"),
        (grants(json!({})), "/grants/feature"),
        (grants(json!([])), "/grants"),
        (grants(json!(["pro", 1, 1])), "/grants"),
        (grants(json!({"feature": "a b"})), "/grants/feature"),
        (grants(json!({"feature": "pro", "units": 0})), "/grants/units"),
        (grants(json!({"feature": "pro", "units": 1_000_000_001})), "/grants/units"),
        (grants(json!({"feature": "pro", "days": 3651})), "/grants/days"),
        (grants(json!({"feature": "pro", "hours": 1})), "/grants/hours"),
    ];

    for (body, pointer) in vectors {
        let answer = app.put("/v1/products/mug", body.clone()).await.expect_problem(422, "invalid-request");
        assert_eq!(answer.pointers().join(" "), pointer, "{body} {answer:?}");
    }

    assert_eq!(app.rows(), before);
}

/// 65 kB of faults once cost a worker 1.7 s, and the answer had 1.8 MB. `parts/checked-body` counts the work.
#[tokio::test]
async fn an_answer_names_twenty_faults_and_repeats_no_value() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let members = |names: usize, value: &str| {
        let members: Vec<_> = (0..names).map(|n| format!("\"m{n}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let items = |item: &str, count: usize| format!(r#"{{"customer":"ada","items":[{}]}}"#, vec![item; count].join(","));
    let (half, long) = ("secret".repeat(5000), "secret".repeat(10_000));
    let vectors = [
        (items("1", 32_700), 20),
        (items("{}", 20_000), 20),
        (items(r#"{"sku":"a","quantity":1}"#, 100), 20),
        (items(r#"{"sku":"a","quantity":9007199254740992}"#, 1000), 20),
        (items("9007199254740992", 3800), 20),
        (members(6000, "1"), 20),
        (members(2500, "-9007199254740992"), 20),
        (format!(r#"{{"customer":"{half}","items":"{half}"}}"#), 2),
        (format!(r#"{{"{long}":1}}"#), 3),
        (format!(r#"{{"{long}":[{}1]}}"#, "9007199254740992,".repeat(200)), 3),
    ];

    for (body, faults) in vectors {
        let shown = &body[..60];
        assert!(body.len() < 65_536, "{shown}");
        let answer = post_raw(&app, body.clone()).await.expect_problem(422, "invalid-request");
        let mut pointers = answer.pointers();
        assert!(answer.body.len() < 4096 && !answer.body.contains("secret"), "{shown}: {answer:?}");
        assert_eq!(pointers.len(), faults, "{shown}: {answer:?}");
        pointers.dedup();
        assert_eq!(pointers.len(), faults, "{shown}: {answer:?}");
    }
    let query: Vec<_> = (0..5000).map(|n| format!("q{n}=1")).collect();
    for path in ["/v1/orders", "/v1/products/sticker"] {
        let answer = app.get(&format!("{path}?{}", query.join("&"))).await.expect_problem(422, "invalid-request");
        assert_eq!(answer.pointers().len(), 20, "{path}");
    }

    expect_nothing_changed(&app, before).await;
}

#[tokio::test]
async fn a_member_that_is_null_is_absent() {
    let app = App::start_with_pool(2).await;
    let grants = json!({"feature": "pro", "units": null, "days": null, "colour": null});
    let mug =
        json!({"name": "Mug", "unit_amount": 1, "currency": "EUR", "stock": null, "grants": grants, "colour": null});
    let made = app.put("/v1/products/mug", mug).await.expect(201).json();
    assert_eq!(
        (&made["stock"], &made["grants"]),
        (&json!(null), &json!({"feature": "pro", "units": null, "days": null}))
    );

    let grant = json!({"customer": "ada", "feature": "x", "units": null, "expires_at": null});
    let granted = app.post("/v1/entitlements", "k", grant).await.expect(201);
    app.post(&format!("/v1/entitlements/{}/revoke", granted.id()), "k", json!({"why": null})).await.expect(200);

    let items = json!([{"sku": "sticker", "quantity": null}, null]);
    let wrong = app.post("/v1/orders", "o", json!({"customer": null, "items": items})).await;
    let told = told(&wrong.expect_problem(422, "invalid-request"));
    let told: Vec<_> = told.iter().map(|(pointer, detail)| (pointer.as_str(), detail.as_str())).collect();
    let missing = "is missing";
    assert_eq!(told, [("/customer", missing), ("/items/0/quantity", missing), ("/items/1", "must be an object")]);
}

#[tokio::test]
async fn bad_pages_and_ids_are_refused() {
    let app = App::start_with_pool(2).await;
    for query in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=99999999999999999999"] {
        for list in ["/v1/orders", "/v1/products"] {
            let answer = app.get(&format!("{list}?{query}")).await.expect_problem(422, "invalid-request");
            assert_eq!(answer.pointers(), ["/limit"], "{query}");
        }
    }
    for query in ["after=", "after=x%20y", "after=%00", "after=%ff", "after=1%27%20OR%201=1"] {
        for list in LISTS {
            let answer = app.get(&format!("{list}?{query}")).await.expect_problem(422, "invalid-request");
            assert_eq!(answer.pointers(), ["/after"], "{list} {query}");
        }
    }
    let repeated = app.get("/v1/orders?limit=x&limit=2&colour=1&colour=2").await.expect_problem(422, "invalid-request");
    assert_eq!(
        told(&repeated),
        [("/colour".to_owned(), "unknown parameter".to_owned()), ("/limit".to_owned(), "appears twice".to_owned())]
    );
    let several = app.get("/v1/entitlements?limit=x&costumer=ada&feature=a%20b&created_from=now").await;
    assert_eq!(several.pointers(), ["/costumer", "/created_from", "/feature", "/limit"], "{several:?}");
    for list in LISTS {
        let answer = app.get(&format!("{list}?colour=red")).await.expect_problem(422, "invalid-request");
        assert_eq!(told(&answer), [("/colour".to_owned(), "unknown parameter".to_owned())], "{list}");
    }

    let unread = app.post("/v1/orders?dry_run=true", "key", one_item("sticker", 1)).await;
    assert_eq!(
        told(&unread.expect_problem(422, "invalid-request")),
        [("/dry_run".to_owned(), "unknown parameter".to_owned())]
    );
    app.get("/v1/products/sticker?x").await.expect_problem(422, "invalid-request");

    for path in ["/v1/orders/7", "/v1/orders/%00", "/v1/orders/%ff", "/v1/products/%00", "/v1/products/a%20b"] {
        app.get(path).await.expect_problem(404, "not-found");
    }
    app.put("/v1/products/a%20b", terms(1)).await.expect_problem(404, "not-found");
    app.put(&format!("/v1/products/{}", "x".repeat(65)), terms(1)).await.expect_problem(404, "not-found");
    app.post("/v1/orders/7/cancel", "key", json!({})).await.expect_problem(404, "not-found");
}
