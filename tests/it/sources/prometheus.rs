//! Prometheus itself: series that promtool wrote, passwords and TLS of its own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use tidegate::error::ErrorKind;

use crate::support::http::CA;
use crate::support::servers::{Relay, Server, free_port};
use crate::support::source::{fails_as, gauge, read, read_in};

/// `reader` with the password `tide`, by bcrypt.
const PASSWORDS: &str = "basic_auth_users: {reader: '$2b$04$1d1Y42TpARKDYBvXY9Opz.01RFPStTpQCk2fwDdsa4KXI.6CMEyHG'}\n";

const ORDERS: &str = r#"queue_depth{queue="orders"}"#;

/// A server with a minute's history: 20 orders waited, and 5 of them were taken since. `web` is its own configuration of the web.
async fn prometheus(web: &str) -> Server {
    Server::start(|folder, port| {
        let file = |name: &str| folder.join(name).display().to_string();
        std::fs::write(file("prometheus.yml"), "global: {}\n").expect("writing a file");
        std::fs::write(file("web.yml"), web).expect("writing a file");
        write_series(folder);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file("prometheus.yml")));
        command.arg(format!("--web.config.file={}", file("web.yml")));
        command.arg(format!("--storage.tsdb.path={}", file("data")));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command
    })
    .await
}

fn write_series(folder: &Path) {
    let (then, now) = (Timestamp::now() - 120.seconds(), Timestamp::now() - 10.seconds());
    let series = format!(
        "# TYPE queue_depth gauge\n{ORDERS} 20 {}\n{ORDERS} 15 {now}\nqueue_depth{{queue=\"mail\"}} 0 {now}\n\
         queue_depth{{queue=\"broken\"}} NaN {now}\nqueue_depth{{queue=\"debt\"}} -3 {now}\n# EOF\n",
        then.as_second(),
        now = now.as_second()
    );
    std::fs::write(folder.join("series"), series).expect("writing a file");
    let mut promtool = Command::new("promtool");
    promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(folder.join("series")).arg(folder.join("data"));
    let written = promtool.output().unwrap_or_else(|error| panic!("promtool: {error}; scripts/test installs it"));
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
}

fn at(server: &Server, query: &str) -> Value {
    json!({ "type": "prometheus", "url": format!("http://127.0.0.1:{}", server.port), "query": query })
}

fn with(mut settings: Value, more: Value) -> Value {
    settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    settings
}

