//! The pages for people: they load nothing from other hosts, a browser caches them, and only the demo has the stage.

use std::io::Write;
use std::process::{Command, Stdio};

use idempotent_payments::http::problems;

use crate::app::{Answer, App, send};

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

/// These bytes, unpacked by gzip.
fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut into, packed) = (gzip.stdin.take().unwrap(), packed.to_vec());
    let writing = std::thread::spawn(move || into.write_all(&packed).unwrap());
    let unpacked = gzip.wait_with_output().unwrap().stdout;
    writing.join().unwrap();
    unpacked
}

#[tokio::test]
async fn pages_are_compressed_for_clients_that_accept_it_and_the_api_is_not() {
    let app = App::start_with_demo().await;
    let packed = |path: &str| app.request("GET", path).header("Accept-Encoding", "gzip, deflate, br").send();
    let header = |answer: &reqwest::Response, name: &str| -> Option<String> {
        answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let varies = |answer: &reqwest::Response| {
        header(answer, "Vary").is_some_and(|names| names.split(", ").any(|name| name == "accept-encoding"))
    };

    for path in PAGES.into_iter().chain(["/docs/swagger-ui-bundle.js", "/openapi.json"]) {
        let plain = app.request("GET", path).send().await.unwrap();
        let answer = packed(path).await.unwrap();
        assert_eq!(header(&plain, "Content-Encoding"), None, "{path}");
        assert_eq!(header(&answer, "Content-Encoding").as_deref(), Some("gzip"), "{path}");
        assert!(varies(&answer), "{path}");
        assert_eq!(header(&answer, "ETag"), header(&plain, "ETag"), "{path}");
        if let Some(tag) = header(&answer, "ETag") {
            assert!(tag.starts_with("W/"), "{path}: {tag} names more than one sequence of bytes");
            let request = app.request("GET", path).header("Accept-Encoding", "gzip").header("If-None-Match", &tag);
            let again = request.send().await.unwrap();
            assert!(again.status() == 304 && varies(&again), "{path}: {again:?}");
            assert_eq!(header(&again, "ETag"), Some(tag), "{path}");
        }
        let (plain, answer) = (plain.bytes().await.unwrap(), answer.bytes().await.unwrap());
        assert!(answer.len() < plain.len() * 2 / 3, "{path}: {} of {} bytes", answer.len(), plain.len());
        assert_eq!(unpacked(&answer), plain, "{path}");
    }
    for path in ["/v1/products", "/metrics", "/health/ready"] {
        let answer = packed(path).await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "Content-Encoding")), (200, None), "{path}");
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
    // Other pages link to these ids of rows and guarantees.
    for id in ["post-v1-charges", "post-v1-charges-id-refunds", "failures", "g1", "g8"] {
        assert!(html.contains(&format!("id=\"{id}\"")), "{id} is missing");
    }
}

#[tokio::test]
async fn without_the_demo_the_front_page_is_small_and_there_are_no_sources() {
    let app = App::start().await;

    let home = page(&app, "/").await.expect(200).body;
    for of_the_demo in ["<script", "sk_demo", "data-server", ">Break it<"] {
        assert!(!home.contains(of_the_demo), "{home}");
    }
    for link in ["/docs", "/problems", "/policies"] {
        assert!(home.contains(&format!("href=\"{link}\"")), "{home}");
    }
    send(app.anonymous("GET", "/source/crates/idempotency/src/lib.rs")).await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn a_wrong_path_is_a_page_for_a_browser_and_a_document_for_a_client() {
    let app = App::start().await;

    let lost = page(&app, "/unheard-of").await.expect(404);
    assert_eq!(lost.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(lost.header("Vary").is_some_and(|names| names.split(", ").any(|name| name == "Accept")), "{lost:?}");
    assert!(lost.body.contains("href=\"/docs\""), "{}", lost.body);
    send(app.anonymous("GET", "/unheard-of")).await.expect_problem(404, "not-found");
    send(app.anonymous("POST", "/unheard-of").header("Accept", BROWSER)).await.expect_problem(404, "not-found");
}

/// The modules that a module imports.
fn modules(script: &str) -> impl Iterator<Item = String> {
    let names = script.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next());
    names.map(|name| format!("/assets/stage/{name}"))
}

#[tokio::test]
async fn the_stage_is_whole_and_below_250_kb() {
    let app = App::start_with_demo().await;
    let html = page(&app, "/").await.expect(200).body;
    assert!(html.contains("<html lang=\"en\" data-server>") && html.contains(">Break it</a>"), "{html}");

    let mut files = links(&html);
    files.retain(|file| file.starts_with("/assets/"));
    // What an opened beat loads besides the page.
    files.push("/assets/stage/recordings/crash-after-capture.jsonl".to_owned());
    let mut size = html.len();
    let mut next = 0;
    while let Some(file) = files.get(next).cloned() {
        next += 1;
        let answer = page(&app, &file).await.expect(200);
        size += answer.header("Content-Length").unwrap().parse::<usize>().unwrap();
        if file.strip_suffix(".js").is_some() {
            for module in modules(&answer.body) {
                if !files.contains(&module) {
                    files.push(module);
                }
            }
        }
    }
    for file in ["state.js", "draw.js", "scale.js"] {
        assert!(files.contains(&format!("/assets/stage/{file}")), "{files:?}");
    }
    assert!(size < 250_000, "{size} bytes: {files:?}");
}

#[tokio::test]
async fn a_file_answers_head_as_it_answers_get() {
    let app = App::start_with_demo().await;

    for path in ["/", "/assets/base.css", "/assets/stage/main.js", "/docs/swagger-ui.css"] {
        let got = page(&app, path).await.expect(200);
        let head = send(app.anonymous("HEAD", path)).await.expect(200);
        assert_eq!((head.body.as_str(), head.header("ETag")), ("", got.header("ETag")), "{path}");
        assert_eq!(head.header("Content-Length"), got.header("Content-Length"), "{path}");
    }
}

#[tokio::test]
async fn a_source_has_an_anchor_for_each_line_and_nothing_else_is_a_source() {
    let app = App::start_with_demo().await;

    let source = page(&app, "/source/src/server/pages/mod.rs").await.expect(200).body;
    assert!(source.contains("<span id=\"L1\">//! Pages for people"), "{source}");
    assert!(source.contains("&lt;dyn ") || source.contains("&lt;Demo&gt;"), "{source}");
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
