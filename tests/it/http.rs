//! What is asked by URL, against real servers: what is read, what is refused, and what is never sent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::call::Call;
use tidegate::config::{Config, Input, Problems, load};
use tidegate::core::Amount;
use tidegate::error::{Error, ErrorKind};
use tidegate::shared::Shared;
use tidegate::sources::Measurement;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::free_port;

const LOCAL: &[(&str, &str)] = &[("ALLOW_LOCAL_ADDRESSES", "true"), ("ALLOW_PLAIN_HTTP", "true")];
const INSECURE: &[(&str, &str)] = &[("ALLOW_LOCAL_ADDRESSES", "true"), ("ALLOW_INSECURE_TLS", "true")];

fn configured(env: &[(&str, &str)], settings: &Value, by_payload: bool) -> Result<Config, Problems> {
    let mut vars: BTreeMap<_, _> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut source = json!({ "type": "http_json" });
    source.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
    let document = json!({ "services": [{
        "name": "orders", "target": { "type": "ecs", "cluster": "prod", "service": "orders" },
        "sources": [source], "policies": [{ "type": "threshold" }],
    }] });
    let event = if by_payload { json!({ "config": document }) } else { json!({}) };
    if !by_payload {
        vars.insert("CONFIG".to_owned(), document.to_string());
    }
    load(Input { vars: &vars, event: &event, in_lambda: false, remote: None })
}

async fn read(env: &[(&str, &str)], settings: Value) -> Result<Measurement, Error> {
    let config = configured(env, &settings, false)?;
    let shared = Shared::new(&config, std::sync::Arc::new(tidegate::config::Environment), None).await;
    let read = async { config.services[0].sources[0].section.build(&shared)?.read().await };
    Call::within(Duration::from_secs(10)).run("reading", read).await
}

async fn refused(env: &[(&str, &str)], settings: Value) -> (ErrorKind, String) {
    let error = read(env, settings).await.expect_err("it is refused");
    assert!(!error.to_string().contains("canary"), "{error}");
    (error.kind(), error.to_string())
}

fn number(measurement: &Measurement) -> f64 {
    match measurement.amount {
        Amount::Queue(depth) => depth.backlog as f64,
        Amount::Gauge { value } => value.get(),
    }
}

