//! Jobs of Buildkite, as its documentation and its own collector's tests show the answers.

use serde_json::{Value, json};
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::free_port;
use crate::support::source::{depth, fails_as, read};

/// The answers of buildkite-agent-metrics `collector/collector_test.go` at 220234fa, with `waiting` as in
/// <https://buildkite.com/docs/apis/agent-api/metrics>.
const ALL_QUEUES: &str = r#"{"organization": {"slug": "org-name"}, "jobs":{"scheduled":3,"running":1,"waiting":2,"total":4,"queues":{"default":{"scheduled":2,"running":1,"waiting":2,"total":3},"deploy":{"scheduled":1,"running":0,"waiting":0,"total":1}}},"agents":{"idle":0,"busy":1,"total":1,"queues":{"default":{"idle":0,"busy":1,"total":1}}}}"#;
const ONE_QUEUE: &str = r#"{"organization": {"slug": "org-name"}, "jobs":{"scheduled":3,"running":1,"total":4},"agents":{"idle":0,"busy":1,"total":1}}"#;
const NO_JOBS: &str = r#"{"organization": {"slug": "org-name"}, "jobs":{"scheduled":0,"running":0,"all":0,"queues":{}},"agents":{"idle":0,"busy":0,"all":0,"queues":{}}}"#;
const EMPTY: &str = r#"{"organization": {"slug": "org-name"}}"#;

fn queue(url: &str) -> Value {
    json!({ "type": "buildkite", "url": url, "queue": "deploy", "agent_token": "canary-token", "ca": CA })
}

fn at(server: &HttpServer) -> Value {
    queue(&server.url().replace("/depth", "/v3"))
}

#[tokio::test]
async fn buildkites_jobs_are_told_apart() {
    let routes = vec![
        ("GET /v3/metrics/queue?name=deploy ", Reply::json(ONE_QUEUE)),
        ("GET /v3/metrics ", Reply::json(ALL_QUEUES)),
    ];
    let server = HttpServer::start(Reply::Routes(routes)).await;
    let expected = QueueDepth { backlog: 3, in_flight: Some(1), ..QueueDepth::default() };
    assert_eq!(depth(at(&server)).await, expected);
    let mut all = at(&server);
    all.as_object_mut().expect("an object").remove("queue");
    assert_eq!(depth(all).await, QueueDepth { delayed: Some(2), ..expected });
    assert!(server.seen().contains("authorization: Token canary-token"));
}

#[tokio::test]
async fn buildkite_without_jobs_is_zero_and_without_numbers_an_error() {
    let server = HttpServer::start(Reply::json(NO_JOBS)).await;
    assert_eq!(depth(at(&server)).await, QueueDepth { in_flight: Some(0), ..QueueDepth::default() });
    for (answer, kind) in [
        (EMPTY, ErrorKind::Missing),
        (r#"{"jobs": {"scheduled": null}}"#, ErrorKind::Missing),
        (r#"{"jobs": {"scheduled": "3"}}"#, ErrorKind::Malformed),
        (r#"{"jobs": {"scheduled": 3, "running": -1}}"#, ErrorKind::Malformed),
        (r#"{"jobs": {"scheduled": 3, "waiting": 0.5}}"#, ErrorKind::Malformed),
        ("[]", ErrorKind::Missing),
        ("<html>", ErrorKind::Malformed),
    ] {
        server.answer(Reply::json(answer));
        assert_eq!(read(at(&server)).await.expect_err(answer).kind(), kind, "{answer}");
    }
}

#[tokio::test]
async fn buildkites_refusals_say_what_to_do() {
    let server = HttpServer::start(Reply::status(404)).await;
    fails_as("buildkite", "missing", at(&server)).await;
    server.answer(Reply::status(401));
    fails_as("buildkite", "password", at(&server)).await;
    fails_as("buildkite", "port", queue(&format!("http://127.0.0.1:{}/v3", free_port()))).await;
    server.answer(Reply::Half);
    fails_as("buildkite", "killed", at(&server)).await;
}

#[tokio::test]
async fn buildkites_certificate_is_verified() {
    let (plain, tls) =
        (HttpServer::start(Reply::json(ONE_QUEUE)).await, HttpServer::with_tls(Reply::json(ONE_QUEUE)).await);
    assert_eq!(depth(at(&tls)).await.backlog, 3);
    let mut unknown = at(&tls);
    unknown.as_object_mut().expect("an object").remove("ca");
    fails_as("buildkite", "tls", unknown).await;
    let swapped =
        |server: &HttpServer, from: &str, to: &str| queue(&server.url().replace("/depth", "/v3").replacen(from, to, 1));
    let error = read(swapped(&plain, "http:", "https:")).await.expect_err("it speaks no TLS");
    assert!(error.to_string().contains("the port does not speak TLS"), "{error}");
    let error = read(swapped(&tls, "https:", "http:")).await.expect_err("it speaks TLS");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
