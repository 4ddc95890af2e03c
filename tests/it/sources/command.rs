use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::config::{Input, Problems, load};
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;

use crate::support::source::{depth, fails_as, gauge, read, read_in};

fn shell(script: &str) -> Value {
    json!({ "type": "command", "program": ["/bin/sh", "-c", script] })
}

#[tokio::test]
async fn a_program_prints_how_much_waits() {
    assert_eq!(gauge(json!({ "type": "command", "program": ["echo", "42"] })).await, 42.0);
    assert_eq!(gauge(shell("echo 0")).await, 0.0);
    let mut counts = shell(r#"echo '{"ready": 5, "unacked": 2}'"#);
    counts["fields"] = json!({ "backlog": "/ready", "in_flight": "/unacked" });
    assert_eq!(depth(counts).await, QueueDepth { backlog: 5, in_flight: Some(2), ..QueueDepth::default() });
    let mut sum = shell(r#"echo '[{"n": 1}, {"n": 2.5}]'"#);
    sum["expression"] = "sum(doc, .n)".into();
    assert_eq!(gauge(sum).await, 3.5);
}

#[tokio::test]
async fn a_program_that_fails_is_no_number_whatever_it_printed() {
    fails_as("command", "missing", json!({ "type": "command", "program": ["/no/such/program"] })).await;
    fails_as("command", "killed", shell("printf 12; kill -9 $$")).await;
    for (script, kind, says) in [
        ("echo 12; echo oops >&2; exit 3", ErrorKind::Unavailable, "exited with 3: oops"),
        ("true", ErrorKind::Missing, "printed nothing"),
        ("echo", ErrorKind::Missing, "printed nothing"),
        ("echo many", ErrorKind::Malformed, "no JSON"),
        ("echo NaN", ErrorKind::Malformed, "no JSON"),
        ("echo -1", ErrorKind::Malformed, "no finite number"),
        ("echo null", ErrorKind::Missing, "nothing at"),
        ("echo 1 2", ErrorKind::Malformed, "no JSON"),
        ("head -c 70000 /dev/zero", ErrorKind::Malformed, "more than 65536 bytes"),
    ] {
        let error = read(shell(script)).await.expect_err(script);
        assert_eq!(error.kind(), kind, "{script}: {error}");
        assert!(error.to_string().contains(says), "{script}: {error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "echo 5").expect("writing a file");
    let error = read(json!({ "type": "command", "program": [plain] })).await.expect_err("it is not executable");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn a_program_has_the_variables_that_are_listed_and_no_others() {
    let mut settings = shell(r#"test -z "$CARGO_MANIFEST_DIR$OTHER" && echo "$COUNT""#);
    settings["env"] = json!({ "COUNT": "env:WAITING" });
    let reading = read_in(&[("WAITING", "7"), ("OTHER", "x")], settings).await.expect("it has what it needs");
    assert_eq!(serde_json::to_value(reading.amount).expect("it is JSON")["value"], 7.0);
    let mut secret = shell(r#"echo "cannot log in with $PASSWORD" >&2; exit 1"#);
    secret["env"] = json!({ "PASSWORD": "canary-password" });
    let error = read(secret).await.expect_err("it fails");
    assert!(error.to_string().contains("cannot log in with ***"), "{error}");
}

#[tokio::test]
async fn what_takes_too_long_is_killed_with_everything_that_it_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let pids = folder.path().join("pids");
    let script = format!("sleep 60 & echo $! $$ > {}; echo 5; wait", pids.display());
    let mut settings = shell(&script);
    settings["env"] = json!({ "PATH": "/usr/bin:/bin" });
    settings["timeout_ms"] = 500.into();
    let began = Instant::now();
    let error = read(settings).await.expect_err("it does not end");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    all_end(&std::fs::read_to_string(&pids).expect("it got that far")).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    // The second has closed what it prints to before it ends.
    for end in ["", "; exec >&- 2>&-; sleep 0.2"] {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = folder.path().join("pids");
        let script = format!("sleep 60 >/dev/null 2>&1 & echo $! $$ > {}; echo 5{end}", pids.display());
        let mut settings = shell(&script);
        settings["env"] = json!({ "PATH": "/usr/bin:/bin" });
        assert_eq!(gauge(settings).await, 5.0);
        all_end(&std::fs::read_to_string(&pids).expect("it got that far")).await;
    }
}

/// Waits until none of the processes runs.
async fn all_end(pids: &str) {
    let runs = |pid: &str| {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = state.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state.is_some_and(|state| !['Z', 'X'].contains(&state))
    };
    let began = Instant::now();
    while pids.split_whitespace().any(runs) {
        assert!(began.elapsed() < Duration::from_secs(20), "{pids} still run");
        tokio::task::yield_now().await;
    }
}

fn configured(by_payload: bool, in_lambda: bool) -> Result<(), Problems> {
    let mut vars: BTreeMap<_, _> = BTreeMap::from([("S3_CONFIG_BUCKET".to_owned(), "state".to_owned())]);
    let document = json!({ "services": [{
        "name": "orders", "target": { "type": "ecs", "cluster": "prod", "service": "orders" },
        "sources": [{ "type": "command", "program": ["echo", "5"] }], "policies": [{ "type": "threshold" }],
    }] });
    let event = if by_payload { json!({ "config": document }) } else { json!({}) };
    if !by_payload {
        vars.insert("CONFIG".to_owned(), document.to_string());
    }
    load(Input { vars: &vars, event: &event, in_lambda, remote: None }).map(|_| ())
}

#[test]
fn a_program_is_run_neither_for_a_payload_nor_in_a_function() {
    assert_eq!(configured(false, false), Ok(()));
    for (by_payload, in_lambda, says) in [(true, false, "for a payload"), (false, true, "for a function")] {
        let problems = configured(by_payload, in_lambda).expect_err("it is refused");
        assert!(problems.0.iter().any(|problem| problem.problem.contains(says)), "{problems:?}");
    }
    let short = json!({ "config": { "queue_type": "exec", "queue_config": { "program": ["echo", "5"] } } });
    let vars = [("ECS_CLUSTER", "prod"), ("SERVICE_NAME", "orders"), ("S3_CONFIG_BUCKET", "state")];
    let vars: BTreeMap<_, _> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let problems =
        load(Input { vars: &vars, event: &short, in_lambda: false, remote: None }).expect_err("it is refused");
    assert!(problems.0.iter().any(|problem| problem.problem.contains("for a payload")), "{problems:?}");
}
