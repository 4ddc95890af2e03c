//! Jobs of GitHub Actions, as GitHub's published description of its API shows the answers.

use serde_json::{Value, json};
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::free_port;
use crate::support::source::{depth, fails_as, read};

/// The examples `workflow-run-paginated` and `job` of github/rest-api-description at 1e9ee981,
/// `descriptions/api.github.com/api.github.com.2022-11-28.json`.
const EXAMPLES: &str = include_str!("recorded/github_actions.json");

const QUEUED: &str = "/actions/runs?status=queued&";
const IN_PROGRESS: &str = "/actions/runs?status=in_progress&";
const WAITING: &str = "/actions/runs?status=waiting&";
/// Runs of any other status.
const OTHERS: &str = "/actions/runs?status=";

fn example(name: &str) -> Value {
    let mut examples: Value = serde_json::from_str(EXAMPLES).expect("the examples are JSON");
    examples[name].take()
}

/// A list of runs that says that it has `total` entries.
fn runs(ids: &[u64], total: usize) -> Reply {
    let mut list = example("workflow-run-paginated");
    let run = list["workflow_runs"][0].clone();
    let with_id = |id: &u64| {
        let mut run = run.clone();
        run["id"] = json!(id);
        run
    };
    list["workflow_runs"] = ids.iter().map(with_id).collect();
    list["total_count"] = json!(total);
    Reply::json(list)
}

/// A list of jobs by status and labels.
fn jobs(jobs: &[(&str, &[&str])]) -> Reply {
    let job = |(id, (status, labels)): (usize, &(&str, &[&str]))| {
        let mut job = example("job");
        job["id"] = json!(id);
        job["status"] = json!(status);
        job["labels"] = json!(labels);
        job
    };
    let list: Vec<_> = jobs.iter().enumerate().map(job).collect();
    Reply::json(json!({ "total_count": list.len(), "jobs": list }))
}

fn repository(url: &str) -> Value {
    json!({
        "type": "github_actions", "url": url, "owner": "octo-org", "repos": ["octo-repo"],
        "labels": ["self-hosted", "linux", "x64"], "token": "canary-token", "ca": CA,
    })
}

fn at(server: &HttpServer) -> Value {
    repository(&server.url().replace("/depth", ""))
}

const LIMITED: &str = "x-ratelimit-limit: 5000\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1700000000\r\n";

#[tokio::test]
async fn github_jobs_count_by_status_and_labels_once_each() {
    let server = HttpServer::start(Reply::Routes(vec![
        // Run 2 begins between the two lists, and is in both.
        (QUEUED, runs(&[1, 2], 2)),
        (IN_PROGRESS, runs(&[2, 3], 2)),
        (OTHERS, runs(&[], 0)),
        (
            "/runs/1/jobs?",
            jobs(&[("queued", &["self-hosted", "Linux"]), ("queued", &["ubuntu-latest"]), ("queued", &[])]),
        ),
        ("/runs/2/jobs?", jobs(&[("queued", &["self-hosted"]), ("in_progress", &["x64"]), ("waiting", &["linux"])])),
        // Runs that are under way have jobs that wait.
        (
            "/runs/3/jobs?",
            jobs(&[("completed", &["linux"]), ("in_progress", &["self-hosted", "gpu"]), ("queued", &["linux"])]),
        ),
    ]))
    .await;
    let expected = QueueDepth { backlog: 4, in_flight: Some(1), ..QueueDepth::default() };
    assert_eq!(depth(at(&server)).await, expected);
    let seen = server.seen();
    assert!(seen.contains("authorization: Bearer canary-token") && seen.contains("x-github-api-version: 2022-11-28"));
    assert!(seen.lines().filter(|line| line.contains(" HTTP/1.1")).all(|line| line.starts_with("GET ")), "{seen}");
}

#[tokio::test]
async fn github_jobs_of_a_run_that_waits_for_an_approval_are_counted() {
    // Of run 4 one job waits for an approval, so that the run does; runs 5 and 6 have just come.
    let server = HttpServer::start(Reply::Routes(vec![
        (WAITING, runs(&[4], 1)),
        ("/actions/runs?status=pending&", runs(&[5], 1)),
        ("/actions/runs?status=requested&", runs(&[6], 1)),
        (OTHERS, runs(&[], 0)),
        (
            "/runs/4/jobs?",
            jobs(&[("waiting", &["linux"]), ("queued", &["linux"]), ("queued", &["x64"]), ("in_progress", &["x64"])]),
        ),
        ("/jobs?", jobs(&[("queued", &["linux"]), ("pending", &["linux"]), ("requested", &["linux"])])),
    ]))
    .await;
    let expected = QueueDepth { backlog: 4, in_flight: Some(1), ..QueueDepth::default() };
    assert_eq!(depth(at(&server)).await, expected);
}

#[tokio::test]
async fn github_jobs_on_further_pages_are_counted() {
    let page = |numbers: std::ops::Range<usize>| {
        let job = |id: usize| json!({ "id": id, "status": "queued", "labels": ["self-hosted"] });
        Reply::json(json!({ "total_count": 120, "jobs": numbers.map(job).collect::<Vec<_>>() }))
    };
    let server = HttpServer::start(Reply::Routes(vec![
        (QUEUED, runs(&[1], 1)),
        (OTHERS, runs(&[], 0)),
        ("/runs/1/jobs?filter=latest&per_page=50&page=1 ", page(0..50)),
        ("/runs/1/jobs?filter=latest&per_page=50&page=2 ", page(50..100)),
        ("/runs/1/jobs?filter=latest&per_page=50&page=3 ", page(100..120)),
    ]))
    .await;
    assert_eq!(depth(at(&server)).await.backlog, 120);
}

