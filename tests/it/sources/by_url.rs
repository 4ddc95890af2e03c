//! The sources that ask a URL, against Python's own HTTP server.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::{Relay, Server, free_port};
use crate::support::source::{depth, fails_as, gauge, read, read_in};

const SOURCES: [&str; 3] = ["http_json", "response_time", "heroku_router"];

/// One of Heroku's own examples: <https://devcenter.heroku.com/articles/http-routing#heroku-router-log-format>.
const LOG: &str = include_str!("recorded/heroku_router.log");

/// A folder by HTTP, from Python's standard library.
async fn folder(files: &[(&str, &str)]) -> Server {
    Server::start(|folder, port| {
        let below = folder.join("files");
        fs::create_dir_all(&below).expect("creating a folder");
        files.iter().for_each(|(name, text)| fs::write(below.join(name), text).expect("writing a file"));
        let mut python = Command::new("python3");
        python.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]).arg(below).arg(port.to_string());
        python
    })
    .await
}

/// A server that waits as long as `?ms=` says, and fails every second request to `/flaky`.
async fn slow_server() -> Server {
    const PROGRAM: &str = r#"
import sys, time, http.server, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        time.sleep(int(urllib.parse.parse_qs(url.query).get("ms", ["0"])[0]) / 1000)
        Handler.asked += 1
        self.send_response(500 if url.path == "/flaky" and Handler.asked % 2 == 0 else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;
    Server::start(|_, port| {
        let mut python = Command::new("python3");
        python.args(["-c", PROGRAM, &port.to_string()]);
        python
    })
    .await
}

fn source(kind: &str, url: &str) -> Value {
    json!({ "type": kind, "url": url })
}

#[tokio::test]
async fn a_number_comes_from_a_document_by_pointer_fields_and_formula() {
    let document = json!({ "queues": [{ "ready": 5, "unacked": 2 }, { "ready": 4, "unacked": 0 }], "idle": 0 });
    let server = folder(&[("depth.json", &document.to_string()), ("wanted", "12\n")]).await;
    let of = |settings: Value| {
        let mut all = source("http_json", &format!("http://localhost:{}/depth.json", server.port));
        all.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
        all
    };
    assert_eq!(gauge(of(json!({ "pointer": "/queues/0/ready" }))).await, 5.0);
    assert_eq!(
        gauge(of(json!({ "expression": "sum(doc.queues, .ready) + max(map(doc.queues, .unacked))" }))).await,
        11.0
    );
    assert_eq!(gauge(of(json!({ "pointer": "/idle" }))).await, 0.0);
    let fields = json!({ "fields": { "backlog": "/queues/0/ready", "in_flight": "/queues/0/unacked" } });
    assert_eq!(depth(of(fields)).await, QueueDepth { backlog: 5, in_flight: Some(2), ..QueueDepth::default() });
    // An application that says itself how many tasks it wants.
    assert_eq!(gauge(source("http_json", &format!("http://localhost:{}/wanted", server.port))).await, 12.0);
    for (settings, kind) in [
        (json!({ "expression": "doc.missing" }), ErrorKind::Missing),
        (json!({ "expression": "doc.idle / doc.idle" }), ErrorKind::Malformed),
        (json!({ "expression": "{a: doc.idle}" }), ErrorKind::Config),
        (json!({ "expression": "repeat('x', 1000000)" }), ErrorKind::Config),
    ] {
        assert_eq!(read(of(settings.clone())).await.expect_err("no number").kind(), kind, "{settings}");
    }
}

#[tokio::test]
async fn a_slower_endpoint_is_a_larger_number_and_a_failing_one_is_none() {
    let server = slow_server().await;
    let of = |path: &str, settings: Value| {
        let mut all = source("response_time", &format!("http://localhost:{}{path}", server.port));
        all.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
        all
    };
    let slow = gauge(of("/?ms=150", json!({ "probes": 2 }))).await;
    assert!((150.0..2000.0).contains(&slow), "{slow}");
    let quick = gauge(of("/", json!({ "percentile": 1 }))).await;
    assert!(0.0 < quick && quick < slow, "{quick}");
    let share = json!({ "probes": 4, "timeout_ms": 1500, "value": "failure_percent" });
    assert_eq!(gauge(of("/", share.clone())).await, 0.0);
    assert_eq!(gauge(of("/flaky", share.clone())).await, 50.0);
    let mut gone = of("/", share);
    gone["url"] = format!("http://localhost:{}/", free_port()).into();
    let down = read(gone).await.expect_err("nobody is there");
    assert_eq!(down.kind(), ErrorKind::Unavailable, "{down}");
    let flaky = read(of("/flaky", json!({ "probes": 4, "timeout_ms": 1500 }))).await.expect_err("half of them fail");
    assert_eq!(flaky.kind(), ErrorKind::Unavailable, "{flaky}");
    assert!(gauge(of("/flaky", json!({ "probes": 4, "timeout_ms": 1500, "min_success_percent": 50 }))).await < 2000.0);
    let late = read(of("/?ms=3000", json!({ "probes": 2, "timeout_ms": 100 }))).await.expect_err("it is late");
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    assert_eq!(gauge(of("/?ms=3000", json!({ "probes": 1, "timeout_ms": 100, "on_failure": "slow" }))).await, 100.0);
    let other = read(of("/", json!({ "expect_status": [204] }))).await.expect_err("it answers 200");
    assert_eq!(other.kind(), ErrorKind::Refused, "{other}");
}

#[tokio::test]
async fn a_service_time_comes_from_the_routers_lines() {
    let server =
        folder(&[("router.log", LOG), ("app.log", "2012-10-11T03:47:20+00:00 app[web.1]: service=1ms\n")]).await;
    let of = |file: &str| source("heroku_router", &format!("http://localhost:{}/{file}", server.port));
    let reading = read(of("router.log")).await.expect("it has lines of the router");
    assert_eq!(reading.taken_at.map(|at| at.to_string()).as_deref(), Some("2012-10-11T03:47:20Z"));
    assert_eq!(gauge(of("router.log")).await, 18.0);
    let none = read(of("app.log")).await.expect_err("the router has said nothing");
    assert_eq!(none.kind(), ErrorKind::Missing, "{none}");
}

#[tokio::test]
async fn a_url_that_leads_nowhere_is_an_error_and_no_number() {
    let server = folder(&[]).await;
    for kind in SOURCES {
        fails_as(kind, "missing", source(kind, &format!("http://localhost:{}/none", server.port))).await;
        fails_as(kind, "port", source(kind, &format!("http://localhost:{}/", free_port()))).await;
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_denied() {
    let server = HttpServer::start(Reply::status(401)).await;
    for kind in SOURCES {
        let mut settings = source(kind, &server.url());
        settings["bearer_token"] = "canary-token".into();
        fails_as(kind, "password", settings).await;
        assert!(server.seen().contains("canary-token"), "{kind}: the token was not sent");
    }
}

#[tokio::test]
async fn tls_is_verified_and_a_mismatch_says_so() {
    let plain = HttpServer::start(Reply::json(5)).await;
    let tls = HttpServer::with_tls(Reply::Plain(200, String::new(), LOG.to_owned())).await;
    for kind in SOURCES {
        let mut settings = source(kind, &plain.url().replace("http:", "https:"));
        settings["ca"] = CA.into();
        fails_as(kind, "tls", settings).await;
        let error = read(source(kind, &tls.url().replace("https:", "http:"))).await.expect_err("the port speaks TLS");
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Refused), "{kind}: {error}");
        let local = [("ALLOW_PLAIN_HTTP", "false")];
        let error = read_in(&local, source(kind, &tls.url())).await.expect_err("nobody knows this CA");
        assert!(error.to_string().contains("UnknownIssuer"), "{kind}: {error}");
        let mut settings = source(kind, &tls.url());
        settings["ca"] = CA.into();
        let known = read_in(&local, settings).await;
        // Log lines are no JSON, which is what http_json got to see.
        let reached = known.as_ref().map_or_else(|error| error.to_string().contains("no JSON"), |_| true);
        assert!(reached, "{kind}: {known:?}");
    }
}

#[tokio::test]
async fn a_server_that_dies_while_it_answers_is_no_number() {
    let padded = format!("{}{LOG}", "2012-10-11T03:47:20+00:00 app[web.1]: x\n".repeat(100));
    let server = folder(&[("file", &padded)]).await;
    for kind in SOURCES {
        let relay = Relay::breaking_after(server.address(), 600).await;
        fails_as(kind, "killed", source(kind, &format!("http://localhost:{}/file", relay.address.port()))).await;
    }
}
