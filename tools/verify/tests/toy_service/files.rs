//! A configuration file: several endpoints, one command.

use std::fmt::Write as _;

use serde_json::Value;

use crate::binary::{err, out, verify};
use crate::toy::{Defect, Toy};

/// Writes a file with an endpoint for each base, and runs it.
async fn run(name: &str, bases: &[(&str, &str)], more: &[&str]) -> std::process::Output {
    let mut file =
        "profile = 'this'\nbody = '{\"customer\":\"ada\",\"quantity\":1}'\nonly = ['replay-marker']\n".to_owned();
    for (name, base) in bases {
        let _ = write!(file, "[[endpoint]]\nname = '{name}'\nmethod = 'POST'\nurl = '{base}/things'\n");
    }
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap();
    verify(&[&["--config", path], more].concat()).await
}

#[tokio::test]
async fn each_endpoint_has_its_report() {
    let (right, wrong) = (Toy::start(Defect::None), Toy::start(Defect::MarkerMissing));
    let bases = [("right", right.base.as_str()), ("wrong", wrong.base.as_str())];
    let output = run("each.toml", &bases, &["--format", "json"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_str(out(&output)).unwrap();
    let status = |number: usize| report["endpoints"][number]["report"]["findings"][0]["status"].as_str().unwrap();
    assert_eq!((status(0), status(1)), ("pass", "fail"));
    let output = run("one.toml", &bases, &["--endpoint", "right"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(out(&output).contains("=== right") && !out(&output).contains("=== wrong"), "{output:?}");
}

#[tokio::test]
async fn an_endpoint_that_can_t_be_checked_is_an_error_and_the_others_are_checked() {
    let (right, wrong) = (Toy::start(Defect::None), Toy::start(Defect::None));
    let nowhere = format!("{}/nowhere", wrong.base);
    let bases = [("lost", nowhere.as_str()), ("right", right.base.as_str())];
    let output = run("lost.toml", &bases, &["--format", "junit"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let xml = out(&output);
    for part in ["tests=\"2\"", "errors=\"1\"", "name=\"lost: the request\"", "name=\"right: replays\"", "answered 404"]
    {
        assert!(xml.contains(part), "{part} is missing in {xml}");
    }
}

#[tokio::test]
async fn an_option_of_the_endpoint_has_no_place_beside_a_file() {
    let toy = Toy::start(Defect::None);
    for more in [["--body", "{}"], ["--profile", "this"], ["POST", "http://127.0.0.1/"]] {
        let output = run("beside.toml", &[("right", &toy.base)], &more).await;
        assert_eq!(output.status.code(), Some(2), "{more:?}: {output:?}");
        assert!(err(&output).contains("cannot be used with"), "{}", err(&output));
    }
}