#[tokio::test]
async fn github_without_runs_is_zero_and_a_list_that_is_not_whole_an_error() {
    let server = HttpServer::start(runs(&[], 0)).await;
    assert_eq!(depth(at(&server)).await, QueueDepth { in_flight: Some(0), ..QueueDepth::default() });
    let with_jobs =
        |answer: Reply| Reply::Routes(vec![(QUEUED, runs(&[1], 1)), (OTHERS, runs(&[], 0)), ("/jobs?", answer)]);
    let of = |first: u64, total: usize| runs(&(first..first + 50).collect::<Vec<_>>(), total);
    let shrinking = Reply::Routes(vec![
        ("status=queued&exclude_pull_requests=true&per_page=50&page=1 ", of(1, 120)),
        ("status=queued&exclude_pull_requests=true&per_page=50&page=2 ", of(71, 100)),
        ("status=queued&exclude_pull_requests=true&per_page=50&page=3 ", runs(&[], 100)),
        (OTHERS, runs(&[], 0)),
        ("/jobs?", jobs(&[])),
    ]);
    for (answer, kind) in [
        (runs(&[1], 2), ErrorKind::Unavailable),
        (runs(&[], 1001), ErrorKind::Unavailable),
        (Reply::json(r#"{"workflow_runs": []}"#), ErrorKind::Missing),
        (Reply::json(r#"{"total_count": 0}"#), ErrorKind::Malformed),
        (Reply::json(r#"{"total_count": -1, "workflow_runs": []}"#), ErrorKind::Malformed),
        (Reply::json("<html>"), ErrorKind::Malformed),
        (with_jobs(jobs(&[("hibernating", &["self-hosted"])])), ErrorKind::Malformed),
        (
            with_jobs(Reply::json(r#"{"total_count": 1, "jobs": [{"id": 1, "status": "queued"}]}"#)),
            ErrorKind::Malformed,
        ),
        (with_jobs(Reply::json(r#"{"total_count": 1, "jobs": []}"#)), ErrorKind::Unavailable),
        (with_jobs(Reply::status(500)), ErrorKind::Unavailable),
    ] {
        server.answer(answer.clone());
        let error = read(at(&server)).await.expect_err("it cannot be counted");
        assert_eq!(error.kind(), kind, "{answer:?}: {error}");
    }
    // Entries that end while the list is read move others to a page that was read before.
    server.answer(shrinking);
    let error = read(at(&server)).await.expect_err("it is not whole");
    assert!(error.to_string().contains("of 120 entries 100 are listed"), "{error}");
}

#[tokio::test]
async fn github_is_asked_no_more_often_than_is_permitted() {
    let ours = jobs(&[("queued", &["self-hosted"])]);
    let routes = vec![(QUEUED, runs(&[1, 2, 3], 3)), (OTHERS, runs(&[], 0)), ("/jobs?", ours)];
    let server = HttpServer::start(Reply::Routes(routes)).await;
    let mut settings = at(&server);
    settings["max_calls"] = json!(8);
    assert_eq!(depth(settings.clone()).await.backlog, 3);
    settings["max_calls"] = json!(7);
    let error = read(settings).await.expect_err("it takes eight calls");
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("raise max_calls"), "{error}");
}

#[tokio::test]
async fn githubs_refusals_say_what_to_do() {
    let server = HttpServer::start(Reply::status(404)).await;
    fails_as("github_actions", "missing", at(&server)).await;
    server.answer(Reply::status(401));
    fails_as("github_actions", "password", at(&server)).await;
    server.answer(Reply::status(403));
    assert_eq!(read(at(&server)).await.expect_err("it may not").kind(), ErrorKind::Denied);
    for (status, head) in [(403, LIMITED), (403, "retry-after: 60\r\n"), (429, "")] {
        server.answer(Reply::Plain(status, head.to_owned(), "canary".to_owned()));
        let error = read(at(&server)).await.expect_err("no calls are left");
        assert_eq!(error.kind(), ErrorKind::Throttled, "{status} {head}: {error}");
    }
    fails_as("github_actions", "port", repository(&format!("http://127.0.0.1:{}", free_port()))).await;
    server.answer(Reply::Routes(vec![(QUEUED, runs(&[1], 1)), (OTHERS, runs(&[], 0)), ("/jobs?", Reply::Half)]));
    fails_as("github_actions", "killed", at(&server)).await;
}

#[tokio::test]
async fn githubs_certificate_is_verified() {
    let (plain, tls) = (HttpServer::start(runs(&[], 0)).await, HttpServer::with_tls(runs(&[], 0)).await);
    assert_eq!(depth(at(&tls)).await.backlog, 0);
    let mut unknown = at(&tls);
    unknown.as_object_mut().expect("an object").remove("ca");
    fails_as("github_actions", "tls", unknown).await;
    let error = read(repository(&format!("https://localhost:{}", plain.address.port()))).await.expect_err("no TLS");
    assert!(error.to_string().contains("the port does not speak TLS"), "{error}");
    let error = read(repository(&format!("http://localhost:{}", tls.address.port()))).await.expect_err("TLS");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