/// Waits until the server has read its data, before which it answers 503.
async fn ready(web: &str, more: Value) -> Server {
    let server = prometheus(web).await;
    let give_up = Instant::now() + Duration::from_secs(30);
    while read(with(at(&server, "vector(1)"), more.clone())).await.is_err() {
        assert!(Instant::now() < give_up, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server
}

async fn plain() -> Server {
    ready("", json!({})).await
}

async fn fails(settings: Value, kind: ErrorKind, says: &str) {
    let error = read(settings.clone()).await.expect_err("it cannot be read");
    assert_eq!(error.kind(), kind, "{settings}: {error}");
    assert!(error.to_string().contains(says), "{settings}: {error}");
}

#[tokio::test]
async fn a_query_reads_the_number_that_is_there_now() {
    let server = plain().await;
    assert_eq!(gauge(at(&server, &format!("{ORDERS} offset 100s"))).await, 20.0, "as many were put");
    assert_eq!(gauge(at(&server, ORDERS)).await, 15.0, "five were taken");
    assert_eq!(gauge(with(at(&server, ORDERS), json!({ "method": "post" }))).await, 15.0);
    assert_eq!(gauge(at(&server, &format!("scalar({ORDERS}) / 2"))).await, 7.5);
    let long = format!("{ORDERS} + {}0", "0 + ".repeat(3000));
    assert_eq!(gauge(with(at(&server, &long), json!({ "method": "post" }))).await, 15.0, "12 KB");
    let reading = read(at(&server, ORDERS)).await.expect("it can be read");
    let age = Timestamp::now().duration_since(reading.taken_at.expect("it says when"));
    assert!(age.abs() < jiff::SignedDuration::from_secs(60), "{age:?}");
    assert_eq!(reading.reads, [format!("prometheus:-/-/127.0.0.1:{}", server.port)]);
}

#[tokio::test]
async fn a_query_of_a_queue_that_is_empty_is_zero() {
    let server = plain().await;
    assert_eq!(gauge(at(&server, r#"queue_depth{queue="mail"}"#)).await, 0.0);
}

#[tokio::test]
async fn a_query_without_series_is_missing_and_not_zero() {
    let server = plain().await;
    let misspelt = at(&server, r#"queue_depth{queue="order"}"#);
    fails_as("prometheus", "missing", misspelt.clone()).await;
    assert_eq!(gauge(with(misspelt, json!({ "empty": "zero" }))).await, 0.0, "it is said");
}

#[tokio::test]
async fn several_series_take_a_rule() {
    let server = plain().await;
    let two = at(&server, r#"queue_depth{queue=~"orders|mail"}"#);
    fails(two.clone(), ErrorKind::Config, "2 series").await;
    for (combine, expected) in [("sum", 15.0), ("max", 15.0), ("mean", 7.5)] {
        assert_eq!(gauge(with(two.clone(), json!({ "combine": combine }))).await, expected);
    }
    let all = with(at(&server, "queue_depth"), json!({ "combine": "max", "empty": "zero" }));
    fails(all, ErrorKind::Malformed, "no finite number of at least 0").await;
}

#[tokio::test]
async fn what_is_no_count_is_an_error_with_what_to_do() {
    let server = plain().await;
    for (query, kind, says) in [
        (r#"queue_depth{queue="broken"}"#, ErrorKind::Malformed, "\"NaN\""),
        (r#"queue_depth{queue="debt"}"#, ErrorKind::Malformed, "\"-3\""),
        ("1 / 0", ErrorKind::Malformed, "\"+Inf\""),
        ("scalar(nothing)", ErrorKind::Malformed, "\"NaN\""),
        ("queue_depth[5m]", ErrorKind::Config, "a range of samples"),
        (r#""five""#, ErrorKind::Config, "it must give a number"),
        ("sum(", ErrorKind::Refused, "unclosed left parenthesis; look at query"),
        ("queue_depth + on(nothing) queue_depth", ErrorKind::Refused, "execution: found duplicate series"),
    ] {
        fails(at(&server, query), kind, says).await;
    }
    let elsewhere = json!({ "url": format!("http://127.0.0.1:{}/prometheus", server.port) });
    fails(with(at(&server, "1"), elsewhere), ErrorKind::NotFound, "it answered 404").await;
}

#[tokio::test]
async fn a_wrong_password_names_its_user() {
    let right = json!({ "basic": { "user": "reader", "password": "env:READER" } });
    let env = [("READER", "tide")];
    let server = prometheus(PASSWORDS).await;
    let give_up = Instant::now() + Duration::from_secs(30);
    while let Err(error) = read_in(&env, with(at(&server, ORDERS), right.clone())).await {
        assert!(error.kind() != ErrorKind::Denied && Instant::now() < give_up, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wrong = json!({ "basic": { "user": "reader", "password": "canary" } });
    fails_as("prometheus", "password", with(at(&server, ORDERS), wrong)).await;
    fails(at(&server, ORDERS), ErrorKind::Denied, "look at bearer_token, basic and headers").await;
    let token = json!({ "bearer_token": "canary", "headers": { "X-Scope-OrgID": "canary" } });
    fails(with(at(&server, ORDERS), token), ErrorKind::Denied, "it answered 401").await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unavailable() {
    let settings = json!({ "type": "prometheus", "url": format!("http://127.0.0.1:{}", free_port()), "query": "1" });
    fails_as("prometheus", "port", settings).await;
}

#[tokio::test]
async fn tls_is_verified_and_its_absence_is_said() {
    let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certs");
    let file = |name: &str| certs.join(name).display().to_string();
    let web = format!("tls_server_config: {{cert_file: {}, key_file: {}}}\n", file("server.pem"), file("server.key"));
    let server = prometheus(&web).await;
    let encrypted = json!({ "url": format!("https://localhost:{}", server.port), "ca": CA });
    let give_up = Instant::now() + Duration::from_secs(30);
    while let Err(error) = read(with(at(&server, ORDERS), encrypted.clone())).await {
        assert!(Instant::now() < give_up, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let without_ca = json!({ "url": format!("https://localhost:{}", server.port) });
    fails(with(at(&server, ORDERS), without_ca), ErrorKind::Unavailable, "give the CA that issued it as ca").await;
    fails(at(&server, ORDERS), ErrorKind::Unavailable, "the port speaks TLS").await;
    let open = plain().await;
    let over_tls = json!({ "url": format!("https://127.0.0.1:{}", open.port) });
    fails_as("prometheus", "tls", with(at(&open, ORDERS), over_tls)).await;
}

#[tokio::test]
async fn a_prometheus_that_dies_while_it_answers_is_an_error() {
    let mut server = plain().await;
    let relay = Relay::breaking_after(server.address(), 150).await;
    let by_relay = json!({ "url": format!("http://{}", relay.address) });
    fails_as("prometheus", "killed", with(at(&server, ORDERS), by_relay)).await;
    relay.broke().await;
    server.kill();
    fails(at(&server, ORDERS), ErrorKind::Unavailable, "refused").await;
}
