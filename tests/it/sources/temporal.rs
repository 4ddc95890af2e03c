//! Temporal's HTTP API, as temporalio/api describes it and temporalio/temporal writes it.

use serde_json::{Value, json};
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::free_port;
use crate::support::source::{depth, fails_as, gauge, read};

/// An answer in the form that only Temporal has, which leaves zeros out: `service/frontend/protojson_marshaler.go` of
/// temporalio/temporal at 1bac2626.
fn temporals(body: &Value) -> Reply {
    let head = "content-type: application/json+no-payload-shorthand\r\n";
    Reply::Plain(200, head.to_owned(), body.to_string())
}

/// `DescribeTaskQueueResponse` of temporalio/api `openapi/openapiv2.json` at a43d7d32.
fn stats(stats: &Value) -> Reply {
    temporals(
        &json!({ "pollers": [{ "lastAccessTime": "2026-11-22T08:00:00Z", "identity": "1@host" }], "stats": stats }),
    )
}

/// An error as the server writes it: `google.rpc.Status`.
fn refusal(status: u16, code: u16) -> Reply {
    Reply::Plain(status, String::new(), json!({ "code": code, "message": "canary" }).to_string())
}

fn at(server: &HttpServer) -> Value {
    workflows(&server.url().replace("/depth", ""))
}

fn workflows(url: &str) -> Value {
    json!({ "type": "temporal", "url": url, "namespace": "default", "api_key": "canary-key", "ca": CA })
}

fn queue(server: &HttpServer) -> Value {
    let mut settings = at(server);
    settings["task_queue"] = json!("orders/eu");
    settings
}

#[tokio::test]
async fn temporals_waiting_tasks_are_added_up() {
    let waiting = |count: &str, age: &str| {
        let rates = json!({ "approximateBacklogCount": count, "approximateBacklogAge": age, "tasksAddRate": 0.5 });
        stats(&rates)
    };
    let server = HttpServer::start(Reply::Routes(vec![
        ("taskQueueType=TASK_QUEUE_TYPE_WORKFLOW&reportStats=true ", waiting("7", "3.5s")),
        ("taskQueueType=TASK_QUEUE_TYPE_ACTIVITY&reportStats=true ", waiting("5", "120.5s")),
    ]))
    .await;
    let both =
        QueueDepth { backlog: 12, in_flight: None, delayed: None, oldest_age_secs: Some(120), ..QueueDepth::default() };
    assert_eq!(depth(queue(&server)).await, both);
    let mut workflows = queue(&server);
    workflows["task_types"] = json!(["workflow"]);
    assert_eq!(depth(workflows).await, QueueDepth { backlog: 7, oldest_age_secs: Some(3), ..both });
    assert!(server.seen().contains("GET /api/v1/namespaces/default/task-queues/orders%2Feu?"), "{}", server.seen());
}

#[tokio::test]
async fn temporals_running_workflows_are_counted_as_by_fly_autoscaler() {
    let server = HttpServer::start(temporals(&json!({ "count": "42" }))).await;
    let mut settings = at(&server);
    assert_eq!(gauge(settings.clone()).await, 42.0);
    assert!(server.seen().contains("workflow-count?query=ExecutionStatus%3D%22Running%22 "), "{}", server.seen());
    settings["query"] = json!("WorkflowType='Order'");
    assert_eq!(gauge(settings).await, 42.0);
    let expected = "query=ExecutionStatus%3D%22Running%22+AND+%28WorkflowType%3D%27Order%27%29 ";
    assert!(server.seen().contains(expected), "{}", server.seen());
}

#[tokio::test]
async fn temporals_empty_queue_is_zero_and_an_answer_of_somebody_else_an_error() {
    let server = HttpServer::start(temporals(&json!({}))).await;
    assert_eq!(gauge(at(&server)).await, 0.0);
    server.answer(stats(&json!({})));
    assert_eq!(depth(queue(&server)).await, QueueDepth::default());
    for (answer, kind) in [
        (temporals(&json!({ "pollers": [] })), ErrorKind::Missing),
        (temporals(&json!({ "stats": null })), ErrorKind::Missing),
        (Reply::json(json!({ "stats": {} })), ErrorKind::Missing),
        (Reply::json("{}"), ErrorKind::Missing),
        (stats(&json!({ "approximateBacklogCount": "-1" })), ErrorKind::Malformed),
        (stats(&json!({ "approximateBacklogCount": "3", "approximateBacklogAge": "-1s" })), ErrorKind::Malformed),
        (Reply::json("[]"), ErrorKind::Malformed),
        (Reply::json("<html>"), ErrorKind::Malformed),
    ] {
        server.answer(answer.clone());
        assert_eq!(read(queue(&server)).await.expect_err("no number").kind(), kind, "{answer:?}");
    }
}

#[tokio::test]
async fn temporals_refusals_say_what_to_do() {
    let server = HttpServer::start(refusal(404, 5)).await;
    fails_as("temporal", "missing", at(&server)).await;
    server.answer(refusal(403, 7));
    fails_as("temporal", "password", at(&server)).await;
    server.answer(refusal(400, 3));
    let error = read(at(&server)).await.expect_err("the query is wrong");
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("check query"), "{error}");
    server.answer(refusal(429, 8));
    assert_eq!(read(queue(&server)).await.expect_err("too many calls").kind(), ErrorKind::Throttled);
    fails_as("temporal", "port", workflows(&format!("http://127.0.0.1:{}", free_port()))).await;
    server.answer(Reply::Half);
    fails_as("temporal", "killed", queue(&server)).await;
}

#[tokio::test]
async fn temporals_certificate_is_verified() {
    let answer = temporals(&json!({ "count": "3" }));
    let (plain, tls) = (HttpServer::start(answer.clone()).await, HttpServer::with_tls(answer).await);
    assert_eq!(gauge(at(&tls)).await, 3.0);
    let mut unknown = at(&tls);
    unknown.as_object_mut().expect("an object").remove("ca");
    fails_as("temporal", "tls", unknown).await;
    let error = read(workflows(&format!("https://localhost:{}", plain.address.port()))).await.expect_err("no TLS");
    assert!(error.to_string().contains("the port does not speak TLS"), "{error}");
    let error = read(workflows(&format!("http://localhost:{}", tls.address.port()))).await.expect_err("TLS");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
