//! The policy that `tidegate iam` prints is enough, and every statement of it is needed.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::emulator::{Env, TIMEOUT_MS, World};

pub(super) fn policy(world: &World, env: &Env) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().envs(env.iter().cloned()).args(["iam", "--account", world.account]);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a policy is JSON")
}

fn actions(policy: &Value) -> Vec<String> {
    let statements = policy["Statement"].as_array().expect("a policy has statements");
    let of = |statement: &Value| statement["Action"].as_array().cloned().expect("a statement has actions");
    statements.iter().flat_map(of).map(|action| action.as_str().expect("a name").to_owned()).collect()
}

/// A policy without one action.
fn without(policy: &Value, action: &str) -> Value {
    let mut less = policy.clone();
    let statements = less["Statement"].as_array_mut().expect("a list");
    for statement in &mut *statements {
        statement["Action"].as_array_mut().expect("a list").retain(|allowed| allowed != action);
    }
    // AWS refuses a statement without any action.
    statements.retain(|statement| statement["Action"] != json!([]));
    less
}

/// The record of a tick with this policy, or the type of its error.
pub(super) async fn outcome(world: &World, env: &Env, policy: &Value) -> Result<Value, String> {
    let keys = world.role(policy).await;
    let mut env = env.clone();
    env.retain(|(name, _)| !keys.iter().any(|(key, _)| key == name));
    env.extend(keys);
    match world.function(&env).await.invoke(json!({}), TIMEOUT_MS).await {
        crate::support::runtime_api::Answer::Ok(answer) => Ok(answer["records"][0].clone()),
        other => Err(other.expect_error().0),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_policy_is_enough_and_every_action_of_it_is_needed() {
    for by_name in [false, true] {
        let world = World::ministack(10).await;
        let queue = if by_name { world.name.clone() } else { world.queue_url.clone() };
        let env = world.env(&world.url(), &[("SQS_QUEUE_URL", &queue)]);
        let policy = policy(&world, &env);
        world.send(500).await;
        let mut tried = 0;
        for action in actions(&policy) {
            // The emulator answers a missing object with 404 with or without s3:ListBucket; AWS with 403 without it. A tick
            // that scales out needs none of the others, which have tests of their own.
            let elsewhere = [
                "s3:ListBucket",
                "ecs:ListTasks",
                "ecs:GetTaskProtection",
                "application-autoscaling:DescribeScalableTargets",
            ];
            if elsewhere.contains(&action.as_str()) {
                continue;
            }
            let result = outcome(&world, &env, &without(&policy, &action)).await;
            assert_eq!(result.expect_err("it is denied"), "Denied", "without {action}");
            world.rest().await;
            tried += 1;
        }
        assert_eq!(tried, if by_name { 6 } else { 5 });
        world.set_desired(10).await;
        let record = outcome(&world, &env, &policy).await.expect("everything is allowed");
        assert_eq!((&record["outcome"], &record["status"]["warnings"]), (&json!("changed"), &json!(null)), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_see_another_scaler_each_record_names_it() {
    let world = World::ministack(10).await;
    let env = world.env(&world.url(), &[]);
    world.send(500).await;
    let action = "application-autoscaling:DescribeScalableTargets";
    let policy = policy(&world, &env);
    let record = outcome(&world, &env, &without(&policy, action)).await.expect("the tick goes on");
    assert_eq!(record["outcome"], "changed");
    let warnings = record["status"]["warnings"].to_string();
    assert!(warnings.contains(&format!("access denied ({action}")), "{warnings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_permissions_for_task_protection_are_needed_and_hold_for_one_cluster() {
    let world = World::ministack(2).await;
    let other = World::ministack(2).await;
    let env = world.env(&world.url(), &[]);
    let policy = policy(&world, &env);
    // What the target asks: see `targets::ecs`.
    let list = async |policy: &Value, of: &World| {
        let client = world.ecs_as(&world.role(policy).await);
        client.list_tasks().cluster(&of.name).service_name(&of.name).send().await.is_ok()
    };
    let read = async |policy: &Value, of: &World| {
        let tasks = of.ecs.list_tasks().cluster(&of.name).send().await.expect("root may").task_arns().to_vec();
        let client = world.ecs_as(&world.role(policy).await);
        client.get_task_protection().cluster(&of.name).set_tasks(Some(tasks)).send().await.is_ok()
    };
    assert!(list(&policy, &world).await && read(&policy, &world).await);
    assert!(!list(&policy, &other).await && !read(&policy, &other).await, "another cluster is none of ours");
    let unlisted = without(&policy, "ecs:ListTasks");
    assert!(!list(&unlisted, &world).await && read(&unlisted, &world).await);
    let unread = without(&policy, "ecs:GetTaskProtection");
    assert!(list(&unread, &world).await && !read(&unread, &world).await);
}
