//! The pages for people: they load nothing from other hosts, a browser caches them, and only the demo has the playground.

use idempotent_payments::http::problems;
use serde_json::json;

use crate::app::{Answer, App, one_item, send};

/// Pages of each kind, and two of their files.
const PAGES: [&str; 8] = [
    "/",
    "/docs",
    "/docs/",
    "/problems",
    "/problems/internal",
    "/policies",
    "/assets/base.css",
    "/docs/swagger-ui.css",
];

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn page(app: &App, path: &str) -> Answer {
    send(app.anonymous("GET", path).header("Accept", BROWSER)).await
}

/// The paths that the HTML loads or links.
fn links(html: &str) -> Vec<String> {
    let attributes = html.split("href=\"").skip(1).chain(html.split("src=\"").skip(1));
    attributes.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn no_page_may_load_from_another_host_or_run_inline_code() {
    let app = App::start_with_demo().await;

    for path in PAGES.into_iter().chain(["/problems/unheard-of", "/source/crates/idempotency/src/lib.rs"]) {
        let answer = page(&app, path).await;
        let csp = answer.header("Content-Security-Policy").unwrap_or_else(|| panic!("{path} has no policy"));
        assert!(csp.contains("default-src 'none'") && csp.contains("script-src 'self'"), "{path}: {csp}");
        assert!(!csp.contains("unsafe") && !csp.contains("http"), "{path}: {csp}");
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{path}");
        if answer.header("Content-Type") == Some("text/html; charset=utf-8") {
            for inline in ["<style", "style=\"", "<script>", " onclick="] {
                assert!(!answer.body.contains(inline), "{path} has {inline}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_that_the_browser_has_is_not_sent_again() {
    let app = App::start_with_demo().await;

    for path in PAGES {
        let first = page(&app, path).await.expect(200);
        let tag = first.header("ETag").unwrap_or_else(|| panic!("{path} has no ETag")).to_owned();
        assert_eq!(first.header("Cache-Control"), Some("no-cache"), "{path}");
        let again = send(app.anonymous("GET", path).header("If-None-Match", &tag)).await.expect(304);
        assert_eq!((again.body.as_str(), again.header("ETag")), ("", Some(tag.as_str())), "{path}");
        send(app.anonymous("GET", path).header("If-None-Match", "\"another\"")).await.expect(200);
    }
}

#[tokio::test]
async fn all_pages_carry_one_header_and_no_dead_link() {
    let app = App::start_with_demo().await;

    for path in [
        "/",
        "/docs",
        "/problems",
        "/problems/internal",
        "/problems/unheard-of",
        "/policies",
        "/source/src/shop/orders/mod.rs",
    ] {
        let html = page(&app, path).await.body;
        for entry in ["href=\"/\"", "href=\"/docs\"", "href=\"/problems\"", "href=\"/policies\""] {
            assert!(html.contains(entry), "{path} lacks {entry}");
        }
        for link in links(&html) {
            let link = link.split('#').next().unwrap();
            assert!(link.is_empty() || page(&app, link).await.status == 200, "{path} links {link}");
        }
    }
}

#[tokio::test]
async fn the_index_names_every_problem() {
    let app = App::start().await;

    for path in ["/problems", "/problems/"] {
        let index = page(&app, path).await.expect(200).body;
        for problem in problems::ALL {
            assert!(index.contains(&format!("href=\"/problems/{}\"", problem.slug)), "{path} lacks {}", problem.slug);
        }
    }
}

#[tokio::test]
async fn a_problem_that_does_not_exist_is_a_page_for_a_browser_and_a_document_for_a_client() {
    let app = App::start().await;

    let page = page(&app, "/problems/%3Cb%3Eunheard").await.expect(404);
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(page.header("Vary").is_some_and(|names| names.split(", ").any(|name| name == "Accept")), "{page:?}");
    assert!(page.body.contains("&lt;b&gt;unheard") && page.body.contains("href=\"/problems\""), "{}", page.body);
    for accept in ["application/json", "*/*"] {
        let answer = send(app.anonymous("GET", "/problems/unheard-of").header("Accept", accept)).await;
        answer.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn the_policies_page_has_a_row_for_each_policy() {
    let app = App::start().await;

    let html = page(&app, "/policies").await.expect(200).body;
    for policy in idempotent_payments::server::api().policies() {
        assert!(html.contains(&format!("<code>{}</code>", policy.route)), "{} is missing", policy.route);
    }
    // The playground links to these ids of rows and guarantees.
    for id in ["post-v1-charges", "post-v1-charges-id-refunds", "failures", "g1", "g8"] {
        assert!(html.contains(&format!("id=\"{id}\"")), "{id} is missing");
    }
}

#[tokio::test]
async fn without_the_demo_the_front_page_is_small_and_there_are_no_books_and_no_sources() {
    let app = App::start().await;

    let home = page(&app, "/").await.expect(200).body;
    for of_the_demo in ["<script", "sk_demo", ">Playground<"] {
        assert!(!home.contains(of_the_demo), "{home}");
    }
    for link in ["/docs", "/problems", "/policies"] {
        assert!(home.contains(&format!("href=\"{link}\"")), "{home}");
    }
    for path in ["/demo/gateway/captures?reference=x", "/source/crates/idempotency/src/lib.rs"] {
        send(app.anonymous("GET", path)).await.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn the_demo_shows_the_gateways_books_of_one_call_and_nothing_else() {
    let app = App::start_with_demo().await;
    assert!(page(&app, "/").await.expect(200).body.contains("/assets/playground/main.js"));
    let order = app.post("/v1/orders", "order", one_item("pro-monthly", 1)).await.expect(201).json();
    let body = json!({"order_id": order["id"], "payment_method": "pm_card_visa"});
    let charge = app.post("/v1/charges", "charge", body).await.expect(201).json();
    let reference = charge["reference"].as_str().unwrap();

    let books = |path: String| send(app.anonymous("GET", &format!("/demo/gateway/{path}")));
    let lines = books(format!("captures?reference={reference}")).await.expect(200).json();
    assert_eq!(lines.as_array().map(Vec::len), Some(1), "{lines}");
    assert_eq!((&lines[0]["amount"], &lines[0]["outcome"]), (&json!(4900), &json!("succeeded")));
    assert_eq!(books("captures?reference=another".into()).await.expect(200).json(), json!([]));
    assert_eq!(books(format!("refunds?reference={reference}")).await.expect(200).json(), json!([]));

    for refused in ["captures", "captures?reference=x&limit=1", "keys?reference=x", "..%2Fcaptures?reference=x"] {
        let status = books(refused.into()).await.status;
        assert!((400..500).contains(&status), "{refused} is answered {status}");
    }
    send(app.anonymous("POST", "/demo/gateway/captures").json(&json!({}))).await.expect(405);
}

#[tokio::test]
async fn books_that_cannot_be_read_are_a_502() {
    let app = App::start_with_demo_of("http://127.0.0.1:1");

    let answer = send(app.anonymous("GET", "/demo/gateway/captures?reference=x")).await.expect(502);
    assert_eq!(answer.json()["type"], "about:blank");
    assert!(!answer.body.contains("127.0.0.1"), "{answer:?}");
}

#[tokio::test]
async fn every_file_that_the_playground_links_exists() {
    let app = App::start_with_demo().await;

    let mut files = 0;
    for script in ["scenes.js", "details.js"] {
        let text = page(&app, &format!("/assets/playground/{script}")).await.expect(200).body;
        for file in text.split('"').filter(|part| part.strip_suffix(".rs").is_some()) {
            page(&app, &format!("/source/{file}")).await.expect(200);
            files += 1;
        }
    }
    assert!(files >= 8, "{files} links were found");
    for outside in [
        "Cargo.toml",
        "src/../Cargo.toml",
        "src%2F..%2FCargo.toml",
        "src/schema.sql",
        "src/server/pages/assets/home.html",
        "crates/idempotency/Cargo.toml",
    ] {
        assert_eq!(page(&app, &format!("/source/{outside}")).await.status, 404, "{outside}");
    }
}
