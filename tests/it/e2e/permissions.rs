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

pub(super) async fn outcome(world: &World, env: &Env, policy: &Value) -> Result<String, String> {
    let keys = world.role(policy).await;
    let mut env = env.clone();
    env.retain(|(name, _)| !keys.iter().any(|(key, _)| key == name));
    env.extend(keys);
    match world.function(&env).await.invoke(json!({}), TIMEOUT_MS).await {
        crate::support::runtime_api::Answer::Ok(answer) => Ok(answer["records"][0]["outcome"].to_string()),
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
        for (number, statement) in policy["Statement"].as_array().expect("a policy has statements").iter().enumerate() {
            for (place, action) in statement["Action"].as_array().expect("a statement has actions").iter().enumerate() {
                // The emulator answers a missing object with 404 with or without this one; AWS with 403 without it.
                if action == "s3:ListBucket" {
                    continue;
                }
                let mut less = policy.clone();
                let statements = less["Statement"].as_array_mut().expect("a list");
                statements[number]["Action"].as_array_mut().expect("a list").remove(place);
                // AWS refuses a statement without any action.
                statements.retain(|statement| statement["Action"] != json!([]));
                let result = outcome(&world, &env, &less).await;
                assert_eq!(result, Err("Denied".to_owned()), "without {action}");
                world.rest().await;
                tried += 1;
            }
        }
        assert_eq!(tried, if by_name { 6 } else { 5 });
        world.set_desired(10).await;
        assert_eq!(outcome(&world, &env, &policy).await, Ok("\"changed\"".to_owned()));
    }
}
