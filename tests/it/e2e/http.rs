//! The real function with a source that is asked by URL, and with payloads that nobody should send.

use serde_json::{Value, json};

use crate::support::emulator::{Env, TIMEOUT_MS, World};
use crate::support::http::{HttpServer, Reply};
use crate::support::runtime_api::{Answer, Function};

/// A function whose deployment reads a number from `url`, with a token that the environment holds.
async fn function(world: &World, url: &str, more: &[(&str, &str)]) -> Function {
    let own = [
        ("QUEUE_TYPE", "http_json"),
        ("SQS_QUEUE_URL", ""),
        ("HTTP_JSON_URL", url),
        ("HTTP_JSON_POINTER", "/waiting"),
        ("HTTP_JSON_BEARER_TOKEN", "env:ORDERS_TOKEN"),
        ("ORDERS_TOKEN", "canary-token"),
        ("ALLOW_LOCAL_ADDRESSES", "true"),
        ("ALLOW_PLAIN_HTTP", "true"),
    ];
    let env: Env = world.env(&world.url(), &[&own[..], more].concat());
    world.function(&env).await
}

/// Invokes, expects a failure of this kind, and returns its message.
async fn fails(function: &Function, payload: Value, kind: &str) -> String {
    let (error_type, message) = function.invoke(payload, TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, kind, "{message}");
    assert!(!message.contains("canary"), "{message}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_by_http_scales_and_its_absence_never_does() {
    let world = World::ministack(50).await;
    world.rest().await;
    let server = HttpServer::start(Reply::json("{}")).await;
    let function = function(&world, &server.url(), &[]).await;
    for (reply, kind) in [
        (Reply::json(r#"{"items": []}"#), "Missing"),
        (Reply::json(r#"{"waiting": null}"#), "Missing"),
        (Reply::json(r#"{"waiting": NaN}"#), "Malformed"),
        (Reply::json(r#"{"waiting": -5}"#), "Malformed"),
        (Reply::status(401), "Denied"),
        (Reply::status(500), "Unavailable"),
        (Reply::Reset, "Unavailable"),
        (Reply::redirect(302, "http://elsewhere.example/"), "Refused"),
    ] {
        server.answer(reply);
        fails(&function, json!({}), kind).await;
        assert_eq!(world.desired().await, 50, "{kind}");
    }
    server.answer(Reply::json(r#"{"waiting": 5000}"#));
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(world.desired().await, 100);
    assert!(server.seen().contains("authorization: Bearer canary-token\r\n"));
    assert!(!function.stdout().contains("canary") && !function.stderr().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_another_time_never_scales_in() {
    let world = World::ministack(50).await;
    world.rest().await;
    let server = HttpServer::start(Reply::json("{}")).await;
    let source = json!({ "type": "http_json", "url": server.url(), "pointer": "/waiting", "taken_at": "/at" });
    let document = json!({ "services": [{
        "name": "orders", "target": { "type": "ecs", "cluster": world.name, "service": world.name },
        "sources": [source], "policies": [{ "type": "threshold" }],
    }] });
    let permits = [("ALLOW_LOCAL_ADDRESSES", "true"), ("ALLOW_PLAIN_HTTP", "true"), ("CONFIG", &document.to_string())];
    let unset = [("ECS_CLUSTER", ""), ("SERVICE_NAME", ""), ("SQS_QUEUE_URL", "")];
    let function = world.function(&world.env(&world.url(), &[&permits[..], &unset].concat())).await;
    let at = |secs: i64| {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(secs);
        Reply::json(json!({ "waiting": 0, "at": time.to_string() }))
    };
    for (reply, kind) in [
        (at(-600), "Stale"),
        (at(600), "Stale"),
        (Reply::json(r#"{"waiting": 0}"#), "Missing"),
        (Reply::json(r#"{"waiting": 0, "at": "yesterday"}"#), "Malformed"),
    ] {
        server.answer(reply);
        let answer = function.invoke(json!({}), TIMEOUT_MS).await;
        assert_eq!(world.desired().await, 50, "{kind}: {answer:?}");
        let record = function.json_lines().into_iter().rev().find_map(|line| line.get("record").cloned());
        let reason = record.expect("a record was logged")["decision"]["reasons"][0].clone();
        assert_eq!(reason["kind"], kind, "{reason}");
    }
    server.answer(at(0));
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(world.desired().await, 49);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payloads_host_gets_nothing_of_the_deployments() {
    let world = World::ministack(10).await;
    let (own, other) = (HttpServer::start(Reply::json(5)).await, HttpServer::start(Reply::json(0)).await);
    let function = function(&world, &own.url(), &[("DRY_RUN", "true"), ("ALLOWED_SECRETS", "env:OTHER_*")]).await;
    let ask = |settings: Value| json!({ "config": { "queue_config": settings } });
    function.invoke(ask(json!({ "url": other.url() })), TIMEOUT_MS).await.expect_ok();
    let seen = other.seen();
    assert!(seen.starts_with("GET /depth HTTP/1.1\r\n") && !seen.contains("authorization"), "{seen}");
    for reference in
        ["env:ORDERS_TOKEN", "env:HTTP_JSON_BEARER_TOKEN", "env:AWS_SECRET_ACCESS_KEY", "file:/proc/self/environ"]
    {
        let payload = ask(json!({ "url": other.url(), "bearer_token": reference }));
        let message = fails(&function, payload, "Config").await;
        assert!(message.contains("ALLOWED_SECRETS"), "{message}");
    }
    assert_eq!(other.seen(), seen, "a refused payload was sent");
    // A redirect does not carry the deployment's credential away.
    own.answer(Reply::redirect(307, &other.url()));
    let message = fails(&function, json!({}), "Refused").await;
    assert!(message.contains(&format!("localhost:{}", other.address.port())), "{message}");
    assert!(own.seen().contains("canary-token"));
    assert_eq!(other.seen(), seen, "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_cannot_make_the_function_ask_itself() {
    let world = World::ministack(10).await;
    let server = HttpServer::start(Reply::json(0)).await;
    let open = function(&world, &server.url(), &[]).await;
    let ask = |url: String| json!({ "config": { "queue_config": { "url": url } } });
    // Even where local addresses are permitted, the Runtime API would hand out the next invocation.
    let port = open.runtime_api().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        fails(&open, ask(format!("http://{host}:{port}/2018-06-01/runtime/invocation/next")), "Config").await;
    }
    fails(&open, ask("http://169.254.169.254/latest/meta-data/".to_owned()), "Config").await;
    let closed = function(&world, &server.url(), &[("ALLOW_LOCAL_ADDRESSES", "false")]).await;
    for url in [server.url(), format!("http://[::ffff:127.0.0.1]:{}/", server.address.port())] {
        let message = fails(&closed, ask(url), "Config").await;
        assert!(message.contains("ALLOW_LOCAL_ADDRESSES"), "{message}");
    }
    assert_eq!((server.seen().as_str(), world.desired().await), ("", 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_or_slow_answer_costs_neither_memory_nor_the_deadline() {
    let world = World::ministack(50).await;
    world.rest().await;
    let server = HttpServer::start(Reply::Chunks(usize::MAX)).await;
    let function = function(&world, &server.url(), &[]).await;
    for _ in 0..3 {
        fails(&function, json!({}), "Malformed").await;
    }
    let peak = function.peak_memory_mib();
    assert!(peak < 64, "{peak} MiB");
    server.answer(Reply::Drip);
    // The Runtime API kills the process at its deadline, as Lambda does; it has answered before.
    let (error_type, message) = function.invoke(json!({}), 4_000).await.expect_error();
    assert_eq!((error_type.as_str(), world.desired().await), ("Timeout", 50), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_verified_are_warned_of_at_each_tick() {
    let world = World::ministack(10).await;
    let server = HttpServer::with_tls(Reply::json(0)).await;
    let settings = json!({ "url": server.url(), "insecure_tls": true });
    let document = json!({ "queue_type": "http_json", "queue_config": settings }).to_string();
    let more = [
        ("ALLOW_LOCAL_ADDRESSES", "true"),
        ("ALLOW_INSECURE_TLS", "true"),
        ("DRY_RUN", "true"),
        ("CONFIG", &*document),
    ];
    let unverified = world.function(&world.env(&world.url(), &more)).await;
    for tick in 1..=2 {
        let answer = unverified.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
        assert!(answer["records"][0]["warnings"].to_string().contains("does not verify certificates"), "{answer}");
        let warned = unverified.stderr().lines().filter(|line| line.contains("does not verify certificates")).count();
        assert_eq!(warned, tick);
    }
    let verified = function(&world, &server.url(), &[("DRY_RUN", "true")]).await;
    let (kind, message) = verified.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(kind, "Unavailable", "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_payload_scales_nothing_and_the_process_lives_on() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let function = world.function(&world.env(&world.url(), &[])).await;
    let config = |config: Value| json!({ "config": config }).to_string().into_bytes();
    let nested = |levels: usize| format!(r#"{{"config": {}{}}}"#, "[".repeat(levels), "]".repeat(levels)).into_bytes();
    for (name, payload) in [
        ("a list", b"[]".to_vec()),
        ("a text", b"\"\"".to_vec()),
        ("a number", b"5".to_vec()),
        ("nothing at all", Vec::new()),
        ("no JSON", b"{\"config\": ".to_vec()),
        ("bytes that are no UTF-8", b"{\"config\": {\"service_name\": \"\xff\xfe\"}}".to_vec()),
        ("a config that is a list", config(json!([]))),
        ("nested 100 deep", nested(100)),
        ("nested 10,000 deep", nested(10_000)),
        ("an unknown key", config(json!({ "min_taks": 1 }))),
        ("a long text", config(json!({ "service_name": "x".repeat(3_000) }))),
        ("a long list", config(json!({ "allowed_targets": vec!["*"; 1_001] }))),
        ("300 KiB", config(json!({ "allowed_targets": vec!["x".repeat(1_000); 300] }))),
        ("6 MB", config(json!({ "service_name": "x".repeat(6_000_000) }))),
    ] {
        match function.invoke(payload.as_slice(), TIMEOUT_MS).await {
            Answer::Error { error_message, .. } => {
                assert!(error_message.len() < 2_000, "{name}: {} bytes of error", error_message.len());
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let message = fails(&function, json!({ "config": { "a": { "b": ["x".repeat(3_000)] } } }), "Config").await;
    assert!(message.contains("config.a.b[0] (event) is a text of 3000 bytes"), "{message}");
    // Of a key that is there twice the last one counts, as for every reader of JSON that does not refuse it.
    assert_eq!(world.desired().await, 10);
    let twice = br#"{"config": {"dry_run": true, "max_tasks": 5, "max_tasks": 40}}"#;
    let answer = function.invoke(twice.as_slice(), TIMEOUT_MS).await.expect_ok();
    assert_eq!(answer["records"][0]["decision"]["desired"], 40, "{answer}");
    // The same process still does what it should.
    function.invoke(json!(null), TIMEOUT_MS).await.expect_ok();
    assert_eq!(world.desired().await, 60);
}
