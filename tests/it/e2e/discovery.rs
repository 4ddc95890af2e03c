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
async fn an_alert_is_answered_by_a_service_that_was_discovered() {
    let world = World::ministack(1).await;
    world.add_service("orders-a", 2).await;
    world.add_service("orders-b", 2).await;
    let mut all = service(&world, "all", "orders-*", 0);
    all.as_object_mut().expect("an object").remove("pause");
    all["policies"] = json!([{ "type": "alert_step", "by_out": 3 }]);
    let document = json!({ "services": [all] }).to_string();
    let env = [env(&world, &[]), vec![("CONFIG".to_owned(), document)]].concat();
    let alert = json!({ "groupLabels": { "service": "all/orders-b", "scale": "up" } });
    let answer = world.function(&env).await.invoke(&alert, TIMEOUT_MS).await.expect_ok();
    assert_eq!(outcomes(&answer), owned(&[("all/orders-a", "held"), ("all/orders-b", "changed")]));
    assert_eq!((world.desired_of("orders-a").await, world.desired_of("orders-b").await), (2, 5));
    // What cannot be listed fails by itself, and with that the alert.
    let proxy = Proxy::start(world.address).await;
    proxy.fail("ListServices", 100, Fault::json(400, "ClusterNotFoundException"));
    let env: Env = env.into_iter().filter(|(name, _)| name != "AWS_ENDPOINT_URL").collect();
    let env = [env, vec![("AWS_ENDPOINT_URL".to_owned(), proxy.url())]].concat();
    let answer = world.function(&env).await.invoke(&alert, TIMEOUT_MS).await;
    let Answer::Error { error_type, error_message, .. } = answer else { panic!("it must fail: {answer:?}") };
    assert_eq!(error_type, "NotFound", "{error_message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_what_a_pattern_stands_for() {
    let world = World::ministack(1).await;
    world.add_service("orders-a", 2).await;
    world.add_service("orders-b", 2).await;
    let status = async |service: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.env_clear().envs(env(&world, &[])).env("AWS_EC2_METADATA_DISABLED", "true");
        let (cluster, service) = (format!("cluster={}", world.name), format!("service={service}"));
        let output = command.args(["status", "type=ecs", &cluster, &service]).output().await.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("the answer is JSON")
    };
    let found = status("orders-*").await;
    let of = |service: &str| json!(format!("ecs:us-east-1/-/{}/{service}", world.name));
    assert_eq!(found["stands_for"], json!([of("orders-a"), of("orders-b")]), "{found}");
    assert_eq!((&found["target"], &found["desired"]), (&of("orders-*"), &Value::Null), "{found}");
    assert!(found["permissions"].to_string().contains("ecs:ListServices"), "{found}");
    assert_eq!(status("nothing-*").await["stands_for"], json!([]));
    assert_eq!(status("orders-a").await["desired"], 2);
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
