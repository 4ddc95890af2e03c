//! Invocations that overlap: one acts.

use serde_json::{Value, json};

use crate::support::emulator::{TIMEOUT_MS, World};
use crate::support::proxy::{Proxy, When};

const PROCESSES: usize = 8;

/// Releases eight processes together after each has read the state, and returns their records.
async fn race(world: &World, proxy: &Proxy) -> Vec<Value> {
    proxy.barrier("S3.GetObject", PROCESSES, When::After);
    let env = world.env(&proxy.url(), &[]);
    let mut functions = Vec::new();
    for _ in 0..PROCESSES {
        functions.push(world.function(&env).await);
    }
    let invocations: Vec<_> = functions.iter().map(|function| function.start(json!({}), TIMEOUT_MS)).collect();
    let mut records = Vec::new();
    for invocation in invocations {
        records.push(invocation.answer().await.expect_ok()["records"][0].clone());
    }
    records
}

fn count(records: &[Value], outcome: &str) -> usize {
    records.iter().filter(|record| record["outcome"] == outcome).count()
}

async fn exactly_one_acts(world: World, messages: usize, desired: i32) {
    world.rest().await;
    world.send(messages).await;
    let proxy = Proxy::start(world.address).await;
    let records = race(&world, &proxy).await;
    assert_eq!((count(&records, "changed"), count(&records, "conflict")), (1, PROCESSES - 1), "{records:#?}");
    assert_eq!((proxy.count("UpdateService"), world.desired().await), (1, desired));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_overlapping_invocations_exactly_one_acts() {
    exactly_one_acts(World::ministack(10).await, 5_000, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_overlapping_invocations_exactly_one_acts_in_moto_too() {
    // Moto takes minutes for thousands of messages.
    exactly_one_acts(World::moto(10).await, 250, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_first_invocations_exactly_one_acts() {
    let world = World::ministack(10).await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    let records = race(&world, &proxy).await;
    assert_eq!(count(&records, "changed"), 1, "{records:#?}");
    assert_eq!(proxy.count("UpdateService"), 1);
}

/// Shows that the tests above can fail: the same race without the conditions on the writes.
#[tokio::test(flavor = "multi_thread")]
async fn without_conditional_writes_several_act() {
    let world = World::ministack(10).await;
    world.rest().await;
    // One more task each: an emulator that starts fifty for each of eight answers too late.
    world.send(150).await;
    let proxy = Proxy::start(world.address).await;
    proxy.strip_headers(&["if-match", "if-none-match"]);
    // Nobody has acted yet when they look again.
    proxy.barrier_from("DescribeServices", PROCESSES + 1, PROCESSES, When::After);
    let records = race(&world, &proxy).await;
    assert!(1 < count(&records, "changed"), "{records:#?}");
    assert!(1 < proxy.count("UpdateService"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_merges_changes_of_other_services() {
    let world = World::ministack(10).await;
    world.add_service("other", 10).await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    proxy.barrier("S3.GetObject", 2, When::After);
    let env = |service: &str| world.env(&proxy.url(), &[("SERVICE_NAME", service), ("FLEET", "night")]);
    let (one, other) = (world.function(&env(&world.name)).await, world.function(&env("other")).await);
    let (one, other) = (one.start(json!({}), TIMEOUT_MS), other.start(json!({}), TIMEOUT_MS));
    for invocation in [one, other] {
        let record = invocation.answer().await.expect_ok()["records"][0].clone();
        assert_eq!(record["outcome"], "changed", "{record}");
    }
    assert_eq!((world.desired().await, world.desired_of("other").await), (60, 60));
    let key = "tidegate/v1/fleets/night.json";
    let object = world.s3.get_object().bucket(&world.name).key(key).send().await.expect("the fleet has one document");
    let body = object.body.collect().await.expect("it can be read").to_vec();
    let state: Value = serde_json::from_slice(&body).expect("it is JSON");
    assert_eq!(state["services"].as_object().map(|all| all.len()), Some(2), "{state}");
}
