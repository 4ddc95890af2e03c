//! Services that a name with `*` stands for, as they come and go.

use serde_json::{Value, json};

use crate::support::emulator::{Env, TIMEOUT_MS, World};
use crate::support::proxy::{Fault, Proxy};
use crate::support::runtime_api::Answer;

/// The environment of a function without a service of the short form.
fn env(world: &World, more: &[(&str, &str)]) -> Env {
    let keep = [
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "S3_CONFIG_BUCKET",
        "ALLOWED_TARGETS",
    ];
    world.env(&world.url(), more).into_iter().filter(|(name, _)| keep.contains(&name.as_str())).collect()
}

/// A service, or a name with `*`, that is to have so many tasks.
fn service(world: &World, name: &str, of_target: &str, count: u32) -> Value {
    json!({
        "name": name, "target": { "type": "ecs", "cluster": world.name, "service": of_target, "task_protection": "ignore" },
        "sources": [{ "type": "sqs", "queue": world.queue_url }], "policies": [{ "type": "threshold" }],
        "bounds": { "min": 0, "max": 100 }, "pause": count,
    })
}

fn outcomes(answer: &Value) -> Vec<(String, String)> {
    let records = answer["records"].as_array().expect("an answer has records");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    records.iter().map(|record| (text(&record["service"]), text(&record["outcome"]))).collect()
}

fn owned(outcomes: &[(&str, &str)]) -> Vec<(String, String)> {
    outcomes.iter().map(|(service, outcome)| ((*service).to_owned(), (*outcome).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_appear_later_are_scaled_from_the_next_tick_on() {
    let world = World::ministack(1).await;
    world.add_service("orders-a", 1).await;
    world.add_service("orders-b", 1).await;
    let function = world.function(&env(&world, &[])).await;
    let services = [service(&world, "all", "orders-*", 3), service(&world, "alone", "orders-b", 7)];
    let payload = json!({ "config": { "services": services } });
    let answer = function.invoke(&payload, TIMEOUT_MS).await.expect_ok();
    // What is configured by itself is not taken by the name with `*`, and what does not match is nobody's.
    assert_eq!(outcomes(&answer), owned(&[("alone", "changed"), ("all/orders-a", "changed")]));
    world.add_service("orders-c", 1).await;
    let answer = function.invoke(&payload, TIMEOUT_MS).await.expect_ok();
    assert_eq!(outcomes(&answer), owned(&[("alone", "held"), ("all/orders-a", "held"), ("all/orders-c", "changed")]));
    let counts = [world.desired_of("orders-a").await, world.desired_of("orders-b").await];
    assert_eq!((counts, world.desired_of("orders-c").await, world.desired().await), ([3, 7], 3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_listed_fails_its_pattern_alone() {
    let world = World::ministack(1).await;
    // Emulators list nothing of a cluster that they do not have, where AWS says that there is none.
    let proxy = Proxy::start(world.address).await;
    proxy.fail("ListServices", 100, Fault::json(400, "ClusterNotFoundException"));
    let function = world.function(&env(&world, &[("AWS_ENDPOINT_URL", &proxy.url())])).await;
    let services = [service(&world, "all", "*", 3), service(&world, "alone", &world.name, 7)];
    let payload = json!({ "config": { "services": services } });
    let answer = function.invoke(&payload, TIMEOUT_MS).await;
    let Answer::Error { error_type, error_message, .. } = answer else { panic!("it must fail: {answer:?}") };
    assert_eq!(error_type, "NotFound", "{error_message}");
    assert!(error_message.starts_with("1 of 2 services failed: all: looking for"), "{error_message}");
    assert_eq!(world.desired().await, 7, "the other service was scaled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_stays_within_the_deployments_allow_list() {
    let world = World::ministack(1).await;
    world.add_service("orders-a", 1).await;
    let allowed = format!("ecs:*/{}/orders-*", world.name);
    let function = world.function(&env(&world, &[("ALLOWED_TARGETS", &allowed)])).await;
    for (name, is_allowed) in [("orders-*", true), ("*", false), ("o*", false), ("orders-*-a", true)] {
        let payload = json!({ "config": { "services": [service(&world, "all", name, 3)] } });
        let is_ok = matches!(function.invoke(&payload, TIMEOUT_MS).await, Answer::Ok(_));
        assert_eq!(is_ok, is_allowed, "{name}");
    }
    assert_eq!((world.desired_of("orders-a").await, world.desired().await), (3, 1));
}
