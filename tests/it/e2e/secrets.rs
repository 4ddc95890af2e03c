//! A secret that is planted wherever one can be comes out nowhere.

use serde_json::json;

use crate::support::emulator::{TIMEOUT_MS, World};
use crate::support::runtime_api::Answer;

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_secret_comes_out_nowhere_even_at_trace() {
    let world = World::ministack(10).await;
    world.send(5_000).await;
    let keys = [
        ("LOG_LEVEL", "TRACE"),
        ("RUST_LOG", "trace"),
        ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
        ("AWS_SECRET_ACCESS_KEY", "canary-aws-secret"),
        ("AWS_SESSION_TOKEN", "canary-aws-token"),
        ("REDIS_PASSWORD", "canary-redis"),
        ("RABBITMQ_PASSWORD", "canary-rabbit"),
        ("AMQ_PASSWORD", "canary-amq"),
    ];
    let planted = |kind: &str| json!({ "type": kind, "password": "canary-payload", "host": "canary-host" });
    let function = world.function(&world.env(&world.url(), &keys)).await;
    let mut shown = Vec::new();
    for payload in [
        json!({}),
        json!({ "config": { "queue_type": "redis", "queue_config": planted("redis") } }),
        json!({ "config": { "queue_type": "amq", "queue_config": { "username": "a", "password": "canary-payload" } } }),
        json!({ "config": { "queue_config": { "password": "canary-payload", "queue_url": world.queue_url } } }),
        json!({ "config": { "password": "canary-payload" } }),
        json!({ "password": "canary-payload" }),
        json!({ "config": { "services": [{ "name": "a", "target": planted("ecs"), "sources": [planted("rabbitmq")], "policies": [] }] } }),
        json!({ "detail-type": "Scheduled Event", "detail": { "password": "canary-payload" } }),
    ] {
        match function.invoke(payload, TIMEOUT_MS).await {
            Answer::Ok(answer) => shown.push(answer.to_string()),
            other => shown.push(format!("{:?}", other.expect_error())),
        }
    }
    shown.push(function.stdout());
    shown.push(function.stderr());
    assert!(shown.iter().any(|text| text.contains("scaled out")), "{shown:#?}");
    for text in &shown {
        assert!(!text.contains("canary"), "{text}");
    }
    // The test would see a leak: what is no secret does come out.
    assert!(shown.iter().any(|text| text.contains(&world.name)));
}
