//! What cannot be read never becomes a number, and fails the invocation.

use serde_json::{Value, json};

use crate::support::emulator::{Env, TIMEOUT_MS, World};
use crate::support::proxy::{Fault, Proxy, When};

/// A policy for everything but the named actions.
fn all_but(denied: &[&str]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["sqs:*", "ecs:*", "s3:*"], "Resource": ["*"] },
        { "Effect": "Deny", "Action": denied, "Resource": ["*"] },
    ] })
}

async fn env_of(world: &World, policy: &Value) -> Env {
    let keys = world.role(policy).await;
    let keys: Vec<_> = keys.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    world.env(&world.url(), &keys)
}

/// The record of a failed invocation is in its log.
fn last_record(lines: &[Value]) -> Value {
    lines.iter().rev().find_map(|line| line.get("record")).cloned().expect("a record was logged")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_leaves_the_count_alone_and_fails_as_not_found() {
    for world in [World::ministack(50).await, World::moto(50).await] {
        world.rest().await;
        world.sqs.delete_queue().queue_url(&world.queue_url).send().await.expect("a queue can be deleted");
        let function = world.function(&world.env(&world.url(), &[])).await;
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert_eq!(error_type, "NotFound", "{message}");
        assert_eq!(world.desired().await, 50);
        let record = last_record(&function.json_lines());
        assert_eq!(record["decision"]["reasons"][0]["code"], "MetricUnreadable", "{record}");
        assert_eq!(record["decision"]["reasons"][0]["kind"], "NotFound", "{record}");
        assert_eq!(record["outcome"], "held");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_queue_never_scales_in_and_names_the_action() {
    let world = World::ministack(50).await;
    world.rest().await;
    let function = world.function(&env_of(&world, &all_but(&["sqs:GetQueueAttributes"])).await).await;
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "Denied", "{message}");
    assert!(message.contains("sqs:GetQueueAttributes"), "{message}");
    assert_eq!(world.desired().await, 50);
    // With the permission the same empty queue does scale in, so that the test can fail.
    let function = world.function(&env_of(&world, &all_but(&["sqs:SendMessage"])).await).await;
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(world.desired().await, 49);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_bucket_never_scales_in() {
    let world = World::ministack(50).await;
    world.rest().await;
    let function = world.function(&env_of(&world, &all_but(&["s3:GetObject"])).await).await;
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "Denied", "{message}");
    assert!(message.contains("s3:GetObject"), "{message}");
    let missing = world.env(&world.url(), &[("S3_CONFIG_BUCKET", "no-such-bucket-anywhere")]);
    let (error_type, message) = world.function(&missing).await.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "NotFound", "{message}");
    assert_eq!(world.desired().await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_be_written_stops_the_change_it_could_not_announce() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let function = world.function(&env_of(&world, &all_but(&["s3:PutObject"])).await).await;
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "Denied", "{message}");
    assert!(message.contains("s3:PutObject"), "{message}");
    assert_eq!(world.desired().await, 10);
    assert_eq!(last_record(&function.json_lines())["outcome"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_to_write_is_a_failure_and_no_conflict() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    proxy.fail("S3.PutObject", 100, Fault::xml(500, "InternalError"));
    let function = world.function(&world.env(&proxy.url(), &[])).await;
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "Unavailable", "{message}");
    assert_eq!((world.desired().await, proxy.count("UpdateService")), (10, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_whose_reply_is_lost_is_not_sent_twice_and_not_stepped_twice() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    proxy.fail("UpdateService", 1, Fault::DropReply);
    let function = world.function(&world.env(&proxy.url(), &[])).await;
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "Unavailable", "{message}");
    assert_eq!((world.desired().await, proxy.count("UpdateService")), (60, 1));
    // The next tick recognizes the change, and the standing backlog is not answered again.
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!((world.desired().await, proxy.count("UpdateService")), (60, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_to_the_announcement_is_found_to_have_succeeded() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    proxy.fail("S3.PutObject", 1, Fault::DropReply);
    let function = world.function(&world.env(&proxy.url(), &[])).await;
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!((world.desired().await, proxy.count("UpdateService")), (60, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_somebody_changes_meanwhile_is_left_alone() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    let announced = proxy.hold("S3.PutObject", When::After);
    let function = world.function(&world.env(&proxy.url(), &[])).await;
    let invocation = function.start(json!({}), TIMEOUT_MS);
    announced.reached().await;
    world.set_desired(200).await;
    announced.release();
    let record = invocation.answer().await.expect_ok()["records"][0].clone();
    assert_eq!((&record["outcome"], world.desired().await), (&json!("superseded"), 200), "{record}");
    assert_eq!(proxy.count("UpdateService"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_out_without_state_needs_the_switch() {
    let world = World::ministack(10).await;
    world.send(5_000).await;
    let mut env = env_of(&world, &all_but(&["s3:GetObject"])).await;
    world.function(&env).await.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(world.desired().await, 10);
    env.push(("ALLOW_SCALE_OUT_WITHOUT_STATE".to_owned(), "true".to_owned()));
    let function = world.function(&env).await;
    let (error_type, _) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(
        (error_type.as_str(), world.desired().await),
        ("Denied", 60),
        "the change is made, and the failure is reported"
    );
    // The process remembers its own step, so that the standing backlog is not answered again.
    function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(world.desired().await, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_service_or_cluster_is_not_found_and_never_zero_tasks() {
    for (name, value) in [("SERVICE_NAME", "no-such-service"), ("ECS_CLUSTER", "no-such-cluster")] {
        for world in [World::ministack(50).await, World::moto(50).await] {
            let function = world.function(&world.env(&world.url(), &[(name, value)])).await;
            let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
            assert_eq!(error_type, "NotFound", "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_service_never_stops_another() {
    let world = World::ministack(10).await;
    world.add_service("other", 10).await;
    world.send(5_000).await;
    let service = |name: &str, service: &str, queue: &str| {
        json!({
            "name": name, "target": { "type": "ecs", "cluster": world.name, "service": service },
            "sources": [{ "type": "sqs", "queue": queue }], "policies": [{ "type": "threshold" }],
        })
    };
    let missing = format!("{}-missing", world.queue_url);
    let keep = ["AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_CONFIG_BUCKET"];
    let env: Env = world.env(&world.url(), &[]).into_iter().filter(|(name, _)| keep.contains(&name.as_str())).collect();
    let function = world.function(&env).await;
    let services = [service("broken", "other", &missing), service("whole", &world.name, &world.queue_url)];
    let payload = json!({ "config": { "services": services } });
    let (error_type, message) = function.invoke(&payload, TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "NotFound", "{message}");
    assert!(message.starts_with("1 of 2 services failed: broken: "), "{message}");
    assert_eq!((world.desired().await, world.desired_of("other").await), (60, 10));
    // Two services that fail in two ways are a partial failure.
    let daemon = world.ecs.create_service().cluster(&world.name).service_name("daemon").task_definition(&world.name);
    let daemon = daemon.scheduling_strategy(aws_sdk_ecs::types::SchedulingStrategy::Daemon).send().await;
    daemon.expect("a daemon service can be made");
    let services = [service("broken", "other", &missing), service("daemon", "daemon", &world.queue_url)];
    let payload = json!({ "config": { "services": services } });
    let (error_type, message) = function.invoke(&payload, TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "PartialFailure", "{message}");
    assert!(message.contains("broken: ") && message.contains("daemon: "), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_scales_nothing_and_says_everything_at_once() {
    let world = World::ministack(10).await;
    world.send(5_000).await;
    let function = world.function(&world.env(&world.url(), &[])).await;
    let payload =
        json!({ "config": { "min_tasks": 50, "max_tasks": 5, "queue_typ": "sqs", "scale_in_cooldown": "soon" } });
    let (error_type, message) = function.invoke(payload, TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "Config", "{message}");
    assert!(message.starts_with("configuration has 3 problems"), "{message}");
    assert_eq!(world.desired().await, 10);
    // The process is none the worse for it.
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(world.desired().await, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_service_is_refused() {
    // ministack keeps the strategy, as AWS does; what AWS refuses on update is refused here on sight.
    let world = World::ministack(10).await;
    let request = world.ecs.create_service().cluster(&world.name).service_name("daemon").task_definition(&world.name);
    let daemon = aws_sdk_ecs::types::SchedulingStrategy::Daemon;
    request.scheduling_strategy(daemon).send().await.expect("a daemon service can be made");
    let function = world.function(&world.env(&world.url(), &[("SERVICE_NAME", "daemon")])).await;
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "Refused", "{message}");
    assert!(message.contains("DAEMON"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_never_answers_does_not_outlast_the_deadline() {
    let world = World::ministack(50).await;
    world.rest().await;
    let proxy = Proxy::start(world.address).await;
    proxy.fail("GetQueueAttributes", 100, Fault::Delay(std::time::Duration::from_secs(60)));
    let function = world.function(&world.env(&proxy.url(), &[])).await;
    // The Runtime API kills the process at its deadline, as Lambda does; it has answered before.
    let (error_type, message) = function.invoke(json!({}), 6_000).await.expect_error();
    assert_eq!((error_type.as_str(), world.desired().await), ("Timeout", 50), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_finished_before_the_deadline_is_not_begun() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    let function = world.function(&world.env(&proxy.url(), &[])).await;
    let (error_type, message) = function.invoke(json!({}), 3_000).await.expect_error();
    assert_eq!(error_type, "Timeout", "{message}");
    assert_eq!((world.desired().await, proxy.mutating().len()), (10, 0));
    // The next tick has the time.
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(world.desired().await, 60);
}
