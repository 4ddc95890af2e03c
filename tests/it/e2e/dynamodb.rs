//! Whole ticks with the state in DynamoDB.

use std::process::Command;

use serde_json::{Value, json};
use tidegate::stores::Expect;

use crate::support::emulator::{TIMEOUT_MS, World, loaded};
use crate::support::proxy::{Fault, Proxy, When};
use crate::support::runtime_api::Answer;

async fn remembers_what_it_did(world: World, messages: usize, desired: i32) {
    world.send(messages).await;
    let env = world.env_with_table(&world.url(), &[]).await;
    let (store, key) = (world.store_of(&env).await, world.state_key());
    let key = key.strip_prefix("tidegate/").expect("the prefix is the store's own");
    store.save(key, world.rested().await, &Expect::Absent).await.expect("the table is empty");
    let record = world.function(&env).await.invoke(json!({}), TIMEOUT_MS).await.expect_ok()["records"][0].take();
    assert_eq!((&record["outcome"], world.desired().await), (&json!("changed"), desired), "{record}");
    let document = loaded(store.as_ref(), key).await.expect("it is there");
    let state = document.services.values().next().expect("one service");
    assert_eq!(state.last_out.as_ref().map(|last| i64::from(last.to)), Some(i64::from(desired)));
    assert_eq!((document.seq, &state.pending), (3, &None), "after the intent and its confirmation");
    // Another process knows it too: the standing backlog is not answered again.
    world.function(&env).await.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(world.desired().await, desired);
    assert!(world.state().await.is_none(), "the bucket has a state too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_remembers_in_dynamodb_what_it_did() {
    remembers_what_it_did(World::ministack(10).await, 5_000, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_remembers_in_dynamodb_what_it_did_in_moto_too() {
    // Moto takes minutes for thousands of messages.
    remembers_what_it_did(World::moto(10).await, 250, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_overlapping_invocations_exactly_one_acts_by_dynamodb() {
    let world = World::ministack(10).await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    let env = world.env_with_table(&proxy.url(), &[]).await;
    proxy.barrier("GetItem", 8, When::After);
    let mut functions = Vec::new();
    for _ in 0..8 {
        functions.push(world.function(&env).await);
    }
    let invocations: Vec<_> = functions.iter().map(|function| function.start(json!({}), TIMEOUT_MS)).collect();
    let mut changed = 0;
    for invocation in invocations {
        changed += usize::from(invocation.answer().await.expect_ok()["records"][0]["outcome"] == "changed");
    }
    assert_eq!((changed, proxy.count("UpdateService"), world.desired().await), (1, 1, 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_that_meets_its_own_success_in_dynamodb_is_no_conflict() {
    let world = World::ministack(10).await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    let env = world.env_with_table(&proxy.url(), &[]).await;
    proxy.fail("PutItem", 1, Fault::DropReply);
    let record = world.function(&env).await.invoke(json!({}), TIMEOUT_MS).await.expect_ok()["records"][0].take();
    assert_eq!((&record["outcome"], world.desired().await), (&json!("changed"), 60), "{record}");
    // The write, its repetition by the SDK that failed on its condition, and the confirmation.
    let statuses: Vec<_> = proxy.calls().iter().filter(|call| call.is("PutItem")).map(|call| call.status).collect();
    assert_eq!(statuses, [Some(200), Some(400), Some(200)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_policy_is_enough_for_dynamodb_and_both_actions_are_needed() {
    let world = World::ministack(10).await;
    world.send(500).await;
    let env = world.env_with_table(&world.url(), &[]).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().envs(env.iter().cloned()).args(["iam", "--account", world.account]);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let policy: Value = serde_json::from_slice(&output.stdout).expect("a policy is JSON");
    assert!(!policy.to_string().contains("s3:"), "{policy}");
    for without in [Some("dynamodb:GetItem"), Some("dynamodb:PutItem"), None] {
        let mut less = policy.clone();
        for statement in less["Statement"].as_array_mut().expect("a policy has statements") {
            let actions = statement["Action"].as_array_mut().expect("a statement has actions");
            actions.retain(|action| action.as_str() != without);
        }
        let keys = world.role(&less).await;
        let mut env = env.clone();
        env.retain(|(name, _)| !keys.iter().any(|(key, _)| key == name));
        env.extend(keys);
        let answer = world.function(&env).await.invoke(json!({}), TIMEOUT_MS).await;
        match (without, answer) {
            (Some(action), answer @ Answer::Error { .. }) => {
                let (error_type, message) = answer.expect_error();
                assert_eq!(error_type, "Denied", "{message}");
                assert!(message.contains(action), "{message}");
                assert_eq!(world.desired().await, 10);
            }
            (None, answer) => assert_eq!(answer.expect_ok()["records"][0]["outcome"], "changed"),
            (Some(action), other) => panic!("without {action}: {other:?}"),
        }
    }
}