#[tokio::test]
async fn an_answer_that_is_no_number_is_an_error_and_never_zero() {
    let server = HttpServer::start(Reply::json(5)).await;
    let settings = json!({ "url": server.url(), "pointer": "/waiting", "as_text": true });
    let deep = format!("{{\"waiting\": {}0{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for (body, expected) in [
        ("", ErrorKind::Malformed),
        ("<html>", ErrorKind::Malformed),
        ("{}", ErrorKind::Missing),
        ("[]", ErrorKind::Missing),
        ("null", ErrorKind::Missing),
        (r#"{"waiting": null}"#, ErrorKind::Missing),
        (r#"{"waiting": []}"#, ErrorKind::Malformed),
        (r#"{"waiting": NaN}"#, ErrorKind::Malformed),
        (r#"{"waiting": Infinity}"#, ErrorKind::Malformed),
        (r#"{"waiting": 1e999}"#, ErrorKind::Malformed),
        (r#"{"waiting": "NaN"}"#, ErrorKind::Malformed),
        (r#"{"waiting": "+Inf"}"#, ErrorKind::Malformed),
        (r#"{"waiting": "-Inf"}"#, ErrorKind::Malformed),
        (r#"{"waiting": -1}"#, ErrorKind::Malformed),
        (r#"{"waiting": 5"#, ErrorKind::Malformed),
        (r#"{"waiting": 5} {}"#, ErrorKind::Malformed),
        (&deep, ErrorKind::Malformed),
    ] {
        server.answer(Reply::json(body));
        let (kind, message) = refused(LOCAL, settings.clone()).await;
        assert_eq!(kind, expected, "{:.80}: {message}", body);
    }
    server.answer(Reply::json(r#"{"waiting": 0}"#));
    assert_eq!(number(&read(LOCAL, settings.clone()).await.expect("zero is a number")), 0.0);
    server.answer(Reply::json(r#"{"waiting": 4, "waiting": "18446744073709551616"}"#));
    assert_eq!(number(&read(LOCAL, settings).await.expect("the last of two counts")), 18_446_744_073_709_551_616.0);
}

#[tokio::test]
async fn a_status_says_what_to_do() {
    let server = HttpServer::start(Reply::json(5)).await;
    for (status, expected) in [
        (204, ErrorKind::Malformed),
        (304, ErrorKind::Refused),
        (400, ErrorKind::Refused),
        (401, ErrorKind::Denied),
        (403, ErrorKind::Denied),
        (404, ErrorKind::NotFound),
        (410, ErrorKind::Refused),
        (429, ErrorKind::Throttled),
        (500, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
    ] {
        server.answer(if status == 204 {
            Reply::Plain(204, String::new(), String::new())
        } else {
            Reply::status(status)
        });
        let (kind, message) = refused(LOCAL, json!({ "url": server.url() })).await;
        assert_eq!(kind, expected, "{status}: {message}");
    }
}

#[tokio::test]
async fn a_credential_goes_to_its_host_and_nowhere_else() {
    let other = HttpServer::start(Reply::json(1)).await;
    let elsewhere = format!("http://localhost:{}/canary?token=canary", other.address.port());
    let server = HttpServer::start(Reply::json(5)).await;
    let settings = json!({ "url": server.url(), "bearer_token": "canary-token" });
    for status in [301, 302, 303, 307, 308] {
        server.answer(Reply::redirect(status, &elsewhere));
        let (kind, message) = refused(LOCAL, settings.clone()).await;
        assert_eq!(kind, ErrorKind::Refused, "{message}");
        assert!(message.contains(&format!("redirect to localhost:{}", other.address.port())), "{message}");
    }
    server.answer(Reply::redirect(302, "/relative"));
    assert_eq!(refused(LOCAL, settings.clone()).await.0, ErrorKind::Refused);
    assert_eq!(other.seen(), "", "a redirect was followed");
    assert!(server.seen().contains("authorization: Bearer canary-token\r\n"), "{}", server.seen());
    server.answer(Reply::json(5));
    let basic = json!({ "url": server.url(), "basic": { "user": "Aladdin", "password": "open sesame" } });
    read(LOCAL, basic).await.expect("it answers");
    // The example of RFC 7617.
    assert!(server.seen().contains("authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), "{}", server.seen());
    let (kind, _) = refused(LOCAL, json!({ "url": server.url(), "bearer_token": "canary\r\nx-more: canary" })).await;
    assert_eq!(kind, ErrorKind::Config);
}

#[tokio::test]
async fn a_refused_password_is_tried_twice_at_most_and_only_if_it_changed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = folder.path().join("token");
    let server = HttpServer::start(Reply::json(5)).await;
    let settings = json!({ "url": server.url(), "bearer_token": format!("file:{}", secret.display()) });
    std::fs::write(&secret, "first").expect("it can be written");
    let config = configured(LOCAL, &settings, false).expect("valid settings");
    let shared = Shared::new(&config, std::sync::Arc::new(tidegate::config::Environment), None).await;
    let source = config.services[0].sources[0].section.build(&shared).expect("it can be built");
    let logins = || server.seen().matches("authorization: Bearer ").count();
    source.read().await.expect("it answers");
    server.answer(Reply::status(401));
    // Fetched anew it is the same, so that trying it again could only lock the account.
    assert_eq!((source.read().await.expect_err("it is refused").kind(), logins()), (ErrorKind::Denied, 2));
    std::fs::write(&secret, "rotated").expect("it can be written");
    assert_eq!((source.read().await.expect_err("it is refused").kind(), logins()), (ErrorKind::Denied, 4));
    assert!(server.seen().contains("Bearer rotated"), "{}", server.seen());
}

#[tokio::test]
async fn local_addresses_are_refused_before_a_connection_is_made() {
    let server = HttpServer::start(Reply::json(5)).await;
    let port = server.address.port();
    let plain = &[("ALLOW_PLAIN_HTTP", "true")];
    for host in [
        "127.0.0.1",
        "localhost",
        "LocalHost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "169.254.169.254",
        "[fd00:ec2::254]",
    ] {
        let (kind, message) = refused(plain, json!({ "url": format!("http://{host}:{port}/") })).await;
        assert_eq!(kind, ErrorKind::Config, "{host}: {message}");
    }
    // Not every resolver knows this form, and none of them reaches this machine by it.
    refused(plain, json!({ "url": format!("http://localhost.:{port}/") })).await;
    assert_eq!(server.seen(), "");
    for host in ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"] {
        read(LOCAL, json!({ "url": format!("http://{host}:{port}/") })).await.expect("it is permitted");
    }
    // A payload permits nothing.
    for key in ["allow_local_addresses", "allow_plain_http", "allow_insecure_tls", "ALLOW_PLAIN_HTTP"] {
        let event = json!({ "config": { key: true } });
        let config = load(Input { vars: &BTreeMap::new(), event: &event, in_lambda: false, remote: None });
        let problems = config.map(|_| ()).expect_err("it is no setting of a payload").0;
        assert!(problems.iter().any(|problem| problem.path == format!("config.{key}")), "{problems:?}");
    }
    let (kind, message) = refused(&[("ALLOW_LOCAL_ADDRESSES", "true")], json!({ "url": server.url() })).await;
    assert_eq!((kind, message.contains("ALLOW_PLAIN_HTTP")), (ErrorKind::Config, true), "{message}");
}

#[tokio::test]
async fn certificates_are_verified() {
    let server = HttpServer::with_tls(Reply::json(5)).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), CA).expect("it is writable");
    let local = &[("ALLOW_LOCAL_ADDRESSES", "true")];
    let (kind, message) = refused(local, json!({ "url": server.url() })).await;
    assert_eq!(kind, ErrorKind::Unavailable, "{message}");
    assert!(message.contains("UnknownIssuer") && message.contains("as ca"), "{message}");
    for ca in [CA.to_owned(), file.path().display().to_string()] {
        let found = read(local, json!({ "url": server.url(), "ca": ca })).await.expect("the CA is known");
        assert_eq!(number(&found), 5.0);
    }
    let by_address = format!("https://127.0.0.1:{}/", server.address.port());
    let (kind, message) = refused(local, json!({ "url": by_address, "ca": CA })).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(message.contains("not valid for name"), "{message}");
    let nowhere = "/no/such/file".to_owned();
    for ca in
        [nowhere, "/dev/zero".to_owned(), "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----".to_owned()]
    {
        assert_eq!(refused(local, json!({ "url": server.url(), "ca": ca })).await.0, ErrorKind::Config);
    }
    let insecure = json!({ "url": server.url(), "insecure_tls": true });
    let (kind, message) = refused(local, insecure.clone()).await;
    assert_eq!((kind, message.contains("ALLOW_INSECURE_TLS")), (ErrorKind::Config, true), "{message}");
    assert_eq!(number(&read(INSECURE, insecure).await.expect("it is permitted")), 5.0);
}

#[tokio::test]
async fn tls_where_there_is_none_is_said_to_be_so() {
    let plain = HttpServer::start(Reply::json(5)).await;
    let (kind, message) = refused(LOCAL, json!({ "url": plain.url().replace("http:", "https:"), "ca": CA })).await;
    assert_eq!((kind, message.contains("does not speak TLS")), (ErrorKind::Unavailable, true), "{message}");
    let tls = HttpServer::with_tls(Reply::json(5)).await;
    let (kind, message) = refused(LOCAL, json!({ "url": tls.url().replace("https:", "http:") })).await;
    assert_eq!((kind, message.contains("may be https://")), (ErrorKind::Unavailable, true), "{message}");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_breaks_off_is_unavailable() {
    let server = HttpServer::start(Reply::Reset).await;
    for reply in [Reply::Reset, Reply::Half] {
        server.answer(reply.clone());
        let (kind, message) = refused(LOCAL, json!({ "url": server.url() })).await;
        assert_eq!(kind, ErrorKind::Unavailable, "{reply:?}: {message}");
    }
    // RFC 6761 has resolvers know that there is no such host; one that cannot be reached takes its time.
    let (kind, message) = refused(LOCAL, json!({ "url": "http://no-such-host.invalid/canary" })).await;
    assert!(matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout), "{message}");
    let url = format!("http://localhost:{}", free_port());
    let (kind, message) = refused(LOCAL, json!({ "url": url })).await;
    assert_eq!((kind, message.contains("refused")), (ErrorKind::Unavailable, true), "{message}");
}

#[tokio::test]
async fn a_slow_answer_ends_with_the_operations_time() {
    let server = HttpServer::start(Reply::Drip).await;
    let config = configured(LOCAL, &json!({ "url": server.url() }), false).expect("it is complete");
    let shared = Shared::new(&config, std::sync::Arc::new(tidegate::config::Environment), None).await;
    let began = std::time::Instant::now();
    let read = async { config.services[0].sources[0].section.build(&shared)?.read().await };
    let error = Call::within(Duration::from_millis(1500)).run("reading", read).await.expect_err("it never ends");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_is_read_up_to_one_mebibyte() {
    let server = HttpServer::start(Reply::json(5)).await;
    for reply in [Reply::Chunks(32), Reply::Chunks(usize::MAX), Reply::Promise(1 << 40)] {
        server.answer(reply.clone());
        let (kind, message) = refused(LOCAL, json!({ "url": server.url() })).await;
        assert_eq!((kind, message.contains("1 MiB")), (ErrorKind::Malformed, true), "{reply:?}: {message}");
    }
    server.answer(Reply::json(format!("{}5", " ".repeat(1_000_000))));
    assert_eq!(number(&read(LOCAL, json!({ "url": server.url() })).await.expect("it is short enough")), 5.0);
}

#[tokio::test]
async fn a_payload_uses_only_the_secrets_that_the_deployment_lists() {
    let references = ["env:PATH", "file:/proc/self/environ", "secretsmanager:orders", "ssm:/orders/token"];
    for reference in references {
        for settings in [
            json!({ "url": "https://example.com/", "bearer_token": reference }),
            json!({ "url": "https://example.com/", "basic": { "user": "a", "password": reference } }),
        ] {
            let refused = configured(&[], &settings, true).map(|_| ()).expect_err("it is not listed").0;
            assert_eq!(refused.len(), 1, "{refused:?}");
            assert!(refused[0].path.starts_with("config.services[0].sources[0]."), "{refused:?}");
            assert!(refused[0].remedy.contains("ALLOWED_SECRETS"), "{refused:?}");
            assert!(configured(&[], &settings, false).is_ok(), "the deployment's own references need no permit");
        }
    }
    let token = |reference: &str| json!({ "url": "https://example.com/", "bearer_token": reference });
    let secrets = ("ALLOWED_SECRETS", "env:ORDERS_*,ssm:/orders/*,file:/run/secrets/*");
    let listed = &[secrets, ("ALLOWED_SOURCES", "http_json:*/example.com:443")];
    assert!(configured(&[secrets], &token("env:ORDERS_TOKEN"), true).is_err(), "it could go anywhere");
    assert!(configured(listed, &token("file:/run/secrets/token"), true).is_ok());
    assert!(configured(listed, &token("file:/run/secrets/../../proc/self/environ"), true).is_err());
    assert!(configured(listed, &token("env:ORDERS_TOKEN"), true).is_ok());
    assert!(configured(listed, &token("ssm:/orders/token"), true).is_ok());
    assert!(configured(listed, &token("env:PATH"), true).is_err());
    assert!(configured(&[], &token("plain"), true).is_ok(), "a payload's own secret is its own");
    // A payload's list permits nothing; it can only narrow.
    for (env, list, accepted) in [(&[][..], "*", false), (listed, "*", true), (listed, "env:OTHER", false)] {
        let vars: BTreeMap<_, _> = env
            .iter()
            .chain(&[("ECS_CLUSTER", "prod"), ("SERVICE_NAME", "orders")])
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let event = json!({ "config": {
            "allowed_secrets": list, "queue_type": "http_json", "queue_config": token("env:ORDERS_TOKEN"),
        } });
        let config = load(Input { vars: &vars, event: &event, in_lambda: false, remote: None });
        assert_eq!(config.is_ok(), accepted, "{env:?} {list}: {config:?}");
    }
}

#[tokio::test]
async fn whom_to_trust_is_not_a_payloads_to_say() {
    let permitted = &[("ALLOW_INSECURE_TLS", "true")];
    for (key, value) in [("ca", json!("/proc/self/pagemap")), ("insecure_tls", json!(true))] {
        let mut settings = json!({ "url": "https://example.com/" });
        settings[key] = value;
        let refused = configured(permitted, &settings, true).map(|_| ()).expect_err("it is refused");
        assert!(refused.0[0].path.ends_with(key), "{refused:?}");
        assert!(configured(permitted, &settings, false).is_ok(), "{key}");
    }
}

#[tokio::test]
async fn the_variables_of_a_source_replace_the_documents_whole() {
    let document = json!({
        "queue_type": "http_json",
        "queue_config": { "url": "https://prod.example.com/", "bearer_token": "canary-of-production" },
    });
    let document = document.to_string();
    let vars = [
        ("ECS_CLUSTER", "prod"),
        ("SERVICE_NAME", "orders"),
        ("CONFIG", document.as_str()),
        ("HTTP_JSON_URL", "https://staging.example.com/"),
    ];
    let vars: BTreeMap<_, _> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config = load(Input { vars: &vars, event: &json!({}), in_lambda: false, remote: None }).expect("it is valid");
    assert_eq!(config.services[0].sources[0].section.settings, json!({ "url": "https://staging.example.com/" }));
}

#[tokio::test]
async fn hosts_are_listed_as_sources() {
    let settings = json!({ "url": "https://Metrics.Internal/orders" });
    for (list, accepted) in [
        ("http_json:*/metrics.internal:443", true),
        ("http_json:*", true),
        ("sqs:*", false),
        ("http_json:*/internal:443", false),
        ("http_json:*/metrics.internal:8443", false),
    ] {
        assert_eq!(configured(&[("ALLOWED_SOURCES", list)], &settings, true).is_ok(), accepted, "{list}");
    }
}
