//! What the service itself says about its scaling: another autoscaler, a pause by tag, protected tasks.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate::config::{Config, Input, load};
use tidegate::shared::Shared;

use crate::support::emulator::{Env, TIMEOUT_MS, World};
use crate::support::proxy::{Fault, Proxy};
use crate::support::runtime_api::Function;
use crate::support::target::look_on_through;

const SCALER: &str = "Application Auto Scaling (min 1, max 20)";

async fn record(function: &Function, payload: &Value) -> Value {
    let answer = function.invoke(payload, TIMEOUT_MS).await.expect_ok();
    answer["records"][0].clone()
}

fn config(env: &Env) -> Config {
    let vars: BTreeMap<_, _> = env.iter().cloned().collect();
    load(Input { vars: &vars, event: &Value::Null, in_lambda: true, remote: None }).expect("a valid configuration")
}

/// What the target says of its protected tasks, as the function would ask it.
async fn protected(world: &World, env: &Env) -> tidegate::error::Result<Option<u32>> {
    let config = config(env);
    let shared = Shared::new(&config, std::sync::Arc::new(std::collections::BTreeMap::new()), None).await;
    let target = config.services[0].target.build(&shared).expect("the target can be built");
    target.protected(std::slice::from_ref(&world.name)).await.pop().expect("one answer for each service")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scalable_target_on_the_same_service_is_seen_and_its_removal_too() {
    for world in [World::ministack(10).await, World::moto(10).await] {
        world.scale_otherwise(&world.name, 1, 20).await;
        let proxy = Proxy::start(world.address).await;
        // AWS tells seconds, and moto a text that the SDK rightly refuses.
        proxy.rewrite_response("DescribeScalableTargets", |mut answer| {
            for target in answer["ScalableTargets"].as_array_mut().into_iter().flatten() {
                target["CreationTime"] = json!(1_795_320_000);
            }
            answer
        });
        let function = world.function(&world.env(&proxy.url(), &[("DRY_RUN", "true")])).await;
        assert_eq!(record(&function, &json!({})).await["status"]["other_scaler"], SCALER);
        let allowed = json!({ "config": { "allow_application_auto_scaling": true } });
        let status = record(&function, &allowed).await["status"].clone();
        assert_eq!(status["other_scaler"], json!(null), "{status}");
        assert!(status["warnings"].to_string().contains(SCALER), "{status}");
        world.scale_alone(&world.name).await;
        let status = record(&function, &json!({})).await["status"].clone();
        assert_eq!((&status["other_scaler"], &status["warnings"]), (&json!(null), &json!(null)));
        // It is asked about once more in five minutes.
        record(&function, &json!({})).await;
        assert_eq!(proxy.count("DescribeScalableTargets"), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_that_allows_another_scaler_allows_it_for_no_other() {
    let world = World::ministack(10).await;
    world.add_service("other", 10).await;
    world.scale_otherwise(&world.name, 1, 20).await;
    world.scale_otherwise("other", 1, 20).await;
    let service = |name: &str, allowed: bool| {
        json!({
            "name": name, "sources": [{ "type": "sqs", "queue": world.queue_url }], "policies": [{ "type": "threshold" }],
            "target": { "type": "ecs", "cluster": world.name, "service": name, "allow_application_auto_scaling": allowed },
        })
    };
    let keep = ["AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_CONFIG_BUCKET"];
    let env: Env = world.env(&world.url(), &[]).into_iter().filter(|(name, _)| keep.contains(&name.as_str())).collect();
    let function = world.function(&env).await;
    let payload =
        json!({ "config": { "dry_run": true, "services": [service(&world.name, true), service("other", false)] } });
    let answer = function.invoke(payload, TIMEOUT_MS).await.expect_ok();
    let scaler = |number: usize| answer["records"][number]["status"]["other_scaler"].clone();
    assert_eq!((scaler(0), scaler(1)), (json!(null), json!(SCALER)));
}

#[tokio::test(flavor = "multi_thread")]
async fn application_auto_scaling_that_does_not_answer_is_a_warning_and_the_tick_goes_on() {
    for fault in [
        Fault::json(400, "ThrottlingException"),
        Fault::json(500, "InternalServiceException"),
        Fault::DropReply,
        Fault::CutAfter(10),
        Fault::Delay(std::time::Duration::from_secs(60)),
    ] {
        let world = World::ministack(10).await;
        world.rest().await;
        world.send(5_000).await;
        let proxy = Proxy::start(world.address).await;
        proxy.fail("DescribeScalableTargets", 100, fault.clone());
        let function = world.function(&world.env(&proxy.url(), &[])).await;
        let record = record(&function, &json!({})).await;
        let warnings = record["status"]["warnings"].to_string();
        assert!(warnings.contains("application-autoscaling:DescribeScalableTargets"), "{fault:?}: {record}");
        assert_eq!((&record["outcome"], world.desired().await), (&json!("changed"), 60), "{fault:?}: {record}");
        assert_eq!(proxy.count("DescribeScalableTargets"), 1, "{fault:?}: it was asked again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_at_the_service_pauses_it() {
    for world in [World::ministack(10).await, World::moto(10).await] {
        let function = world.function(&world.env(&world.url(), &[("DRY_RUN", "true")])).await;
        assert_eq!(record(&function, &json!({})).await["status"]["pause"], json!(null));
        for (value, pause, warns) in [
            ("in", json!("in"), false),
            ("both", json!("both"), false),
            ("3", json!(3), false),
            ("until tuesday", json!("both"), true),
        ] {
            world.tag("tidegate:pause", value).await;
            let status = record(&function, &json!({})).await["status"].clone();
            assert_eq!(status["pause"], pause, "{value}");
            assert_eq!(status["warnings"].to_string().contains("tidegate:pause"), warns, "{status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_tasks_of_a_service_are_counted() {
    // More than one page.
    let world = World::ministack(120).await;
    let env = world.env(&world.url(), &[]);
    assert_eq!(protected(&world, &env).await.expect("it can be read"), Some(0));
    let tasks = world.ecs.list_tasks().cluster(&world.name).service_name(&world.name).send().await;
    let tasks = tasks.expect("tasks can be listed").task_arns().to_vec();
    world.protect(&tasks[..7]).await;
    assert_eq!(protected(&world, &env).await.expect("it can be read"), Some(7));
    let ignored = world.env(&world.url(), &[("TASK_PROTECTION", "ignore")]);
    assert_eq!(protected(&world, &ignored).await.expect("nothing is asked"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_scaler_scales_is_refused_and_left_alone() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    world.scale_otherwise(&world.name, 1, 20).await;
    let function = world.function(&world.env(&world.url(), &[])).await;
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!((error_type.as_str(), world.desired().await), ("Refused", 10), "{message}");
    assert!(message.contains(SCALER) && message.contains("remove one of the two"), "{message}");
    // A rehearsal looks on, and compares.
    let dry = record(&function, &json!({ "config": { "dry_run": true } })).await;
    assert_eq!((&dry["outcome"], &dry["would_have"]["desired"]), (&json!("dry_run"), &json!(60)), "{dry}");
    assert_eq!(dry["would_have"]["compared"], json!({ "more": 1, "same": 0, "fewer": 0 }), "{dry}");
    // Without the other one it is a service like any other.
    world.scale_alone(&world.name).await;
    assert_eq!((&record(&function, &json!({})).await["outcome"], world.desired().await), (&json!("changed"), 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_beside_another_scaler_sends_aws_nothing_that_changes_anything() {
    let world = World::ministack(3).await;
    world.scale_otherwise(&world.name, 1, 20).await;
    let proxy = Proxy::start(world.address).await;
    let env = world.env(&proxy.url(), &[]);
    let keep = ["AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let env: Vec<_> = env.into_iter().filter(|(name, _)| keep.contains(name)).collect();
    let settings = json!({ "type": "ecs", "cluster": world.name, "service": world.name });
    let others = async |count| world.set_desired(i32::try_from(count).expect("a few")).await;
    look_on_through(&proxy, &env, settings, others).await;
    assert!(0 < proxy.count("DescribeScalableTargets"), "nobody looked for another");
    assert_eq!(proxy.count("DescribeServices"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_stops_everything_until_it_is_taken_away() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    world.tag("tidegate:pause", "both").await;
    let function = world.function(&world.env(&world.url(), &[])).await;
    assert_eq!((&record(&function, &json!({})).await["outcome"], world.desired().await), (&json!("held"), 10));
    world.tag("tidegate:pause", "40").await;
    assert_eq!((&record(&function, &json!({})).await["outcome"], world.desired().await), (&json!("changed"), 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_tasks_stay() {
    let world = World::ministack(50).await;
    world.rest().await;
    let tasks = world.ecs.list_tasks().cluster(&world.name).service_name(&world.name).send().await;
    world.protect(&tasks.expect("tasks can be listed").task_arns()[..30]).await;
    let env = world.env(&world.url(), &[("MAX_SCALE_DOWN_FACTOR", "0"), ("MIN_TASKS", "1")]);
    let function = world.function(&env).await;
    let record = record(&function, &json!({})).await;
    assert_eq!((&record["outcome"], world.desired().await), (&json!("changed"), 30), "{record}");
}
