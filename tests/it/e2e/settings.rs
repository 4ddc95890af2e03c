//! What is configured takes effect, whichever way it is given.

use serde_json::{Value, json};

use crate::support::emulator::{TIMEOUT_MS, World};
use crate::support::proxy::Proxy;

fn only_record(answer: Value) -> Value {
    let records = answer["records"].as_array().expect("an answer has records");
    assert_eq!(records.len(), 1, "{answer}");
    records[0].clone()
}

async fn both_ways(world: World, messages: usize, desired: u32) {
    world.send(messages).await;
    world.rest().await;
    let dry = [("DRY_RUN", "true")];
    let from_environment = world.function(&world.env(&world.url(), &dry)).await.invoke(json!({}), TIMEOUT_MS).await;
    let from_environment = only_record(from_environment.expect_ok());
    let credentials =
        world.env(&world.url(), &dry).into_iter().filter(|(name, _)| name.starts_with("AWS_") || name == "DRY_RUN");
    let payload = json!({ "config": {
        "cluster_name": world.name, "service_name": world.name,
        "queue_type": "sqs", "queue_config": { "queue_url": world.queue_url },
        "s3_config_bucket": world.name,
    } });
    let function = world.function(&credentials.collect()).await;
    let from_payload = only_record(function.invoke(payload, TIMEOUT_MS).await.expect_ok());
    assert_eq!(from_environment["decision"], from_payload["decision"]);
    assert_eq!(from_payload["decision"]["current"], 10);
    assert_eq!(from_payload["decision"]["desired"], desired);
    assert_eq!(from_payload["outcome"], "dry_run");
    assert_eq!(world.desired().await, 10, "a dry run changed something");
}

#[tokio::test(flavor = "multi_thread")]
async fn payload_and_environment_decide_the_same() {
    both_ways(World::ministack(10).await, 5_000, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payload_and_environment_decide_the_same_in_moto_too() {
    // Moto takes minutes for thousands of messages.
    both_ways(World::moto(10).await, 250, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explicit_zero_and_true_take_effect() {
    let world = World::ministack(1).await;
    let function = world.function(&world.env(&world.url(), &[])).await;
    // First sight of the service: with a scale-in cooldown of zero only the same instant is too early.
    let payload = json!({ "config": { "min_tasks": 0, "scale_in_cooldown": 0, "use_combined_messages": true } });
    let first = only_record(function.invoke(&payload, TIMEOUT_MS).await.expect_ok());
    assert_eq!(first["decision"]["desired"], 1, "{first}");
    let second = only_record(function.invoke(&payload, TIMEOUT_MS).await.expect_ok());
    assert_eq!((&second["decision"]["desired"], &second["outcome"]), (&json!(0), &json!("changed")), "{second}");
    assert_eq!(world.desired().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn combined_messages_count_in_flight() {
    let world = World::ministack(10).await;
    world.send(120).await;
    for _ in 0..6 {
        let request = world.sqs.receive_message().queue_url(&world.queue_url).max_number_of_messages(10);
        request.send().await.expect("messages can be received");
    }
    let desired = async |more: &[(&str, &str)], payload: Value| {
        let function = world.function(&world.env(&world.url(), more)).await;
        let record = only_record(function.invoke(payload, TIMEOUT_MS).await.expect_ok());
        (record["decision"]["desired"].clone(), record["samples"][0]["reading"]["in_flight"].clone())
    };
    let dry = ("DRY_RUN", "true");
    assert_eq!(desired(&[dry], json!(null)).await, (json!(10), json!(60)), "sixty wait, which is below the threshold");
    assert_eq!(desired(&[dry, ("USE_COMBINED_MESSAGES", "on")], json!(null)).await.0, json!(11));
    let payload = json!({ "config": { "use_combined_messages": true } });
    assert_eq!(desired(&[dry], payload).await.0, json!(11));
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_read_by_url_name_and_arn() {
    let world = World::ministack(10).await;
    world.send(500).await;
    let arn = format!("arn:aws:sqs:us-east-1:{}:{}", world.account, world.name);
    for queue in [world.queue_url.as_str(), &world.name, &arn] {
        let function = world.function(&world.env(&world.url(), &[("SQS_QUEUE_URL", queue), ("DRY_RUN", "true")])).await;
        let record = only_record(function.invoke(json!({}), TIMEOUT_MS).await.expect_ok());
        assert_eq!(record["samples"][0]["reading"]["backlog"], 500, "{queue}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_makes_no_mutating_call() {
    // Few tasks: the emulator takes seconds to end hundreds of them on a busy machine.
    let world = World::ministack(8).await;
    let proxy = Proxy::start(world.address).await;
    world.rest().await;
    let env = world.env(&proxy.url(), &[("MIN_TASKS", "1"), ("MAX_TASKS", "5")]);
    for payload in [json!({ "config": { "dry_run": true } }), json!({ "config": { "dry_run": true, "min_tasks": 0 } })]
    {
        let function = world.function(&env).await;
        let record = only_record(function.invoke(payload, TIMEOUT_MS).await.expect_ok());
        assert_eq!((&record["outcome"], &record["decision"]["desired"]), (&json!("dry_run"), &json!(5)), "{record}");
    }
    assert!(proxy.mutating().is_empty(), "{:?}", proxy.mutating());
    assert!(proxy.count("DescribeServices") == 2 && proxy.count("GetQueueAttributes") == 2);
    // The same without dry run does change something, so that the count above can fail.
    let function = world.function(&env).await;
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!((proxy.count("UpdateService"), world.desired().await), (1, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_without_change_costs_one_call_for_each_thing_read() {
    let world = World::ministack(10).await;
    let proxy = Proxy::start(world.address).await;
    world.rest().await;
    let function = world.function(&world.env(&proxy.url(), &[])).await;
    let calls = || proxy.calls().into_iter().map(|call| call.action).collect::<Vec<_>>();
    // The first tick remembers that the queue is empty, and asks whether another autoscaler sets the count, which is asked
    // once in five minutes.
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(calls().len(), 5, "{:?}", calls());
    proxy.reset();
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(calls().len(), 3, "{:?}", calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_does_what_the_function_does() {
    let world = World::ministack(10).await;
    world.send(5_000).await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().envs(world.env(&world.url(), &[])).env("AWS_EC2_METADATA_DISABLED", "true");
    let event = concat!(env!("CARGO_MANIFEST_DIR"), "/events/eventbridge_scheduled.json");
    let output = command.args(["invoke", "--event", event]).output().await.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("the answer is JSON");
    assert_eq!(answer["records"][0]["outcome"], "changed");
    assert_eq!(world.desired().await, 60);
    // The command asked for its account and kept the state where the function would.
    assert!(world.state().await.is_some());
}
